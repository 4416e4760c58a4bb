"""Annotations or results of a whole data set, as columns.

Ground truth, a results file and the detections of a model in training all
become this before anything is scored: half a million dictionaries would take a
gigabyte. `Detections` are of one image, and know no categories' ids, crowds'
areas or images without any.
"""

from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

from panet_tf import errors
from panet_tf.data import segmentation


class Instances(NamedTuple):
  """N annotations or results.

  Attributes:
    images: [N] int, places in `images_of`.
    categories: [N] int, places in the data set's categories.
    boxes: [N, 4], xywh, original-image pixels.
    scores: [N].
    iscrowd: [N] int.
    areas: {'bbox': [N], 'segm': [N]}, pixels: the size by which COCO sorts.
    rles: N RLEs {'size': [height, width], 'counts': compressed}; without masks
      None for each, or no list at all.
  """
  images: np.ndarray
  categories: np.ndarray
  boxes: np.ndarray
  scores: np.ndarray
  iscrowd: np.ndarray
  areas: dict[str, np.ndarray]
  rles: list[dict | None]


def images_of(ground_truth):
  """Image dictionaries by id, in order of id: numbers before strings."""
  return {image['id']: image for image in sorted(
      ground_truth['images'],
      key=lambda image: (isinstance(image['id'], str), image['id']))}


def from_items(items, noun, ground_truth, include_mask) -> Instances:
  """COCO annotations or COCO results, whatever they miss derived.

  Args:
    items: list of dicts. Segmentations may be polygons or RLE of either kind;
      `iscrowd`, `area` (of an annotation) and `bbox` may be missing or None.
    noun: 'annotation' or 'result'.
    ground_truth: dict, COCO instances.
    include_mask: bool, whether every item needs a mask.

  Raises:
    InputError: an item of an unknown image or category, without a segmentation
      that is needed, or with one that does not fit its image.
  """
  images = images_of(ground_truth)
  places = {
      'image_id': {image_id: i for i, image_id in enumerate(images)},
      'category_id': {category['id']: i for i, category in enumerate(
          ground_truth['categories'])}}
  rows = [_row(item, f'{noun} {index}', images, places, include_mask)
          for index, item in enumerate(items)]
  image, category, boxes, score, crowd, box_areas, mask_areas, rles = (
      zip(*rows, strict=True) if rows else [()] * 8)
  areas = {'bbox': np.array(box_areas, float),
           'segm': np.array(mask_areas, float)}
  return Instances(np.array(image, int), np.array(category, int),
                   np.array(boxes, float).reshape(-1, 4),
                   np.array(score, float), np.array(crowd, int), areas,
                   list(rles))


def _row(item, where, images, places, include_mask):
  """The fields of one item, in Instances' order."""
  for field, known in places.items():
    if item[field] not in known:
      raise errors.InputError(
          f'{where}: {field} {item[field]!r:.60} is not in the ground truth, '
          f'whose ids are like {next(iter(known), None)!r}')
  image = images[item['image_id']]
  is_result = where.startswith('result')
  area = None if is_result else item.get('area')
  box: Any = item.get('bbox')
  rle: Any = None
  if include_mask or box is None or (area is None and not is_result):
    rle = _to_rle(item, image, where, include_mask or box is None)
  if box is None:
    box = mask_utils.toBbox(rle).tolist()
  mask_area = box[2] * box[3] if rle is None else int(mask_utils.area(rle))
  # COCO's rule: an object has one area, its mask's; so has a result whose box
  # is its mask's, but a detected box has its own.
  has_own = is_result and item.get('bbox') is not None
  box_area = box[2] * box[3] if has_own else mask_area
  if area is not None:
    box_area = mask_area = area
  return (places['image_id'][item['image_id']],
          places['category_id'][item['category_id']], box,
          item.get('score', 0), item.get('iscrowd') or 0, box_area, mask_area,
          rle)


def _to_rle(item, image, where, required):
  """Polygons, or RLE of either kind, as compressed RLE; None if absent."""
  mask = item.get('segmentation')
  if not mask and required:
    raise errors.InputError(f'{where} has no segmentation, which mask metrics '
                            'need; box metrics need a bbox')
  if not mask:
    return None
  if isinstance(mask, dict) and isinstance(mask.get('counts'), bytes):
    return mask  # straight from pycocotools; JSON has no bytes
  size = image.get('height'), image.get('width')
  if None in size:
    raise errors.InputError(
        f'image {image["id"]!r} has no height and width, which masks need')
  if size[0] * size[1] >= 2**32:
    raise errors.InputError(
        f'image {image["id"]!r}: its size is {size[1]}x{size[0]}; run lengths '
        'count less than 2**32 pixels')
  try:
    return segmentation.as_rle(mask, *size)
  except ValueError as error:
    raise errors.InputError(f'{where}: segmentation {error!s:.150}') from error
