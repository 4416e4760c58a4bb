"""A region proposal network that shares its backbone with nothing.

Section 4.1: "proposals are from an independently trained RPN [35, 51] for
convenient ablation and fair comparison". Its parts have the names they have in
`PANetModel`, so that the one starts from a checkpoint of the other.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from panet_tf.modeling.proposals import proposal_stage
from panet_tf.ops import box_convention


@tf_keras.utils.register_keras_serializable(package='PANet')
class RPNModel(proposal_stage.ProposalStage, tf_keras.Model):
  """Backbone, feature pyramid and RPN head."""

  def __init__(self, *, backbone: tf_keras.Model, decoder: tf_keras.Model,
               rpn_head: tf_keras.layers.Layer,
               roi_generator: tf_keras.layers.Layer, min_level: int,
               max_level: int, num_scales: int, aspect_ratios: list[float],
               anchor_size: float,
               boxes: box_convention.BoxConvention | str = box_convention.EDGES,
               **kwargs):
    """Initializes the model; see `PANetModel` for the arguments."""
    super().__init__(**kwargs)
    self.backbone, self.decoder = backbone, decoder
    self.rpn_head, self.roi_generator = rpn_head, roi_generator
    self.boxes = box_convention.of(boxes)
    self._config_dict = dict(
        backbone=backbone, decoder=decoder, rpn_head=rpn_head,
        roi_generator=roi_generator, min_level=min_level, max_level=max_level,
        num_scales=num_scales, aspect_ratios=aspect_ratios,
        anchor_size=anchor_size, boxes=self.boxes.name)

  def call(self, images: tf.Tensor, image_shape: tf.Tensor,
           anchor_boxes: Mapping[str, tf.Tensor] | None = None,
           gt_boxes: tf.Tensor | None = None,
           gt_classes: tf.Tensor | None = None,
           training: bool | None = None) -> dict[str, Any]:
    """Takes what Model Garden's steps give a Mask R-CNN, see `propose`.

    Gives rpn_scores and rpn_boxes, see `RPNHead`, while training, and no
    proposals: the targets are among the labels. Else what `run_stages` gives.
    """
    del gt_boxes, gt_classes
    if not training:
      return self.run_stages(images, image_shape, anchor_boxes)
    rpn_scores, rpn_boxes = self.rpn_head(
        self.features(images, training=True), training=True)
    return {'rpn_scores': rpn_scores, 'rpn_boxes': rpn_boxes}

  @tf.autograph.experimental.do_not_convert
  def run_stages(self, images: tf.Tensor, im_info: tf.Tensor,
                 anchors: Mapping[str, tf.Tensor] | None = None
                ) -> dict[str, tf.Tensor]:
    """Proposals as detections of class 1, without the empty boxes."""
    return _as_detections(
        *self.propose(self.features(images), im_info, anchors))

  def get_config(self) -> dict[str, Any]:
    """Returns the arguments; a model made of them shares the parts."""
    return self._config_dict


def _as_detections(boxes, scores):
  """Empty boxes last: a clipped one may stand before others."""
  present = tf.reduce_all(boxes[..., 2:] > boxes[..., :2], -1)
  order = tf.argsort(
      tf.cast(present, tf.int32), direction='DESCENDING', stable=True)
  return {
      'detection_boxes': tf.gather(boxes, order, batch_dims=1),
      'detection_scores': tf.gather(scores, order, batch_dims=1),
      'detection_classes': tf.ones_like(order),
      'num_detections': tf.reduce_sum(tf.cast(present, tf.int32), 1),
  }
