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
  """One weight: key and shape in a file; `convert` makes it the variable's."""
  key: str
  variable: tf.Variable
  shape: tuple[int, ...]
  convert: Callable[[np.ndarray], np.ndarray]


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

  `size` is the edge of the map that the layer reads; the release flattens it as
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
           path: str, others: Mapping[str, tuple[int, ...]] | None = None
           ) -> dict[str, np.ndarray]:
  """Sets variables.

  Args:
    entries: all that is wanted.
    arrays: all that there is.
    path: of the file, for messages.
    others: {key: shape} of what else is wanted, and not set.

  Returns:
    All that was wanted, float32.

  Raises:
    InputError: a key is missing, left over, has another shape or numbers that
      are no float32; nothing has changed.
  """
  wanted = {e.key: e.shape for e in entries} | dict(others or {})
  missing = [key for key in wanted if key not in arrays]
  if missing:
    raise errors.InputError(f'{path} lacks {_listed(missing)}')
  left = set(arrays) - set(wanted)
  if left:
    raise errors.InputError(
        f'{path} has what this model has no place for: {_listed(sorted(left))}')
  values = {key: _checked(arrays[key], shape, f'{path}: {key}')
            for key, shape in wanted.items()}
  for entry in entries:
    entry.variable.assign(entry.convert(values[entry.key]))
  return values


def _checked(array: np.ndarray, shape: tuple[int, ...], where: str
             ) -> np.ndarray:
  """As float32; InputError for another shape, or what is no float32."""
  if array.shape != shape:
    raise errors.InputError(
        f'{where} has the shape {list(array.shape)}; it must be {list(shape)}')
  if array.dtype.kind != 'f':
    raise errors.InputError(
        f'{where} has numbers of the type {array.dtype}; they must be '
        'floating-point')
  with np.errstate(over='ignore'):
    array = array.astype(np.float32, copy=False)
  if not np.isfinite(array).all():
    raise errors.InputError(f'{where} has numbers that are not finite')
  return array


def _listed(keys: list[str]) -> str:
  more = len(keys) - _MOST_NAMES
  return ', '.join(keys[:_MOST_NAMES]) + f', and {more} more' * (more > 0)
