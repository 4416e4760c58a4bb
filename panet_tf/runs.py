"""Finding a checkpoint, and restoring all of a model from it or nothing."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

from official.core import config_definitions as cfg
import tensorflow as tf
import tf_keras
import yaml

from panet_tf import errors
from panet_tf import files
from panet_tf.configs import experiments
from panet_tf.configs import inference as inference_config
from panet_tf.configs import stages
from panet_tf.data import shards

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

  Weights of another preprocessing load without a word, and learn badly.

  Args:
    checkpoint: as `find` gives it. Without a backbone.yaml beside it, nothing
      is known.
    model: fields of `task.model`.
  """
  path = os.path.join(os.path.dirname(checkpoint), BACKBONE)
  if not os.path.exists(path):
    return
  try:
    with open(path, encoding='utf-8') as f:
      wanted = yaml.safe_load(f)['task']['model']
    different = _different(wanted, model, 'task.model')
  except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as e:
    raise errors.InputError(
        f'{path} is damaged ({" ".join(str(e).split()):.80}); convert the '
        'weights again') from e
  if different:
    raise errors.InputError(
        f'{different}, which these weights of {os.path.dirname(checkpoint)} '
        f'need: add --config_file={path}')


def _different(wanted, given, field):
  """The first difference in words, or ''."""
  if not isinstance(wanted, Mapping):
    return '' if wanted == given else f'{field} is {given!r}, not {wanted!r}'
  return next(filter(None, (
      _different(value, given.get(key), f'{field}.{key}')
      for key, value in wanted.items())), '')


def categories_of(info: dict[str, Any],
                  num_classes: int) -> list[dict[str, Any]]:
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


_Run = tuple[str, cfg.ExperimentConfig, dict[str, Any] | None]


def read_run(*args, **kwargs) -> _Run:
  """`read_any_run` of a model that detects on its own, or InputError."""
  path, params, info = read_any_run(*args, **kwargs)
  stages.check_whole(params.task.model, path)
  return path, params, info


def read_any_run(
    checkpoint: str, experiment: str = '', config_files: Sequence[str] = (),
    params_override: str = '') -> _Run:
  """What lies in the folder of a training.

  Args:
    checkpoint: see `Predictor.from_checkpoint`, as the others.
    experiment: registered name; '' takes the one of params.yaml.
    config_files: see `configs.experiments.read`.
    params_override: see `configs.experiments.read`.

  Returns:
    Path of the checkpoint, the experiment with its number of classes, and
    `dataset.json`, None where there is none.

  Raises:
    InputError: see `Predictor.from_checkpoint`.
  """
  path = find(checkpoint)
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
