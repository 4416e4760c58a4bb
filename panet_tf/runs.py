"""A run on disk: a checkpoint, and what training left beside it."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import os
from typing import Any

from official.core import config_definitions as cfg
import tensorflow as tf
import tf_keras
import yaml

from panet_tf import errors
from panet_tf import factory
from panet_tf import files
from panet_tf.configs import checks
from panet_tf.configs import experiments
from panet_tf.configs import overrides as overrides_lib
from panet_tf.configs import panet as panet_config
from panet_tf.configs import resolve
from panet_tf.data import shards
from panet_tf.dataloaders import factory as input_factory
from panet_tf.dataloaders import parser as panet_parser

BACKBONE = 'backbone.yaml'  # Of `panet convert-weights imagenet`.


def find(path: str) -> str:
  """The newest checkpoint of a folder, or the one that `path` names.

  Raises:
    InputError: if there is none.
  """
  if os.path.isdir(path):
    try:
      found = tf.train.latest_checkpoint(path)
    except ValueError:  # The file `checkpoint` is damaged.
      found = None
    if not found:
      raise errors.InputError(
          f'checkpoint folder {path} holds no checkpoint (ckpt-*.index)')
    return found
  if not os.path.exists(path + '.index'):
    raise errors.InputError(
        f'checkpoint {path} does not exist; it must be a folder that training '
        'wrote, or the path of a checkpoint without .index')
  return path


def restore(model: tf_keras.Model, checkpoint: str):
  """Loads every variable of a model, or raises InputError."""
  try:
    status = tf.train.Checkpoint(model=model).read(checkpoint)
    status.expect_partial().assert_existing_objects_matched()
  except (AssertionError, ValueError, tf.errors.OpError) as e:
    raise errors.InputError(
        f'checkpoint {checkpoint} is of another architecture than the '
        'configuration describes: use the params.yaml beside it '
        f'({" ".join(str(e).split())[:160]})') from e


def check_backbone(checkpoint: str, model: Mapping[str, Any]):
  """Raises InputError where a backbone's weights want another configuration.

  Weights of another preprocessing load without a word, and learn badly. Of a
  checkpoint without a backbone.yaml beside it, nothing is known.
  """
  path = os.path.join(os.path.dirname(checkpoint), BACKBONE)
  if not os.path.exists(path):
    return
  try:
    difference = _difference(files.read_yaml(path)['task']['model'], model)
  except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as e:
    raise errors.InputError(
        f'{path} is damaged ({" ".join(str(e).split()):.80}); convert the '
        'weights again') from e
  if difference:
    field, wanted, given = difference
    raise errors.InputError(
        f'{field} is {given!r}, not {wanted!r}, which these weights of '
        f'{os.path.dirname(checkpoint)} need: add --config_file={path}')


# These shape no weight, so a trained model may be evaluated with others.
_FREE = ('detection_generator', 'roi_generator', 'roi_sampler', 'mask_sampler',
         'input_size')


def check_same_model(folder: str, model: Mapping[str, Any]):
  """Raises InputError where a folder holds a run of another `task.model`.

  Of the folder of a training without a params.yaml, nothing is known.
  """
  path = os.path.join(folder, files.PARAMS)
  if not os.path.exists(path):
    return
  before = files.read_yaml(path)['task']['model']
  difference = _difference({
      key: value for key, value in before.items()
      if key not in _FREE and key in model}, model)
  if difference:
    field, was, is_now = difference
    raise errors.InputError(
        f'model_dir {folder} holds a run of another model: {field} was '
        f'{was!r} and is {is_now!r}; use another model_dir or the '
        'configuration of that run')


def _difference(before, after, field='task.model'):
  """The first (field, its value before, and after) of both, or None."""
  if not isinstance(before, Mapping):
    return None if before == after else (field, before, after)
  return next(filter(None, (
      _difference(value, after.get(key, value), f'{field}.{key}')
      for key, value in before.items())), None)


@dataclasses.dataclass
class Run:
  """A checkpoint, and what training left beside it.

  Attributes:
    checkpoint: its path, without .index.
    params: its experiment, which knows the number of classes.
    info: description of its data set (`dataset.json`), None where there is
      none.
  """
  checkpoint: str
  params: cfg.ExperimentConfig
  info: dict[str, Any] | None = None

  @classmethod
  def read(cls, checkpoint: str,
           overrides: overrides_lib.Overrides = overrides_lib.NONE,
           use: str = 'predict') -> 'Run':
    """Reads what lies in the folder of a training; the weights stay there.

    Args:
      checkpoint: folder with checkpoints, params.yaml and dataset.json, or
        the path of one checkpoint in such a folder.
      overrides: of params.yaml, or an experiment instead of it.
      use: see `checks.check`.

    Raises:
      InputError: there is no checkpoint, a broken dataset.json, a
        configuration that cannot be used for this, or a model of one stage.
    """
    path = find(checkpoint)
    folder = os.path.dirname(path)
    params = _params(folder, overrides)
    info = read_info(folder)
    params = resolve.trained(params, info)
    checks.check(params, use, path)
    return cls(path, params, info)

  @property
  def task(self) -> Any:
    """Options of the task, a `configs.panet.PANetTask`."""
    return self.params.task

  @property
  def model_config(self) -> panet_config.PANet:
    """Options of the model."""
    return self.task.model

  @functools.cached_property
  def categories(self) -> list[dict[str, Any]]:
    """{'label', 'id', 'name'} in order of label; numbers if they are unknown.

    Raises:
      InputError: the data set has more or fewer classes than the model.
    """
    num_classes = self.model_config.num_classes
    if not self.info:
      return [{'label': label, 'id': label, 'name': str(label)}
              for label in range(1, num_classes)]
    found = len(self.info['categories'])
    if found != num_classes - 1:
      raise errors.InputError(
          f'{files.DATASET_INFO} has {found} categories, the model '
          f'{num_classes - 1}; it must be the file that training left beside '
          'the checkpoint')
    return self.info['categories']

  @functools.cached_property
  def parser(self) -> panet_parser.Parser:
    """How the model sees the images of evaluation and prediction."""
    return input_factory.build_parser(
        self.model_config, self.task.validation_data)

  def build_model(self, build: Callable[[panet_config.PANet], Any] =
                  factory.build_panet) -> Any:
    """Builds a new model from its options, and restores its weights.

    Raises:
      InputError: options that no model has, or weights of another one.
    """
    model = build(self.model_config)
    restore(model, self.checkpoint)
    return model


def read_info(folder: str) -> dict[str, Any] | None:
  """A training's dataset.json, None if it has none; InputError if broken."""
  path = os.path.join(folder, files.DATASET_INFO)
  return shards.read_sidecar(path) if os.path.exists(path) else None


def _params(folder, overrides):
  """The experiment's configuration; params.yaml beside the checkpoint first."""
  experiment, config_files = overrides.experiment, overrides.config_files
  if not experiment:
    saved = os.path.join(folder, files.PARAMS)
    if not os.path.exists(saved):
      raise errors.InputError(
          f'{folder} has no {files.PARAMS}: name the experiment')
    experiment = 'panet_coco'  # All share its fields; the file has them all.
    config_files = [saved, *config_files]
  return experiments.read(experiment, config_files, overrides.params_override)
