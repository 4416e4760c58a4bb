"""The one place where the options of an experiment are checked.

Each part of the configuration has its own `check`; which are called, and what
goes together, depends on what the experiment is used for.
"""

from collections.abc import Collection
from typing import Any

from panet_tf import errors
from panet_tf.configs import stages


def one_of(field: str, value: Any, allowed: Collection[Any]):
  """Raises InputError, naming the field, unless a value is allowed."""
  if value not in allowed:
    raise errors.InputError(
        f'{field} is {value!r}; it must be one of '
        f'{", ".join(map(str, allowed))}')


def check(params: Any, use: str, where: str = 'the model'):
  """Raises InputError, naming the field, for options that cannot be used.

  Args:
    params: an experiment whose task is a `configs.panet.PANetTask`, completed
      by `configs.resolve`.
    use: a mode of train.py, or 'predict', 'propose', 'suite' (copies, voting
      and ensembles) or 'export'.
    where: the model's checkpoint, for messages.
  """
  task = params.task
  if 'train' in use or 'eval' in use:
    task.model.check()
    task.check(use)
    task.inference.check()
    return
  task.inference.check()
  stages.check_image(task.model.stages, use == 'propose', where)
  task.model.check()
  task.validation_data.parser.check(task.model, is_training=False)
  if use == 'suite':
    task.model.check_detections('test-time augmentation')
  if use == 'export':
    task.model.check_detections('an export')
    task.model.check_proposals()
