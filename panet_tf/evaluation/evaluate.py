"""From a predictions file and its annotations to the tables of section 4.

These are mask AP and box AP, overall, at IoU 0.5 and 0.75, by object size.
"""

import os

from panet_tf import errors
from panet_tf import files
from panet_tf.data import coco_json
from panet_tf.data import coco_results
from panet_tf.evaluation import cityscapes
from panet_tf.evaluation import coco


def evaluate_predictions(predictions_path, annotations_path, output_dir,
                         max_detections=100, cityscapes_root=''):
  """Prints the tables and writes `{output_dir}/metrics.json`.

  By COCO's rules masks are scored when results and annotations have them.

  Args:
    predictions_path: str, COCO results JSON.
    annotations_path: str, COCO instances JSON; all its images are evaluated.
    output_dir: str, made if needed.
    max_detections: int, the results counted per image and category.
    cityscapes_root: str, folder with gtFine: AP and AP50 by Cityscapes' rules
      instead, of all results, which must have masks.

  Returns:
    What `coco.coco_metrics` or `cityscapes.cityscapes_metrics` gives.

  Raises:
    InputError: a file is missing or malformed, the two do not match,
      `max_detections` is below 1, or `output_dir` cannot be written.
  """
  if max_detections < 1 and not cityscapes_root:
    raise errors.InputError(
        f'--max_detections is {max_detections}; it must be at least 1')
  files.make_folder(output_dir)
  ground_truth = coco_json.read(annotations_path)
  results = coco_results.load_results(predictions_path)
  if cityscapes_root:
    metrics = cityscapes.cityscapes_metrics(
        cityscapes_root, ground_truth, results)
    print(cityscapes.table(metrics))
  else:
    metrics = coco.coco_metrics(
        ground_truth, results, max_detections=max_detections,
        include_mask=_have_masks(results) and _have_masks(
            ground_truth['annotations']))
    print(f'{len(results)} results, {len(ground_truth["images"])} images, '
          f'{len(ground_truth["annotations"])} annotations')
    for kind, rows in metrics.items():
      print(_table(kind, rows))
  files.write_json(os.path.join(output_dir, 'metrics.json'), metrics)
  return metrics


def _have_masks(items):
  """Whether any has a mask; no items at all do not speak against masks."""
  return not items or any(item.get('segmentation') for item in items)


def _table(kind, rows):
  """Two lines: names, and percentages; a dash where there is no truth."""
  cells = ['-' if value < 0 else f'{100 * value:.1f}'
           for value in rows.values()]
  widths = [max(6, len(name) + 1) for name in rows]
  return '\n'.join(
      f'{head:<5}' + ''.join(
          f'{text:>{width}}' for text, width in zip(texts, widths, strict=True))
      for head, texts in (('', rows), (kind, cells)))
