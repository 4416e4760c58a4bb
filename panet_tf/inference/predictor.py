"""A trained model for a person: image in, detections in its pixels out."""

import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

from official.core import config_definitions as cfg
from official.core import task_factory
import tensorflow as tf
import tf_keras

from panet_tf import checkpoints
from panet_tf import errors
from panet_tf import experiments
from panet_tf import files
from panet_tf import inference_config
from panet_tf import task as panet_task
from panet_tf import two_stages
from panet_tf.dataloaders import shards
from panet_tf.inference import detections


def categories_of(info: Dict[str, Any],
                  num_classes: int) -> List[Dict[str, Any]]:
  """Categories in order of label; shards without names give numbers.

  Raises:
    InputError: the data set has more or fewer classes than the model.
  """
  if info:
    found = len(info['categories'])
    if found != num_classes - 1:
      raise errors.InputError(
          f'{files.DATASET_INFO} has {found} categories, the model '
          f'{num_classes - 1}; it must be the file that training left beside '
          'the checkpoint')
    return info['categories']
  return [{'label': label, 'id': label, 'name': str(label)}
          for label in range(1, num_classes)]


class Predictor(detections.Detector):
  """Runs a checkpoint on images of any size.

  Attributes:
    categories: {'label', 'id', 'name'} of each class, in order of label.
  """

  def __init__(self, model: tf_keras.Model, params: cfg.ExperimentConfig,
               info: Dict[str, Any] = None):
    """Wraps a built model.

    Args:
      model: a `PANetModel`.
      params: the experiment it was built from.
      info: the data set's description (`dataset.json`), for category names.
    """
    config = params.task.model
    self.categories = categories_of(info, config.num_classes)
    self.legacy_masks = config.legacy_boxes
    self._model = model
    self._parser = panet_task.build_parser(
        config, params.task.validation_data)
    self._prepare = tf.function(self._parser.predict_image, input_signature=[
        tf.TensorSpec([None, None, 3], tf.uint8)])
    self._run = tf.function(self._forward)
    self._batch_sizes = set()  # That it was traced, and compiled, for.

  @classmethod
  def from_checkpoint(cls, checkpoint: str, experiment: str = '',
                      config_files: Sequence[str] = (),
                      params_override: str = '') -> 'Predictor':
    """Loads a model that training wrote.

    Args:
      checkpoint: folder with checkpoints, params.yaml and dataset.json, or
        the path of one checkpoint in such a folder.
      experiment: registered name; '' takes the one of params.yaml.
      config_files: see `experiments.read`.
      params_override: see `experiments.read`.

    Raises:
      InputError: no such checkpoint, one that does not fit, or a broken
        dataset.json beside it.
    """
    path, params, info = read_run(
        checkpoint, experiment, config_files, params_override)
    model = task_factory.get_task(params.task).build_model()
    checkpoints.restore(model, path)
    return cls(model, params, info)

  def _forward(self, pixels, image_info):
    anchors = None if self._parser.pad_to else {
        level: tf.tile(boxes[tf.newaxis], [tf.shape(pixels)[0], 1, 1, 1])
        for level, boxes in self._parser.anchors().items()}
    outputs = self._model(
        pixels, image_shape=self._model.im_info(image_info),
        anchor_boxes=anchors,
        training=False)
    found = {
        key: value for key, value in outputs.items()
        if key in ('detection_boxes', 'detection_scores', 'detection_classes',
                   'detection_masks', 'num_detections')}
    found['detection_boxes'] = self._model.image_boxes(
        found['detection_boxes'], image_info)
    return found

  def _detect(self, image):
    return self._detect_many([image])[0]

  def _detect_many(self, images):
    if self._parser.pad_to and len(images) > 1:  # Canvases of their own.
      return [self._detect(image) for image in images]
    # The last, smaller batch of a run is filled up instead of compiled anew.
    size = min((size for size in self._batch_sizes if size >= len(images)),
               default=len(images))
    self._batch_sizes.add(size)
    filled = list(images) + list(images[-1:]) * (size - len(images))
    pixels, image_info = zip(*(self._prepare(image) for image in filled))
    found = {key: value.numpy() for key, value in self._run(
        tf.stack(pixels), tf.stack(image_info)).items()}
    counts = found.pop('num_detections')
    return [{key: value[i, :count] for key, value in found.items()}
            for i, count in enumerate(counts[:len(images)])]


_Run = Tuple[str, cfg.ExperimentConfig, Optional[Dict[str, Any]]]


def read_run(*args, **kwargs) -> _Run:
  """`read_any_run` of a model that detects on its own, or InputError."""
  path, params, info = read_any_run(*args, **kwargs)
  two_stages.check_whole(params.task.model, path)
  return path, params, info


def read_any_run(
    checkpoint: str, experiment: str = '', config_files: Sequence[str] = (),
    params_override: str = '') -> _Run:
  """What lies in the folder of a training.

  Args:
    checkpoint: see `Predictor.from_checkpoint`, as the others.
    experiment: registered name; '' takes the one of params.yaml.
    config_files: see `experiments.read`.
    params_override: see `experiments.read`.

  Returns:
    Path of the checkpoint, the experiment with its number of classes, and
    `dataset.json`, None where there is none.

  Raises:
    InputError: see `Predictor.from_checkpoint`.
  """
  path = checkpoints.find(checkpoint)
  folder = os.path.dirname(path)
  params = _params(folder, experiment, config_files, params_override)
  info_path = os.path.join(folder, files.DATASET_INFO)
  info = shards.read_sidecar(info_path) if os.path.exists(info_path) else None
  if info and not params.task.model.num_classes:
    params.task.model.num_classes = len(info['categories']) + 1
  params.task.init_checkpoint = None
  inference_config.apply(params.task)
  return path, params, info


def _params(folder, experiment, config_files, params_override):
  """The experiment's configuration; params.yaml beside the checkpoint first."""
  saved = os.path.join(folder, files.PARAMS)
  if not experiment:
    if not os.path.exists(saved):
      raise errors.InputError(
          f'{folder} has no {files.PARAMS}: name the experiment')
    experiment = 'panet_coco'  # All share its fields; the file has them all.
    config_files = [saved, *config_files]
  return experiments.read(experiment, config_files, params_override)
