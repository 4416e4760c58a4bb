"""The check of one annotation on its image: mask, box, area, crowd flag.

Where a mask is right, it settles what box and area should be.
"""

import math

import numpy as np
from pycocotools import mask as coco_mask

from panet_tf import errors
from panet_tf.data import coco_json
from panet_tf.data import segmentation
from panet_tf.data.doctor import table as table_lib

# COCO's boxes are those of the polygons, whose thin tips cover no pixel: on
# 1520 boxes of COCO 2017 up to 8 pixels off the mask's, at most 1 off both.
_BOX_TOLERANCE = 1.01  # pixels, of each edge
_EDGE_TOLERANCE = 0.5  # pixels; the converter clips to the image anyway
# Ten times what the converter refuses, so that rounding cannot matter.
_THINNEST_SIDE = 1e-2
_FARTHEST = 1e9
_LARGEST_CANVAS = 65_535  # Its square fits COCO's 32-bit run lengths.


def check_image(table, positions, image):
  """Checks the annotations at these positions, all of one image."""
  size = image.get('height'), image.get('width')
  masks = {position: _check(table, position, None if None in size else size)
           for position in positions}
  check_same(table, masks)


def _check(table, position, size):
  """The annotation's mask as RLE; None without one, or if it is rejected.

  The size of its image is (height, width), or None if nothing tells.
  """
  _check_iscrowd(table, position)
  rle = None
  if table.entries[position].get('segmentation') not in (None, [], {}):
    rle = _check_mask(table, position, size)
  elif position not in table.rejected:
    table.find('no-segmentation', position, '')
  if position not in table.rejected:
    _check_box(table, position, rle, size)
  if position not in table.rejected:
    _check_area(table, position, rle, size)
  return None if position in table.rejected else rle


def _check_iscrowd(table, position):
  value = table.entries[position].get('iscrowd')
  if value is None:
    table.repair('missing-iscrowd', position, 'iscrowd', 0, '')
  elif isinstance(value, (bool, float)) and value in (0, 1):
    table.repair('bad-field', position, 'iscrowd', int(value),
                 f'`iscrowd` is written {value}')
  elif not (segmentation.is_int(value) and value in (0, 1)):
    table.reject(_kind(value, 'bad-field'), position,
                 f'`iscrowd` is {table_lib.brief(value)}')


def _check_mask(table, position, size):
  """The mask as RLE, or None for an annotation that is rejected by it."""
  value = table.entries[position]['segmentation']
  if isinstance(value, list):
    long = [p for p in value if not isinstance(p, list) or len(p) >= 6]
    detail = f'{len(value) - len(long)} of {len(value)} polygons'
    if not long:
      table.find('short-polygon', position, detail)
    elif len(long) < len(value):
      table.repair('short-polygon', position, 'segmentation', long, detail)
      value = long
  height, width = size or _canvas(value)
  try:
    rle = coco_json.annotation_mask_rle(
        {'segmentation': value}, height, width)
  except errors.InputError as e:
    kind = 'bad-rle' if isinstance(value, dict) else 'bad-polygon'
    table.reject(_kind(value, kind), position, e.reason)
    return None
  if rle is None or not coco_mask.area(rle):
    table.reject('empty-mask', position, '')
    return None
  return rle


def _canvas(value):
  """(height, width) to draw a mask on whose image tells no size."""
  if isinstance(value, dict):
    size = value.get('size')
    if (isinstance(size, list) and len(size) == 2
        and all(segmentation.is_int(v) and 0 < v <= _LARGEST_CANVAS
                for v in size)):
      return size
    return 1, 1
  try:
    far = np.concatenate([np.reshape(p, [-1, 2]) for p in value]).max(0)
    x, y = (int(v) + 1 for v in far.clip(0, _LARGEST_CANVAS))
  except (ValueError, TypeError, OverflowError):
    return 1, 1  # Malformed, whatever the size.
  return y, x


