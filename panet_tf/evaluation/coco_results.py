"""COCO results, read strictly; `Detections.to_coco` makes them."""

import json

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
