"""Reads the outputs of the released modules, whole or cut."""

import io
import lzma

import numpy as np


def whole(path):
  """{key: array} of an archive of ../shared/parity."""
  with np.load(path) as arrays:
    return dict(arrays)


def cut(path):
  """The same of an archive of tests/parity; NaN where a value was left out."""
  with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as arrays:
    stored = dict(arrays)
  result = {}
  for name, value in stored.items():
    key, kind, detail = (name.split('|') + ['', ''])[:3]
    if kind == 'GRID':
      result[key] = (value * 0.5**int(detail)).astype(np.float32)
    elif kind == 'SHAPE':
      places = np.cumsum(stored[f'{key}|PLACES'], dtype=int)
      result[key] = _spread(value, places, detail)
    elif not kind:
      result[key] = value
  return result


def _spread(values, places, shape):
  array = np.full([int(n) for n in shape.split(',')], np.nan, np.float32)
  array.ravel()[places] = values
  return array


def assert_near(actual, expected, tolerance=1e-4):
  """Equal within `tolerance` wherever the archive holds a value."""
  actual = np.asarray(actual)
  assert actual.shape == expected.shape, (actual.shape, expected.shape)
  kept = ~np.isnan(expected)
  assert kept.any()
  error = np.abs(actual[kept] - expected[kept]).max()
  assert error <= tolerance, error
