"""Checks that all options share."""

from collections.abc import Sequence
from typing import Any

from panet_tf import errors


def one_of(field: str, value: Any, allowed: Sequence[Any]):
  """Raises InputError, naming the field, unless a value is allowed."""
  if value not in allowed:
    raise errors.InputError(
        f'{field} is {value!r}; it must be one of '
        f'{", ".join(map(str, allowed))}')
