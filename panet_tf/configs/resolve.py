"""What an experiment becomes by its data set, its checkpoint and its use.

Every function gives a changed copy, which `configs.checks.check` then looks at.
"""

from collections.abc import Mapping, Sequence
import copy
from typing import Any

from official.core import config_definitions as cfg

from panet_tf import errors
from panet_tf.configs import inference as inference_config


def training(params: cfg.ExperimentConfig, mode: str,
             info: Mapping[str, Any] | None, path: str
            ) -> cfg.ExperimentConfig:
  """For a mode of train.py: the data's number of classes, one seed for all.

  `info` is the data set's description, None if it has none, and `path` that of
  its shards, for messages.

  Raises:
    InputError: the number of classes is not known, or another one.
  """
  params, task = _copy(params)
  if mode == 'continuous_train_and_eval':
    params.trainer.validation_interval = params.trainer.checkpoint_interval
  if info:
    num_classes = len(info['categories']) + 1
    if task.model.num_classes not in (0, num_classes):
      raise errors.InputError(
          f'task.model.num_classes is {task.model.num_classes}, but the data '
          f'{path} has {num_classes - 1} categories: it must be {num_classes} '
          '(with background), or 0 to take it from the data')
    task.model.num_classes = num_classes
  if not task.model.num_classes:
    raise errors.InputError(
        f'task.model.num_classes is 0 and {path} has no .dataset.json beside '
        'it: set it to the number of categories plus 1')
  if task.seed is not None:
    task.train_data.seed = task.seed
    task.train_data.deterministic = True
  return _with_thresholds(params)


def trained(params: cfg.ExperimentConfig,
            info: Mapping[str, Any] | None) -> cfg.ExperimentConfig:
  """For a checkpoint: the number of classes; what it began from is past."""
  params, task = _copy(params)
  if info and not task.model.num_classes:
    task.model.num_classes = len(info['categories']) + 1
  task.init_checkpoint = None
  return _with_thresholds(params)


def merging(params: cfg.ExperimentConfig,
            options: inference_config.Inference) -> cfg.ExperimentConfig:
  """For the first model of an ensemble, whose options hold for all."""
  params, task = _copy(params)
  task.inference = options
  return _with_thresholds(params)


def proposing(params: cfg.ExperimentConfig,
              num_proposals: int) -> cfg.ExperimentConfig:
  """For an RPN that gives so many boxes of an image, at most."""
  params, task = _copy(params)
  generator = task.model.roi_generator
  generator.test_num_proposals = num_proposals
  # Model Garden's NMS fails where a level has fewer candidates than that.
  generator.test_pre_nms_top_k = max(
      generator.test_pre_nms_top_k, num_proposals)
  return params


def exporting(params: cfg.ExperimentConfig, size: Sequence[int] | None = None,
              one_canvas: bool = False) -> cfg.ExperimentConfig:
  """For an export, of images fitted into a size, or scaled as in evaluation.

  With `one_canvas` they are padded to that, and never to less.
  """
  params, task = _copy(params)
  parser = task.validation_data.parser
  if size:
    task.model.input_size = [*size, 3]
    parser.short_edge, parser.short_edge_choices = [], []
    parser.long_edge, parser.canvases = 0, []
  if one_canvas:
    parser.pad_to = 0
  return params


def _copy(params: cfg.ExperimentConfig) -> tuple[cfg.ExperimentConfig, Any]:
  """A copy, and its `configs.panet.PANetTask`."""
  params = copy.deepcopy(params)
  return params, params.task


def _with_thresholds(params):
  """Those of `task.inference` are put where models look."""
  options, generator = (
      params.task.inference, params.task.model.detection_generator)
  if options.score_threshold is not None:
    generator.pre_nms_score_threshold = options.score_threshold
  if options.max_detections is not None:
    generator.max_num_detections = options.max_detections
  return params
