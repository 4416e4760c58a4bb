"""One image and its annotations as one record, by Model Garden's names.

Runs in the converter's worker processes, so nothing here imports TensorFlow.
"""

import collections
import dataclasses
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from panet_tf import errors
from panet_tf.data import coco_json
from panet_tf.data import image_bytes
from panet_tf.data import ledger as ledger_lib
from panet_tf.data import tfrecord_file


@dataclasses.dataclass(frozen=True)
class Options:
  """What all records of a data set have in common."""
  annotations: str  # path of the JSON, for messages
  image_dir: str
  categories: dict  # COCO id -> (label in 1..K, name)
  include_masks: bool
  skip_invalid: bool


def record(source_id, image, annotations, options):
  """The record of a COCO image, None if it is rejected, and its Ledger.

  InputError for what is unusable, unless `options.skip_invalid`.
  """
  ledger = ledger_lib.Ledger(
      images_read=1, annotations_read=len(annotations))
  try:
    data, image_format, height, width = image_bytes.encode_image(
        options.image_dir, image)
  except errors.InputError as e:
    if not options.skip_invalid:
      raise errors.InputError(f'{options.annotations}: {e}') from e
    ledger.reject_image(e.reason, image['id'], annotations)
    return None, ledger
  features = {
      'image/encoded': [data],
      'image/format': [image_format.encode()],
      'image/filename': [image['file_name'].encode('utf-8', 'replace')],
      'image/source_id': [source_id.encode()],
      'image/height': [height],
      'image/width': [width],
      **_object_features(annotations, height, width, options, ledger)}
  ledger.images_written = 1
  return tfrecord_file.serialize(features), ledger


def _object_features(annotations, height, width, options, ledger):
  """Features of all objects of an image, boxes normalised to 0..1."""
  boxes: list[list[float]] = []
  columns: dict[str, Any] = collections.defaultdict(list)
  for annotation in annotations:
    try:
      box, rle = _usable(annotation, height, width, options)
    except _Rejection as e:
      ledger.reject(str(e), annotation['id'])
      continue
    label, name = options.categories[annotation['category_id']]
    columns['class/label'].append(label)
    columns['class/text'].append(name.encode('utf-8', 'replace'))
    columns['is_crowd'].append(int(annotation.get('iscrowd') or 0))
    columns['area'].append(coco_json.annotation_area(annotation, rle, box))
    if options.include_masks:
      columns['mask'].append(image_bytes.mask_png(rle))
      # Small enough to decode for every object, where `mask` is not.
      crop, top, left = image_bytes.crop_png(rle)
      columns['mask/crop'].append(crop)
      columns['mask/crop_top'].append(top)
      columns['mask/crop_left'].append(left)
    boxes.append(box)
    ledger.annotations_written += 1
  columns['area'] = np.array(columns['area'], np.float32)
  x, y, w, h = np.array(boxes, np.float64).reshape([-1, 4]).T
  for name, edge in (('xmin', x / width), ('xmax', (x + w) / width),
                     ('ymin', y / height), ('ymax', (y + h) / height)):
    columns['bbox/' + name] = edge.clip(0, 1).astype(np.float32)
  return {'image/object/' + name: values for name, values in columns.items()}


class _Rejection(Exception):
  """Why an annotation cannot be used."""


def _usable(annotation, height, width, options):
  """(box [x, y, width, height], RLE or None), or a _Rejection."""
  if annotation['category_id'] not in options.categories:
    raise _Rejection('unknown category')
  try:
    rle = coco_json.annotation_mask_rle(annotation, height, width)
    if options.include_masks:
      if rle is None:
        raise _Rejection('no segmentation')
      if not coco_mask.area(rle):
        raise _Rejection('empty mask')
    box = coco_json.annotation_box(annotation, rle, height, width)
  except errors.InputError as e:
    if not options.skip_invalid:
      raise errors.InputError(f'{options.annotations}: {e}') from e
    raise _Rejection('malformed segmentation or bbox') from e
  if box is None:
    raise _Rejection('degenerate box')
  return box, rle


def parse(serialized):
  """Inverse of `record`, also of Model Garden's converter.

  Returns:
    (COCO image whose `id` is the source id, COCO annotations with `label` and
    `name` in place of `category_id`, and no ids). For another record raises
    image_bytes.IMAGE_ERRORS, AttributeError, Pillow's DecompressionBombError or
    protobuf's DecodeError.
  """
  features = tfrecord_file.parse(serialized)
  height, = map(int, features['image/height'])
  width, = map(int, features['image/width'])
  image = {'id': features['image/source_id'][0].decode(),
           'file_name': features.get('image/filename', [b''])[0].decode(),
           'height': height, 'width': width}
  columns = {name.removeprefix('image/object/'): values
             for name, values in features.items()}
  labels = columns.get('class/label', [])
  return image, [_annotation(columns, i, height, width)
                 for i in range(len(labels))]


def _annotation(columns, i, height, width):
  """Object i of a record."""
  x1, x2 = (columns['bbox/' + edge][i] * width for edge in ('xmin', 'xmax'))
  y1, y2 = (columns['bbox/' + edge][i] * height for edge in ('ymin', 'ymax'))
  label = int(columns['class/label'][i])
  result = {'label': label, 'bbox': [x1, y1, x2 - x1, y2 - y1],
            'name': str(label), 'iscrowd': 0, 'area': (x2 - x1) * (y2 - y1)}
  if columns.get('class/text'):
    result['name'] = columns['class/text'][i].decode()
  for name, column, kind in (('iscrowd', 'is_crowd', int),
                             ('area', 'area', float)):
    if columns.get(column):
      result[name] = kind(columns[column][i])
  if columns.get('mask'):
    result['segmentation'] = image_bytes.mask_rle(columns['mask'][i])
    if result['segmentation']['size'] != [height, width]:
      raise ValueError('mask and image differ in size')
  return result
