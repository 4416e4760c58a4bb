"""Of Model Garden's training loop and task, and of Orbit."""

from collections.abc import Callable, Mapping
from typing import Any

from absl import logging
from official.core import train_lib
from official.vision.tasks import maskrcnn
from orbit import controller
import tensorflow as tf


def send_orbit_s_printout_to_the_log():
  """Orbit prints a line for each loss, and has no switch for it."""
  controller._log = logging.info


class Runner(train_lib.OrbitExperimentRunner):
  """Model Garden's, but every worker starts from the run's last checkpoint.

  There only the chief looks into model_dir; the others save to a folder of
  their own and look for a checkpoint in that. They would go on from new
  weights, and do not even get there: restoring takes collectives.

  And the optimizer has all its variables before the first step: where a step
  makes some, it is traced a second time.
  """

  def _build_trainer(self, task, train, evaluate):
    trainer: Any = super()._build_trainer(task, train, evaluate)
    if train:
      create = getattr(  # Legacy ones have no `build`.
          trainer.optimizer, '_create_all_weights', None
      ) or trainer.optimizer.build
      with self.strategy.scope():
        create(trainer.model.trainable_variables)
    return trainer

  def _maybe_build_checkpoint_manager(self):
    manager = super()._maybe_build_checkpoint_manager()
    if manager and manager.directory != self.model_dir:
      restore_or_initialize = manager.restore_or_initialize
      manager.restore_or_initialize = lambda: (
          self._restore_latest() or restore_or_initialize())
    return manager

  def _restore_latest(self):
    path = tf.train.latest_checkpoint(self.model_dir)
    if path:
      self.trainer.checkpoint.restore(path)
    return path


class MaskRCNNTask(maskrcnn.MaskRCNNTask):
  """Model Garden's task; parts of its steps have public names here.

  `build_losses` and `build_metrics` call private ones, and take no others. A
  subclass has `rpn_losses` and `box_losses`, of outputs and labels the scalar
  losses of scores and boxes, and `coco_evaluator`, which gives what
  `aggregate_logs` feeds with a batch of detections at a time.
  """
  rpn_losses: Callable[..., tuple[tf.Tensor, tf.Tensor]]
  coco_evaluator: Callable[[], Any]

  @tf.autograph.experimental.do_not_convert  # Half the time of tracing.
  def train_step(self, inputs, model, optimizer, metrics=None):
    """Model Garden's; the model gets stored proposals for its anchors.

    That step hands `labels['anchor_boxes']` to the model, the model to the RoI
    generator, here `StoredProposals`, and neither looks into it. There is no
    other way in for them but a copy of the step.
    """
    images, labels = inputs
    if 'proposals' in labels:
      labels = dict(labels, anchor_boxes=labels['proposals'])
    return super().train_step((images, labels), model, optimizer, metrics)

  def box_losses(self, outputs: Mapping[str, Any], labels: Mapping[str, Any]
                ) -> tuple[tf.Tensor, tf.Tensor]:
    """Model Garden's."""
    return super()._build_frcnn_losses(outputs, labels)

  def _build_rpn_losses(self, outputs, labels):
    return self.rpn_losses(outputs, labels)

  def _build_frcnn_losses(self, outputs, labels):
    return self.box_losses(outputs, labels)

  def _build_coco_metrics(self):
    self.coco_metric = self.coco_evaluator()
