"""Putting foreign weights in their places: each once, all or nothing.

"Conversion pops each weight and raises on leftovers": the loader of the release
skips what it does not know, and a typing error then costs points of AP.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import cast

import numpy as np
import tensorflow as tf

from panet_tf import errors

_MOST_NAMES = 6


@dataclasses.dataclass(frozen=True)
class Entry:
  """One weight.

  Attributes:
    key: its name in the foreign file.
    variable: its place.
    shape: that it must have in the file.
    convert: from there to the variable's shape.
  """
  key: str
  variable: tf.Variable
  shape: tuple[int, ...]
  convert: Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Value:
  """A vector that a caller reads itself: key in the file, and its shape."""
  key: str
  shape: tuple[int, ...]

  def read(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The vector itself, float32."""
    return arrays[self.key].astype(np.float32)


def _shape(variable: tf.Variable) -> tuple[int, ...]:
  """Of a variable that is built: nothing of it is unknown."""
  return cast(tuple[int, ...], tuple(variable.shape))


def as_it_is(key: str, variable: tf.Variable) -> Entry:
  """A bias, a scale or offset of a normalization, or a kernel of Keras."""
  return Entry(key, variable, _shape(variable), lambda w: w)


def conv(key: str, variable: tf.Variable) -> Entry:
  """PyTorch's (out, in, h, w) to (h, w, in, out).

  Just so a transposed convolution's (in, out, h, w) to (h, w, out, in).
  """
  height, width, inner, outer = _shape(variable)
  return Entry(key, variable, (outer, inner, height, width),
               lambda w: w.transpose(2, 3, 1, 0))


def fc(key: str, variable: tf.Variable, size: int = 1) -> Entry:
  """PyTorch's (out, in) to (in, out).

  Args:
    key: of the file.
    variable: kernel.
    size: edge of the map that the layer reads; the release flattens it as
      (channel, y, x), we as (y, x, channel).
  """
  inner, outer = _shape(variable)
  return Entry(key, variable, (outer, inner), lambda w: w.reshape(
      outer, -1, size, size).transpose(2, 3, 1, 0).reshape(inner, outer))


def yx(entry: Entry) -> Entry:
  """The same with x and y, width and height of box offsets exchanged."""

  def exchanged(weight):
    return entry.convert(weight.reshape([-1, 4, *weight.shape[1:]])[
        :, [1, 0, 3, 2]].reshape(weight.shape))

  return dataclasses.replace(entry, convert=exchanged)


def assign(entries: Sequence[Entry], arrays: Mapping[str, np.ndarray],
           path: str, values: Sequence[Value] = ()):
  """Sets variables.

  Args:
    entries: all that is wanted.
    arrays: all that there is.
    path: of the file, for messages.
    values: what else is wanted, and only checked.

  Raises:
    InputError: a key is missing, left over, has another shape or numbers that
      are no float32; nothing has changed.
  """
  wanted = [*entries, *values]
  missing = [e.key for e in wanted if e.key not in arrays]
  if missing:
    raise errors.InputError(f'{path} lacks {_listed(missing)}')
  left = set(arrays) - {e.key for e in wanted}
  if left:
    raise errors.InputError(
        f'{path} has what this model has no place for: {_listed(sorted(left))}')
  for entry in wanted:
    array = arrays[entry.key]
    if array.shape != entry.shape:
      raise errors.InputError(
          f'{path}: {entry.key} has the shape {list(array.shape)}; it must be '
          f'{list(entry.shape)}')
    if array.dtype.kind != 'f':
      raise errors.InputError(
          f'{path}: {entry.key} has numbers of the type {array.dtype}; they '
          'must be floating-point')
    with np.errstate(over='ignore'):
      if not np.isfinite(array.astype(np.float32)).all():
        raise errors.InputError(
            f'{path}: {entry.key} has numbers that are not finite')
  for entry in entries:
    entry.variable.assign(entry.convert(arrays[entry.key].astype(np.float32)))


def _listed(keys: list[str]) -> str:
  more = len(keys) - _MOST_NAMES
  return ', '.join(keys[:_MOST_NAMES]) + f', and {more} more' * (more > 0)
