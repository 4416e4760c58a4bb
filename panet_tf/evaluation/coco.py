"""COCO metrics of boxes and masks, by pycocotools.

PANet's tables (section 4) are COCO's AP, AP50, AP75, AP_S, AP_M and AP_L, of
masks and of boxes. The rows are read from `COCOeval.eval` here, because
`COCOeval.summarize` looks for exactly 100 detections in its first row and gives
-1 for any other limit (a nuclei image has up to 375 objects).
"""

import contextlib
import io

import numpy as np
from pycocotools import coco
from pycocotools import cocoeval
from pycocotools import mask as mask_utils

from panet_tf import errors
from panet_tf.dataloaders import segmentation

_ALL = slice(None)
# Row: array, IoU thresholds, area range, detection limit (1, 10, the largest).
_ROWS = {
    'AP': ('precision', _ALL, 0, 2),
    'AP50': ('precision', 0, 0, 2),
    'AP75': ('precision', 5, 0, 2),
    'APS': ('precision', _ALL, 1, 2),
    'APM': ('precision', _ALL, 2, 2),
    'APL': ('precision', _ALL, 3, 2),
    'AR1': ('recall', _ALL, 0, 0),
    'AR10': ('recall', _ALL, 0, 1),
    'AR{}': ('recall', _ALL, 0, 2),
    'ARS': ('recall', _ALL, 1, 2),
    'ARM': ('recall', _ALL, 2, 2),
    'ARL': ('recall', _ALL, 3, 2),
}


def coco_metrics(ground_truth, results, *, include_mask=True,
                 max_detections=100, per_category=False):
  """Scores COCO results against all images of a COCO dataset.

  Args:
    ground_truth: dict, COCO instances. Segmentations may be polygons or RLE of
      either kind; missing `iscrowd`, `area` and `bbox` are derived.
    results: list of COCO results; a missing `bbox` is the mask's.
    include_mask: bool, whether to score masks too.
    max_detections: int, the best-scored results counted per image and category.
    per_category: bool, whether to add the rows of each category.

  Returns:
    {'box': {'AP': .., .., 'AR<max_detections>': .., 'ARL': ..}, 'mask': same,
    'per_category': {name: {'box': .., 'mask': ..}}}; floats in 0..1, -1 where
    there is no ground truth.

  Raises:
    InputError: a result or annotation of an unknown image or category, without
      a segmentation that is needed, or with one that does not fit its image.
  """
  images = {image['id']: image for image in sorted(
      ground_truth['images'],
      key=lambda image: (isinstance(image['id'], str), image['id']))}
  names = {item['id']: item['name'] for item in ground_truth['categories']}
  annotations, detections = [
      [_instance(item, f'{noun} {index}', images, names, include_mask)
       for index, item in enumerate(items)]
      for noun, items in (('annotation', ground_truth['annotations']),
                          ('result', results))]
  metrics, categories = {}, {name: {} for name in names.values()}
  for kind, iou_type in _kinds(include_mask):
    arrays = _evaluate(
        annotations, detections, images, names, iou_type, max_detections)
    metrics[kind] = _rows(arrays, max_detections)
    for index, name in enumerate(names.values()):
      categories[name][kind] = _rows(arrays, max_detections, index)
  return {**metrics, 'per_category': categories} if per_category else metrics


def _kinds(include_mask):
  return (('box', 'bbox'), ('mask', 'segm'))[:2 if include_mask else 1]


def _instance(item, where, images, names, include_mask):
  """One annotation or result as pycocotools wants it, with nothing missing."""
  for field, known in (('image_id', images), ('category_id', names)):
    if item[field] not in known:
      raise errors.InputError(
          f'{where}: {field} {item[field]!r} is not in the ground truth, whose '
          f'ids are like {next(iter(known), None)!r}')
  image = images[item['image_id']]
  is_result = where.startswith('result')
  area = None if is_result else item.get('area')
  box, rle = item.get('bbox'), None
  if include_mask or box is None or (area is None and not is_result):
    rle = _to_rle(item, image, where, include_mask or box is None)
  if box is None:
    box = mask_utils.toBbox(rle).tolist()
  mask_area = box[2] * box[3] if rle is None else int(mask_utils.area(rle))
  # COCO's rule: an object has one area, its mask's; a detected box has its own.
  areas = {'bbox': box[2] * box[3] if is_result else mask_area,
           'segm': mask_area}
  return {
      'image_id': item['image_id'], 'category_id': item['category_id'],
      'iscrowd': int(item.get('iscrowd', 0)), 'score': item.get('score'),
      'bbox': box, 'segmentation': rle,
      'areas': areas if area is None else {'bbox': area, 'segm': area}}


def _to_rle(item, image, where, required):
  """Polygons, or RLE of either kind, as compressed RLE; None if absent."""
  mask = item.get('segmentation')
  if not mask:
    if required:
      raise errors.InputError(f'{where} has no segmentation, which mask '
                              'metrics need; box metrics need a bbox')
    return None
  if isinstance(mask, dict) and isinstance(mask.get('counts'), bytes):
    return mask  # straight from pycocotools; JSON has no bytes
  size = image.get('height'), image.get('width')
  if None in size:
    raise errors.InputError(
        f'image {image["id"]!r} has no height and width, which masks need')
  read = (segmentation.checked_rle if isinstance(mask, dict)
          else segmentation.polygons_rle)
  try:
    return read(mask, *size)
  except ValueError as error:
    raise errors.InputError(f'{where}: segmentation {error}') from error


def _evaluate(annotations, detections, images, names, iou_type, max_detections):
  """COCOeval's arrays: precision [T, R, K, A, 3] and recall [T, K, A, 3]."""
  # Ordinals, because pycocotools takes an id of 0 or a string for no match.
  image_ids = {image_id: i for i, image_id in enumerate(images, 1)}
  category_ids = {category_id: i for i, category_id in enumerate(names, 1)}
  with contextlib.redirect_stdout(io.StringIO()):
    datasets = coco.COCO(), coco.COCO()
    for dataset, instances in zip(datasets, (annotations, detections)):
      dataset.dataset = {
          'images': [{**images[i], 'id': image_ids[i]} for i in images],
          'categories': [{'id': i} for i in category_ids.values()],
          'annotations': [
              {**instance, 'id': ordinal, 'area': instance['areas'][iou_type],
               'image_id': image_ids[instance['image_id']],
               'category_id': category_ids[instance['category_id']]}
              for ordinal, instance in enumerate(instances, 1)]}
      dataset.createIndex()
    evaluation = cocoeval.COCOeval(*datasets, iou_type)
    evaluation.params.maxDets = [1, min(10, max_detections), max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
  return evaluation.eval


def _rows(arrays, max_detections, category=_ALL):
  """The twelve numbers of COCO, of all categories or of one."""
  rows = {}
  for name, (array, iou, area, limit) in _ROWS.items():
    values = arrays[array][iou, ..., category, area, limit]
    values = values[values > -1]
    rows[name.format(max_detections)] = float(
        values.mean() if values.size else -1)
  return rows
