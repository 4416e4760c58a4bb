"""COCO instance annotations: what may stand in the file, and what it means.

`read` answers for the file as a whole (lists, ids, references); the
`annotation_*` functions answer for one annotation on one image. Boxes here are
COCO's: [x, y, width, height], image pixels.
"""

import json
from typing import TypeGuard

from pycocotools import mask as coco_mask

from panet_tf import errors
from panet_tf.data import segmentation as segmentation_lib

# Thinner boxes vanish once normalised to float32.
_THINNEST_SIDE = 1e-3


def read(path, check_references=True):
  """A COCO instances file, checked, with its three lists.

  Args:
    path: the JSON file.
    check_references: raise on an annotation whose image or category is absent;
      False leaves that to the caller.

  Raises:
    InputError: naming the file and the field or id.
  """
  dataset = load(path)
  for name in ('images', 'annotations', 'categories'):
    entries = dataset.get(name)
    if not isinstance(entries, list):
      found = 'missing' if entries is None else type(entries).__name__
      raise errors.InputError(f'{path}: `{name}` should be a list of objects, '
                              f'as in COCO instances; it is {found}')
    if name != 'annotations' and not entries:
      raise errors.InputError(
          f'{path}: `{name}` is empty, it should list at least one')
    _check_entries(path, name, entries)
  if check_references:
    _check_references(path, dataset)
  return dataset


def load(path):
  """The JSON object in `path`; InputError if there is none."""
  try:
    with open(path, encoding='utf-8') as f:
      text = f.read()
  except OSError as e:
    raise errors.InputError(f'{path}: {e.strerror}; a COCO instances JSON file '
                            'should be here') from e
  except UnicodeDecodeError as e:
    raise errors.InputError(
        f'{path}: not a text file; it should be COCO instances JSON') from e
  if not text.strip():
    raise errors.InputError(
        f'{path}: the file is empty; it should be COCO instances JSON')
  try:
    dataset = json.loads(text)
  except (ValueError, RecursionError) as e:
    raise errors.InputError(f'{path}: not JSON: {e}') from e
  if not isinstance(dataset, dict):
    raise errors.InputError(
        f'{path}: holds a {type(dataset).__name__}; should be an object with '
        '`images`, `annotations`, `categories`')
  return dataset


def _is_text(value):
  return isinstance(value, str) and bool(value)


def is_id(value):
  """A string, or a number that fits the int64 Model Garden makes of it."""
  return _is_text(value) or (
      segmentation_lib.is_int(value) and abs(value) < 2**63)


def is_box(value) -> TypeGuard[list[float]]:
  """Four numbers."""
  return (isinstance(value, list) and len(value) == 4
          and all(map(segmentation_lib.is_number, value)))


def _is_absent_or(check):
  return lambda value: value is None or check(value)


_ID = (is_id, 'a whole number (less than 2**63) or a string')
_INT = (segmentation_lib.is_int, 'a whole number')
_SIDE = (_is_absent_or(lambda v: segmentation_lib.is_int(v) and 0 < v < 2**31),
         'a whole number above 0 and less than 2**31')
# What each entry must hold: (test, what would be right).
_FIELDS = {
    'images': {
        'id': _ID,
        'file_name': (lambda v: _is_text(v) and '\0' not in v,
                      'a path relative to the image folder'),
        'width': _SIDE,
        'height': _SIDE,
    },
    'annotations': {
        'id': _ID,
        'image_id': _ID,
        'category_id': _INT,
        'iscrowd': (_is_absent_or(lambda v: v in (0, 1)), '0 or 1'),
        'area': (_is_absent_or(
            lambda v: segmentation_lib.is_number(v) and v >= 0),
                 'a number of pixels'),
        'bbox': (_is_absent_or(is_box), 'four numbers: x, y, width, height'),
    },
    'categories': {
        'id': _INT,
        'name': (_is_text, 'a string'),
    },
}


def _check_entries(path, name, entries):
  """Checks the fields of each entry, and that no id comes twice."""
  seen = set()
  for position, entry in enumerate(entries):
    where = f'{path}: {name}[{position}]'
    if not isinstance(entry, dict):
      raise errors.InputError(
          f'{where} is {type(entry).__name__}, should be an object')
    if 'id' in entry:
      where += f' (id {entry["id"]!r})'
    for field, (is_right, right) in _FIELDS[name].items():
      if not is_right(entry.get(field)):
        found = f'is {entry[field]!r:.60}' if field in entry else 'is missing'
        raise errors.InputError(
            f'{where}: `{field}` {found}, should be {right}')
    if entry['id'] in seen:
      raise errors.InputError(
          f'{where}: this id comes twice in `{name}`, ids should be unique')
    seen.add(entry['id'])


def _check_references(path, dataset):
  """Every annotation belongs to a listed image and category."""
  for field, name in (('image_id', 'images'), ('category_id', 'categories')):
    known = {entry['id'] for entry in dataset[name]}
    for annotation in dataset['annotations']:
      if annotation[field] not in known:
        raise errors.InputError(
            f'{path}: annotation {annotation["id"]!r}: `{field}` '
            f'{annotation[field]!r} is not the id of any of the {name}')


def annotation_mask_rle(annotation, height, width):
  """The mask of an annotation on an image of so many pixels.

  Its `segmentation` may be polygons, RLE with a list of counts or RLE with a
  compressed string, at any `iscrowd`.

  Returns:
    {'size': [height, width], 'counts': compressed string}, or None for an
    annotation without segmentation.

  Raises:
    InputError: a malformed segmentation, naming the annotation.
  """
  segmentation = annotation.get('segmentation')
  if segmentation is None or segmentation in ([], {}):
    return None
  try:
    if height * width >= 2**32:
      raise ValueError(f'is on an image of {width}x{height}; run lengths count '
                       'less than 2**32 pixels')
    return segmentation_lib.as_json(
        segmentation_lib.as_rle(segmentation, height, width))
  except ValueError as e:
    raise errors.InputError(
        f'annotation {annotation.get("id")!r}: `segmentation` {e}',
        str(e)) from e


def annotation_box(annotation, rle, height, width):
  """The box of an annotation, clipped to its image of so many pixels.

  Without `bbox` that of its mask is taken, from `annotation_mask_rle`, or None.

  Returns:
    [x, y, width, height], image pixels, or None if nothing of it is left.

  Raises:
    InputError: `bbox` is malformed, or missing while there is no mask.
  """
  box = annotation.get('bbox')
  if box is None and rle is not None:
    box = coco_mask.toBbox(rle).tolist()
  if not is_box(box):
    raise errors.InputError(f'annotation {annotation.get("id")!r}: `bbox` is '
                            f'{box!r:.60}, should be [x, y, width, height]')
  x1, y1 = max(box[0], 0), max(box[1], 0)
  x2, y2 = min(box[0] + box[2], width), min(box[1] + box[3], height)
  if x2 - x1 < _THINNEST_SIDE or y2 - y1 < _THINNEST_SIDE:
    return None
  return [x1, y1, x2 - x1, y2 - y1]


def annotation_area(annotation, rle, box):
  """Pixels of an annotation: as stated, else its mask's, else its box's."""
  if annotation.get('area') is not None:
    return float(annotation['area'])
  return float(coco_mask.area(rle) if rle is not None else box[2] * box[3])
