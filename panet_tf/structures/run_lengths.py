"""COCO's compressed run lengths read, strictly.

pycocotools never checks such a string, and decodes all of the image.
"""

from collections.abc import Mapping
import functools
from typing import Any

import numpy as np

# A run of 60 bits: more does not fit into int64, nor into any image.
_MOST_GROUPS = 12


@functools.lru_cache(maxsize=1)  # Checked first, then decoded.
def runs(counts: str) -> np.ndarray:
  """Run lengths [num_runs] int64, of zeros, of ones, ..., in such a string.

  Each run is groups of 5 bits, low ones first, as character 48 + bits, bit 5
  set when more follow, bit 4 of the last one the sign; from the fourth run on
  it is the difference to the run two before. ValueError for any other string.
  """
  groups = np.frombuffer(counts.encode('utf-8'), np.uint8).astype(np.int64) - 48
  if not groups.size or groups.min() < 0 or groups.max() > 63:
    raise ValueError('has RLE `counts` that are not a compressed RLE string')
  last = np.flatnonzero(groups < 32)
  length = np.diff(last, prepend=-1)
  if groups[-1] > 31 or length.max() > _MOST_GROUPS:
    raise ValueError('has RLE `counts` that end in the middle of a run')
  first = last - length + 1
  shift = 5 * (np.arange(groups.size) - np.repeat(first, length))
  lengths = np.add.reduceat((groups & 31) << shift, first)
  lengths -= (groups[last] & 16 != 0).astype(np.int64) << 5 * length
  lengths[1::2] = np.cumsum(lengths[1::2])
  lengths[2::2] = np.cumsum(lengths[2::2])
  return lengths


def byte_columns(rle: Mapping[str, Any]) -> tuple[int, np.ndarray]:
  """The part of a mask that holds its ones, in whole bytes of eight columns.

  Decoding all of it takes most of a conversion's time where objects are small.

  Returns:
    (first column, [height, columns] uint8 of 0 and 1) of compressed counts, str
    or bytes; the first column is a multiple of 8, the last one the object's.
  """
  height, counts = rle['size'][0], rle['counts']
  ends = np.cumsum(
      runs(counts if isinstance(counts, str) else counts.decode('ascii')))
  if ends.size < 2:
    return 0, np.zeros([height, 0], np.uint8)
  first = ends[0] // height // 8 * 8
  stop = -(-ends[1::2][-1] // height)
  ends = (ends - first * height).clip(0, (stop - first) * height)
  ones = np.arange(ends.size, dtype=np.uint8) & 1
  mask = np.repeat(ones, np.diff(ends, prepend=0))
  return first, mask.reshape([-1, height]).T
