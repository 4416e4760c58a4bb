"""Overrides of an experiment, stricter than Model Garden's: one clear line."""

from collections.abc import Mapping
import re
from typing import Any

from official.core import config_definitions as cfg
from official.modeling import hyperparams
import tensorflow as tf
import yaml

from panet_tf import errors


def apply(params: cfg.ExperimentConfig, source: str, where: str):
  """Overrides an experiment's fields in place.

  The source is YAML or JSON text, or the path of such a file.

  Raises:
    InputError: a key that does not exist, or a value of another kind.
  """
  before = params.as_dict()
  try:
    hyperparams.override_params_dict(params, source, is_strict=True)
    after = params.as_dict()
  except KeyError as e:  # "The key 'x' does not exist in <class '...'>. ..."
    reason = re.sub(r"<class '(?:\w+\.)*(\w+)'>.*", r'\1', str(e.args[0]))
    raise errors.InputError(f'{where}: {reason}') from e
  except AttributeError as e:
    raise errors.InputError(
        f'{where}: it must map keys to values, as in task: {{seed: 1}}') from e
  except (yaml.YAMLError, ValueError, TypeError, tf.errors.OpError) as e:
    reason = ' '.join(str(e).split())
    raise errors.InputError(f'{where}: {reason}') from e
  _check_kinds(before, after, where)


# What may follow a value of a kind. Some fields of Model Garden that are text
# by default take a list as well; what is None by default takes anything.
_KINDS = {
    bool: (bool, 'true or false'),
    int: (int, 'a whole number'),
    float: ((int, float), 'a number'),
    str: ((str, list, tuple), 'text'),
    list: ((list, tuple), 'a list'),
    tuple: ((list, tuple), 'a list'),
    dict: (Mapping, 'keys with values'),
}


def _check_kinds(before: Any, after: Any, where: str, field: str = ''):
  """Raises InputError where a value has not the kind of its predecessor."""
  kind, name = _KINDS.get(type(before), (object, ''))
  is_boolean = isinstance(after, bool)
  optional = after is None and type(before) not in (bool, dict)
  if not optional and (not isinstance(after, kind) or (
      is_boolean and kind not in (bool, object))):
    raise errors.InputError(f'{where}: {field} is {after!r}; it must be {name}')
  if isinstance(before, Mapping) and isinstance(after, Mapping):
    for key, value in before.items():
      _check_kinds(value, after.get(key, value), where,
                   f'{field}.{key}' if field else key)
