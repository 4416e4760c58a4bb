"""COCO results, read strictly; `Detections.to_coco` makes them."""

from panet_tf import errors
from panet_tf import files
from panet_tf.data import coco_json
from panet_tf.data import segmentation


def load_results(path, boxes_only=False):
  """The list in a COCO results file.

  Args:
    path: str, a JSON list of {image_id, category_id, score, bbox (xywh, pixels)
      and / or segmentation (RLE)}.
    boxes_only: whether `bbox` must be there, and what is neither box, score nor
      `image_id` is not looked at.

  Raises:
    InputError: no such file, not such a list, or a bad result, by its index.
  """
  try:
    results = files.read_json(path)
  except OSError as error:
    raise errors.InputError(f'{path}: {error.strerror}') from error
  except (ValueError, RecursionError) as error:
    raise errors.InputError(f'{path}: not JSON ({error!s:.80}); expected a '
                            'list of COCO results, [] for none') from error
  if not isinstance(results, list):
    raise errors.InputError(f'{path}: holds a {type(results).__name__}, '
                            'expected a list of COCO results')
  for index, result in enumerate(results):
    problem = _problem(result, boxes_only)
    if problem:
      raise errors.InputError(f'{path}: result {index}: {problem}')
  return results


def _problem(result, boxes_only):
  """What is wrong with one result, or None."""
  ids = ('image_id',) if boxes_only else ('image_id', 'category_id')
  required = (*ids, 'score', 'bbox') if boxes_only else (*ids, 'score')
  if not isinstance(result, dict):
    return f'not an object with {", ".join(required)}'
  for field in required:
    if field not in result:
      return f'no {field}'
  for field in ids:
    if not coco_json.is_id(result[field]):
      return f'{field} {result[field]!r:.60} is not an id'
  if not segmentation.is_number(result['score']):
    return f'score {result["score"]!r:.60} is not a finite number'
  if 'bbox' not in result and 'segmentation' not in result:
    return 'neither bbox nor segmentation'
  box = result.get('bbox', [0, 0, 0, 0])
  if not coco_json.is_box(box):
    return f'bbox {box!r:.60} is not four finite numbers: x, y, width, height'
  if not boxes_only and not isinstance(result.get('segmentation', {}), dict):
    return 'segmentation is not an RLE: size [height, width] and counts'
  return None
