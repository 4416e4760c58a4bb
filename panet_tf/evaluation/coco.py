"""COCO metrics of boxes and masks, by pycocotools.

PANet's tables (section 4) are COCO's AP, AP50, AP75, AP_S, AP_M and AP_L, of
masks and of boxes. The rows are read from `COCOeval.eval` here, because
`COCOeval.summarize` looks for exactly 100 detections in its first row and gives
-1 for any other limit (a nuclei image has up to 375 objects).
"""

import contextlib
import io
import itertools
import json

import numpy as np
from pycocotools import coco
from pycocotools import cocoeval
from pycocotools import mask as mask_utils

from panet_tf import errors
from panet_tf.dataloaders import segmentation
from panet_tf.ops import paste_masks

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


def load_results(path):
  """Reads a COCO results file.

  Args:
    path: str, a JSON list of {image_id, category_id, score, bbox (xywh, pixels)
      and / or segmentation (RLE)}.

  Returns:
    The list.

  Raises:
    InputError: no such file, not such a list, or a bad result, by its index.
  """
  try:
    with open(path, encoding='utf-8') as file:
      results = json.load(file)
  except OSError as error:
    raise errors.InputError(f'{path}: {error.strerror}') from error
  except ValueError as error:
    raise errors.InputError(f'{path}: not JSON ({error}); expected a list of '
                            'COCO results, [] for none') from error
  if not isinstance(results, list):
    raise errors.InputError(
        f'{path}: a {type(results).__name__}, expected a list of COCO results')
  for index, result in enumerate(results):
    problem = _problem(result)
    if problem:
      raise errors.InputError(f'{path}: result {index}: {problem}')
  return results


def _problem(result):
  """What is wrong with one result, or None."""
  if not isinstance(result, dict):
    return 'not an object with image_id, category_id, score'
  for field in ('image_id', 'category_id', 'score'):
    if field not in result:
      return f'no {field}'
  for field in ('image_id', 'category_id'):
    if not isinstance(result[field], (int, str)):
      return f'{field} {result[field]!r} is not an id'
  if not segmentation.is_number(result['score']):
    return f'score {result["score"]!r} is not a finite number'
  if 'bbox' not in result and 'segmentation' not in result:
    return 'neither bbox nor segmentation'
  box = result.get('bbox', [0, 0, 0, 0])
  if not (isinstance(box, list) and len(box) == 4
          and all(map(segmentation.is_number, box))):
    return f'bbox {box!r} is not four finite numbers: x, y, width, height'
  if not isinstance(result.get('segmentation', {}), dict):
    return 'segmentation is not an RLE: size [height, width] and counts'
  return None


def detections_to_results(image_id, boxes, scores, labels, rles, category_ids):
  """Writes one image's detections as COCO results.

  Args:
    image_id: int or str.
    boxes: [N, 4], yxyx, original-image pixels.
    scores: [N].
    labels: [N] int, from 1; label i + 1 is `category_ids[i]`.
    rles: N RLE dictionaries, or None.
    category_ids: list of the dataset's category ids.

  Returns:
    N dictionaries that `json` can write.

  Raises:
    InputError: a label without a category.
  """
  labels = np.asarray(labels, np.int64)
  strange = labels[(labels < 1) | (labels > len(category_ids))]
  if strange.size:
    raise errors.InputError(f'image {image_id}: label {strange[0]} has no '
                            f'category; there are {len(category_ids)}')
  y1, x1, y2, x2 = np.asarray(boxes, np.float64).reshape(-1, 4).T
  boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(3).tolist()
  scores = np.asarray(scores, np.float64).round(6).tolist()
  results = [
      {'image_id': image_id, 'category_id': category_ids[label - 1],
       'bbox': box, 'score': score}
      for box, score, label in zip(boxes, scores, labels)]
  for result, rle in zip(results, rles or []):
    result['segmentation'] = rle
  return results


