"""The two ways COCO writes a mask, polygons and run lengths, strictly read.

pycocotools trusts its input: four numbers are a box, a far vertex takes all
memory, run lengths that do not fill the image read past its end. Here each is
a ValueError that says what the segmentation should be.
"""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from panet_tf.structures import run_lengths

# pycocotools walks along an edge point by point.
_FARTHEST_VERTEX = 1e5
_LONGEST_OUTLINE = 1e6  # pixels, about 100 bytes each


def is_int(value):
  """Whether a value of a JSON file is a whole number; true is none."""
  return isinstance(value, int) and not isinstance(value, bool)


def is_number(value):
  """Whether a value of a JSON file is a number that float and int64 can take.

  NaN and infinity are none; a whole number in JSON may have 4000 digits.
  """
  return (isinstance(value, (int, float)) and not isinstance(value, bool)
          and abs(value) < 2**63)


def as_rle(value, height, width):
  """A `segmentation`, polygons or RLE with either kind of counts, as RLE."""
  read = checked_rle if isinstance(value, dict) else polygons_rle
  return read(value, height, width)


def polygons_rle(polygons, height, width):
  """Union of polygons [[x1, y1, x2, y2, ...], ...] as RLE."""
  if not isinstance(polygons, list):
    raise ValueError('should be polygons or RLE')
  for polygon in polygons:
    if not isinstance(polygon, list):
      raise ValueError('should be a list of polygons [[x1, y1, x2, y2, ...]]')
    if len(polygon) % 2 or not all(map(is_number, polygon)):
      raise ValueError('polygon should be pairs of numbers x, y')
    farthest = max(map(abs, polygon), default=0)
    if farthest > _FARTHEST_VERTEX:
      raise ValueError(f'polygon leaves the image ({width}x{height}) by far')
    # The first product bounds the length, in a fraction of the time.
    if (len(polygon) * farthest > _LONGEST_OUTLINE
        and _outline(polygon) > _LONGEST_OUTLINE):
      raise ValueError(f'polygon is longer than {_LONGEST_OUTLINE:.0f} pixels')
  # Less than three points enclose nothing (and pycocotools takes four numbers
  # for a box).
  polygons = [p for p in polygons if len(p) >= 6]
  if not polygons:
    return of_runs([height * width], height, width)
  return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def _outline(polygon):
  """Steps that pycocotools takes around a polygon, in pixels."""
  points = np.reshape(polygon, [-1, 2])
  return np.abs(points - np.roll(points, 1, 0)).max(1).sum()


def checked_rle(rle, height, width):
  """RLE with either kind of counts as RLE with compressed bytes."""
  size, counts = rle.get('size'), rle.get('counts')
  if size != [height, width]:
    raise ValueError(f'has RLE size {size!r:.40}, its image has [height, '
                     f'width] {[height, width]}')
  if isinstance(counts, str):
    runs = run_lengths.runs(counts)
  elif isinstance(counts, list) and all(map(is_int, counts)):
    runs = np.array(counts)
  else:
    raise ValueError('has RLE `counts` that are neither a list of whole '
                     'numbers nor a string')
  area = height * width
  # Each run first: a sum of large ones may wrap round to the right number.
  if (not runs.size or runs.min() < 0 or runs.max() > area
      or runs.sum() != area):
    raise ValueError(f'has RLE counts that sum to {sum(runs.tolist())}, should '
                     f'be height x width = {area}, none negative')
  if isinstance(counts, str):
    return {'size': size, 'counts': counts.encode('ascii')}
  return of_runs(counts, height, width)


def of_runs(counts, height, width):
  """Run lengths of zeros, of ones, ... in columns as RLE with bytes."""
  rle: Any = {'size': [height, width], 'counts': counts}
  return coco_mask.frPyObjects(rle, height, width)


def as_json(rle) -> Any:
  """RLE with bytes as JSON takes it, {'size': .., 'counts': text}."""
  return {'size': rle['size'], 'counts': rle['counts'].decode('ascii')}


def boundaries(rle):
  """Bytes that two compressed RLEs of one size share only if they are equal."""
  ends = np.cumsum(run_lengths.runs(rle['counts']))
  # Around a run of no length nothing changes; nor at the image's end.
  places, times = np.unique(ends, return_counts=True)
  return places[(times % 2 == 1) & (places < ends[-1])].tobytes()
