"""COCO metrics of boxes and masks, by faster-coco-eval.

PANet's tables (section 4) are COCO's AP, AP50, AP75, AP_S, AP_M and AP_L, of
masks and of boxes. faster-coco-eval is COCOeval in C++; `coco_test.py` holds it
to pycocotools. The rows are read here, as `summarize` gives -1 in the first for
any limit but 100 detections (a nuclei image has up to 375 objects).
"""

import faster_coco_eval
import numpy as np

from panet_tf.evaluation import coco_instances

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
                 max_detections=100, per_category=False, truth_instances=None):
  """Scores COCO results against all images of a COCO dataset.

  Args:
    ground_truth: dict, COCO instances. Segmentations may be polygons or RLE of
      either kind; missing `iscrowd`, `area` and `bbox` are derived.
    results: list of COCO results, a missing `bbox` being the mask's; or the
      same as `coco_instances.Instances`.
    include_mask: bool, whether to score masks too.
    max_detections: int, the best-scored results counted per image and category.
    per_category: bool, whether to add the rows of each category.
    truth_instances: what `coco_instances.from_items` gives of the ground
      truth's annotations; None: it is called here.

  Returns:
    {'box': {'AP': .., .., 'AR<max_detections>': .., 'ARL': ..}, 'mask': same,
    'per_category': {name: {'box': .., 'mask': ..}}}; floats in 0..1, -1 where
    there is no ground truth. Categories of one name are 'name (id)'.

  Raises:
    InputError: a result or annotation of an unknown image or category, without
      a segmentation that is needed, or with one that does not fit its image.
  """
  truth = truth_instances
  if truth is None:
    truth = coco_instances.from_items(
        ground_truth['annotations'], 'annotation', ground_truth, include_mask)
  if not isinstance(results, coco_instances.Instances):
    results = coco_instances.from_items(
        results, 'result', ground_truth, include_mask)
  names = _unique_names(ground_truth['categories'])
  metrics, categories = {}, {name: {} for name in names}
  kinds = {'box': 'bbox', 'mask': 'segm'} if include_mask else {'box': 'bbox'}
  for kind, iou_type in kinds.items():
    arrays = evaluate(truth, results, len(names), iou_type, max_detections)
    metrics[kind] = _rows(arrays, max_detections)
    for index, name in enumerate(names):
      categories[name][kind] = _rows(arrays, max_detections, index)
  return {**metrics, 'per_category': categories} if per_category else metrics


def _unique_names(categories):
  names = [category['name'] for category in categories]
  return [f'{name} ({category["id"]})' if names.count(name) > 1 else name
          for name, category in zip(names, categories, strict=True)]


def evaluate(truth, results, num_categories, iou_type, max_detections):
  """COCOeval's arrays, of K categories.

  One category at a time, so that only its results are ever dictionaries; and
  only its images, since COCOeval's loops are over all of them.

  Returns:
    {'precision': [T, R, K, A, 3], 'recall': [T, K, A, 3]}: IoU thresholds,
    recall thresholds, categories, area ranges, limits 1, 10, max_detections.
  """
  limits = [1, min(10, max_detections), max_detections]
  arrays = {'precision': np.full((10, 101, num_categories, 4, 3), -1.0),
            'recall': np.full((10, num_categories, 4, 3), -1.0)}
  # Without ground truth a category has no precision, whatever was detected.
  for category in np.unique(truth.categories):
    found = evaluate_category(truth, results, category, iou_type, limits)
    for name, values in arrays.items():
      values[..., category, :, :] = found[name][..., 0, :, :]
  return arrays


def evaluate_category(truth: coco_instances.Instances,
                      results: coco_instances.Instances, category: int,
                      iou_type: str, limits: list[int]):
  """COCOeval's {'precision': [T, R, 1, A, 3], 'recall': [T, 1, A, 3]} of one.

  Instances are of all categories; the limits are three numbers of results per
  image, ascending; the IoU is of 'bbox' or 'segm'.
  """
  places = [np.flatnonzero(instances.categories == category)
            for instances in (truth, results)]
  images = np.union1d(truth.images[places[0]], results.images[places[1]])
  datasets = []
  for instances, which in zip((truth, results), places, strict=True):
    dataset = faster_coco_eval.COCO()
    dataset.dataset = {
        'images': [{'id': i} for i in images.tolist()],
        'categories': [{'id': 1}],
        'annotations': _annotations(instances, which, iou_type)}
    dataset.createIndex()
    datasets.append(dataset)
  # Its 'segm' would decode all masks; 'bbox' does those that may match.
  evaluation = faster_coco_eval.COCOeval_faster(
      datasets[0], datasets[1], 'bbox')
  evaluation.params.maxDets = limits
  evaluation.evaluate()
  evaluation.accumulate()
  return evaluation.eval


def _annotations(instances, which, iou_type):
  """The instances at places `which` [M] as COCOeval's annotations.

  Their `bbox` is what COCOeval takes the IoU of: its IoU is of boxes or RLEs,
  whichever it meets.
  """
  shapes = (instances.boxes[which].tolist() if iou_type == 'bbox'
            else [instances.rles[place] for place in which.tolist()])
  columns = [column[which].tolist() for column in (
      instances.images, instances.scores, instances.iscrowd,
      instances.areas[iou_type])]
  # Ids from 1: COCOeval takes an id of 0 for no match.
  return [
      {'id': i, 'image_id': image, 'category_id': 1, 'bbox': shape,
       'score': score, 'iscrowd': iscrowd, 'area': area}
      for i, (shape, image, score, iscrowd, area) in enumerate(
          zip(shapes, *columns, strict=True), 1)]


def _rows(arrays, max_detections, category: int | slice = _ALL):
  """The twelve numbers of COCO, of all categories or of one."""
  rows = {}
  for name, (array, iou, area, limit) in _ROWS.items():
    values = arrays[array][iou, ..., category, area, limit]
    values = values[values > -1]
    rows[name.format(max_detections)] = float(
        values.mean() if values.size else -1)
  return rows