class CocoEvaluator:
  """The metric that Model Garden's task feeds with a batch at a time.

  Masks become RLE as they arrive, so that memory does not grow with the images'
  sizes. `result` leaves the results in place; `reset_states` starts afresh.
  """

  name = 'coco_metric'

  def __init__(self, ground_truth, *, include_mask, max_detections,
               category_ids, image_ids=None, per_category=False):
    """Keeps the ground truth and how to speak its ids.

    Args:
      ground_truth: dict, COCO instances.
      include_mask: bool.
      max_detections: int, per image and category.
      category_ids: list, label i + 1 is category `category_ids[i]`.
      image_ids: list, source id i is image `image_ids[i]`; None: source ids are
        the image ids, as numbers or as strings.
      per_category: bool, whether `result` adds `AP/<name>`, `mask_AP/<name>`.
    """
    self._ground_truth = ground_truth
    self._options = dict(include_mask=include_mask, per_category=per_category,
                         max_detections=max_detections)
    self._category_ids = list(category_ids)
    known = [image['id'] for image in ground_truth['images']]
    pairs = zip(known, known) if image_ids is None else enumerate(image_ids)
    self._image_ids = {str(source_id): image for source_id, image in pairs}
    self.reset_states()

  def reset_states(self):
    self._results = {}

  @property
  def results(self):
    """COCO results so far, in order of arrival."""
    return list(itertools.chain.from_iterable(self._results.values()))

  def update_state(self, groundtruths, predictions):
    """Adds a batch; an image that was seen before is skipped.

    Args:
      groundtruths: ignored.
      predictions: dict of tensors, or of tuples of one tensor per replica:
        source_id [B], image_info [B, 4, 2], detection_boxes [B, K, 4] (yxyx,
        network-input pixels), detection_scores [B, K], detection_classes
        [B, K], num_detections [B] and, for masks, detection_masks
        [B, K, M, M] probabilities.

    Raises:
      InputError: an image or a label that the ground truth does not have.
    """
    del groundtruths
    predictions = {key: _to_numpy(predictions[key]) for key in (
        'source_id', 'image_info', 'detection_boxes', 'detection_scores',
        'detection_classes', 'num_detections') + (
            ('detection_masks',) if self._options['include_mask'] else ())}
    for index in range(len(predictions['source_id'])):
      image = {key: value[index] for key, value in predictions.items()}
      image_id = self._image_id(image['source_id'])
      if image_id not in self._results:
        self._results[image_id] = self._image_results(image_id, image)

  def _image_id(self, source_id):
    source_id = getattr(source_id, 'item', lambda: source_id)()
    text = source_id.decode() if isinstance(source_id, bytes) else source_id
    if str(text) not in self._image_ids:
      raise errors.InputError(
          f'source id {text!r} is no image of the ground truth: were the '
          'records made from this annotation file?')
    return self._image_ids[str(text)]

  def _image_results(self, image_id, image):
    """One image's detections, in original pixels, as COCO results."""
    count = int(image['num_detections'])
    (height, width), _, scale, offset = image['image_info'].astype(np.float64)
    boxes = image['detection_boxes'][:count].astype(np.float64)
    boxes = (boxes + np.tile(offset, 2)) / np.tile(scale, 2)
    # The mask lies in the frame of the whole box, also of a part outside.
    rles = paste_masks.encode_masks(
        image['detection_masks'][:count], boxes, int(height), int(width)
    ) if self._options['include_mask'] else None
    boxes = np.clip(boxes, 0, [height, width, height, width])
    return detections_to_results(
        image_id, boxes, image['detection_scores'][:count],
        image['detection_classes'][:count], rles, self._category_ids)

  def result(self):
    """Flat float32 metrics under Model Garden's names: 'AP', 'mask_ARmax1'."""
    metrics = coco_metrics(self._ground_truth, self.results, **self._options)
    categories = metrics.pop('per_category', {})
    flat = {}
    for kind, rows in metrics.items():
      prefix = 'mask_' if kind == 'mask' else ''
      for name, value in rows.items():
        flat[prefix + _model_garden_name(name)] = np.float32(value)
      for name, kinds in categories.items():
        flat[f'{prefix}AP/{name}'] = np.float32(kinds[kind]['AP'])
    return flat


def _to_numpy(value):
  """A tensor, or a tuple of one per replica, as one array."""
  parts = value if isinstance(value, tuple) else (value,)
  return np.concatenate([np.asarray(part) for part in parts])


def _model_garden_name(row):
  if row[-1] in 'SML':
    return row[:-1] + row[-1].lower()
  return row.replace('AR', 'ARmax')