def _check_box(table, position, rle, size):
  """Repairs the box: to what is in the image, and to where the mask is."""
  entry = table.entries[position]
  box = entry.get('bbox')
  # Infinite where unknown, so that nothing is outside.
  height, width = size or (math.inf, math.inf)
  right = None if rle is None else coco_mask.toBbox(rle).tolist()
  defect = _box_defect(box, height, width)
  if defect:
    kind, detail = defect
    if right is None:
      kind = 'bad-box' if kind == 'missing-bbox' else kind
      table.reject(kind, position, f'{detail}, and there is no mask')
    else:
      table.repair(kind, position, 'bbox', right, detail)
    return
  clipped = coco_json.annotation_box(entry, None, height, width)
  over = np.abs(_edges(box) - _edges(clipped)).max()
  if over > _EDGE_TOLERANCE:
    table.repair('box-outside', position, 'bbox', clipped,
                 f'by up to {over:.1f} pixels')
  if right is not None:
    off = _distance(clipped, right, entry['segmentation'])
    if off > _BOX_TOLERANCE:
      table.repair('box-differs', position, 'bbox', right,
                   f'by up to {off:.1f} pixels')


def _box_defect(box, height, width):
  """(kind, detail) of a box that is of no use, or None."""
  if box is None:
    return 'missing-bbox', 'no bbox'
  if not (isinstance(box, list) and len(box) == 4 and all(map(_is_near, box))):
    return _kind(box, 'bad-box'), f'bbox is {table_lib.brief(box)}'
  if min(box[2:]) < _THINNEST_SIDE:
    return 'degenerate-box', f'bbox is {table_lib.brief(box)}'
  clipped = coco_json.annotation_box({'bbox': box}, None, height, width)
  if clipped is None or min(clipped[2:]) < _THINNEST_SIDE:
    return ('degenerate-box',
            f'bbox {table_lib.brief(box)} is outside of its image')
  return None


def _distance(box, mask_box, value):
  """How far the farthest edge of a box is from where its mask ends.

  The mask ends at its last pixel, or where its polygons do.
  """
  edges = _edges(box)
  off = np.abs(edges - _edges(mask_box))
  if isinstance(value, list):
    points = np.concatenate([np.reshape(p, [-1, 2]) for p in value])
    extent = np.concatenate([points.min(0), points.max(0)])
    off = np.minimum(off, np.abs(edges - extent))
  return off.max()


def _edges(box):
  x, y, w, h = box
  return np.array([x, y, x + w, y + h], np.float64)


def _check_area(table, position, rle, size):
  entry = table.entries[position]
  area = entry.get('area')
  if area is None:
    kind, detail = 'missing-area', ''
  elif not _is_near(area) or not 0 <= area <= math.prod(size or [_FARTHEST]):
    kind = _kind(area, 'bad-area')
    detail = f'`area` is {table_lib.brief(area)}'
  else:
    return
  # In this order, as the converter does it.
  right = coco_json.annotation_area({}, rle, entry['bbox'])
  table.repair(kind, position, 'area', right, detail)


def _is_near(value):
  """A finite number that arithmetic on pixels can take."""
  return segmentation.is_number(value) and abs(value) <= _FARTHEST


def _kind(value, kind):
  return kind if table_lib.is_finite(value) else 'nan'


def check_same(table, masks):
  """Looks for masks {position: RLE or None} that come twice in an image.

  A copy in all but its id is dropped; where anything else differs, say the
  category, no reading is the only right one.
  """
  alike = {}
  for position, rle in masks.items():
    if rle is None:
      continue
    key = *rle['size'], segmentation.boundaries(rle)
    first = alike.setdefault(key, position)
    if first == position:
      continue
    one, other = ({k: v for k, v in table.entries[p].items() if k != 'id'}
                  for p in (first, position))
    detail = f'as annotations[{first}] (id {table.label(first)})'
    if one == other:
      table.reject('same-mask', position, f'{detail}, a copy', copy=True)
    else:
      differ = sorted(k for k in one.keys() | other.keys()
                      if one.get(k) != other.get(k))
      table.find('same-mask', position,
                 f'{detail}, other {table_lib.brief(differ)}')
