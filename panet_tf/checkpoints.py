"""Finding a checkpoint, and restoring all of a model from it or nothing."""

import os
from typing import Any, Mapping

import tensorflow as tf
import tf_keras
import yaml

from panet_tf import errors

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
