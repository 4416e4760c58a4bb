"""COCO results: reading them, and writing detections as such."""

import json

import numpy as np

from panet_tf import errors
from panet_tf.data import segmentation


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
  except (ValueError, RecursionError) as error:
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
    value = result[field]
    if not (segmentation.is_int(value) or isinstance(value, str)):
      return f'{field} {value!r:.60} is not an id'
  if not segmentation.is_number(result['score']):
    return f'score {result["score"]!r:.60} is not a finite number'
  if 'bbox' not in result and 'segmentation' not in result:
    return 'neither bbox nor segmentation'
  box = result.get('bbox', [0, 0, 0, 0])
  if not (isinstance(box, list) and len(box) == 4
          and all(map(segmentation.is_number, box))):
    return f'bbox {box!r:.60} is not four finite numbers: x, y, width, height'
  if not isinstance(result.get('segmentation', {}), dict):
    return 'segmentation is not an RLE: size [height, width] and counts'
  return None


def check_labels(labels, image_id, category_ids):
  """Raises InputError for a label [N], from 1, that has no category id."""
  strange = labels[(labels < 1) | (labels > len(category_ids))]
  if strange.size:
    raise errors.InputError(f'image {image_id}: label {strange[0]} has no '
                            f'category; there are {len(category_ids)}')


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
  check_labels(labels, image_id, category_ids)
  y1, x1, y2, x2 = np.asarray(boxes, np.float64).reshape(-1, 4).T
  boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(3).tolist()
  scores = np.asarray(scores, np.float64).round(6).tolist()
  results = [
      {'image_id': image_id, 'category_id': category_ids[label - 1],
       'bbox': box, 'score': score}
      for box, score, label in zip(boxes, scores, labels, strict=True)]
  for result, rle in zip(results, rles or [], strict=False):
    result['segmentation'] = rle
  return results
