"""The two ways COCO writes a mask, polygons and run lengths, strictly read.

pycocotools trusts its input: four numbers are a box, a far vertex takes all
memory, run lengths that do not fill the image read past its end. Here each is
a ValueError that says what the segmentation should be.
"""

import math

import numpy as np
from pycocotools import mask as coco_mask

# pycocotools walks along an edge point by point.
_FARTHEST_VERTEX = 1e5


def is_int(value):
  return isinstance(value, int) and not isinstance(value, bool)


def is_number(value):
  return is_int(value) or isinstance(value, float) and math.isfinite(value)


def polygons_rle(polygons, height, width):
  """Union of polygons [[x1, y1, x2, y2, ...], ...] as RLE."""
  for polygon in polygons:
    if not isinstance(polygon, list):
      raise ValueError('should be a list of polygons [[x1, y1, x2, y2, ...]]')
    if len(polygon) % 2 or not all(map(is_number, polygon)):
      raise ValueError('polygon should be pairs of numbers x, y')
    if any(abs(v) > _FARTHEST_VERTEX for v in polygon):
      raise ValueError(f'polygon leaves the image ({width}x{height}) by far')
  # Less than three points enclose nothing (and pycocotools takes four numbers
  # for a box).
  polygons = [p for p in polygons if len(p) >= 6]
  if not polygons:
    return coco_mask.frPyObjects(
        {'size': [height, width], 'counts': [height * width]}, height, width)
  return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def checked_rle(rle, height, width):
  """RLE with either kind of counts as RLE with compressed bytes."""
  size, counts = rle.get('size'), rle.get('counts')
  if size != [height, width]:
    raise ValueError(f'has RLE size {size!r:.40}, its image has [height, '
                     f'width] {[height, width]}')
  if isinstance(counts, str):
    runs = _runs(counts)
  elif isinstance(counts, list) and all(map(is_int, counts)):
    runs = counts
  else:
    raise ValueError('has RLE `counts` that are neither a list of whole '
                     'numbers nor a string')
  if min(runs, default=-1) < 0 or sum(runs) != height * width:
    raise ValueError(f'has RLE counts that sum to {sum(runs)}, should be '
                     f'height x width = {height * width}, none negative')
  if isinstance(counts, str):
    return {'size': size, 'counts': counts.encode('ascii')}
  return coco_mask.frPyObjects({'size': size, 'counts': counts}, height, width)


def _runs(counts):
  """Run lengths in a compressed RLE string, which pycocotools never checks.

  Each run is groups of 5 bits, low ones first, as character 48 + bits, bit 5
  set when more follow, bit 4 of the last one the sign; from the fourth run on
  it is the difference to the run two before.
  """
  groups = np.frombuffer(counts.encode('utf-8'), np.uint8).astype(np.int64) - 48
  if groups.size == 0 or groups.min() < 0 or groups.max() > 63:
    raise ValueError('has RLE `counts` that are not a compressed RLE string')
  runs, value, shift = [], 0, 0
  for group in groups.tolist():
    value |= (group & 31) << shift
    shift += 5
    if not group & 32:
      if group & 16:
        value -= 1 << shift
      runs.append(value + (runs[-2] if len(runs) > 2 else 0))
      value, shift = 0, 0
  if shift:
    raise ValueError('has RLE `counts` that end in the middle of a run')
  return runs
