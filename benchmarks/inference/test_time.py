"""AP and time of test-time suites beside one plain run of the model.

  python benchmarks/inference/test_time.py --model=runs/nuclei \
      [--model=runs/other] --images='nuclei/val/*' \
      --annotations=instances_val.json --scales 0.75 1 1.25 1.5

Rows after the first add one thing to the plain model each; "full" has all of
them. "of its passes" is the time of a row divided by what plain runs of the
same copies take, one Predictor per scale, in the same process and image by
image in turn.
"""

import argparse
import json
import os
import time

import tqdm

from panet_tf.cli import front_end  # noqa: F401 - its import keeps TensorFlow quiet

# isort: split
from panet_tf.configs import overrides
from panet_tf.data import coco_json
from panet_tf.data import image_bytes
from panet_tf.evaluation import coco
from panet_tf.inference import open_model
from panet_tf.prediction import image_files
from panet_tf.prediction import outputs


def rows(scales, num_models, scoring):
  """Name of each row, its options, and how many models it has."""
  multi = {'scales': scales}
  both = {'flip': True, **multi}
  boxes = {'box_voting': True, 'box_voting_scoring': scoring}
  masks = {'mask_voting': True}
  made = [
      ('plain', {}, 1),
      ('+ flip', {'flip': True}, 1),
      ('+ multi-scale', multi, 1),
      ('+ multi-scale + flip', both, 1),
      ('+ box voting', {**both, **boxes}, 1),
      ('+ mask voting', {**both, **masks}, 1),
      ('+ tightened boxes', {**both, 'tighten_boxes': True}, 1),
      ('soft-NMS, linear', {'soft_nms': 'linear'}, 1),
      ('full', {**both, **boxes, **masks, 'tighten_boxes': True}, 1),
      ('full without tightening', {**both, **boxes, **masks}, 1)]
  if num_models > 1:
    made += [('second model, plain', {}, -1),
             ('ensemble, mean', {}, num_models),
             ('ensemble, voting', {'ensemble_merge': 'voting'}, num_models),
             ('full, ensemble', {**both, **boxes, **masks}, num_models)]
  return made


def _open(models, options, extra=''):
  override = json.dumps({'task': {'inference': options}})
  return open_model.open_model(
      models, overrides.Overrides(params_override=override))


def _passes(model, scales, flip):
  """Plain models that see an image as each scale does."""
  one = [_open(model, {'scales': [scale]} if scale != 1 else {})
         for scale in scales or [1]]
  return one * (2 if flip else 1)


def measure(detector, paths, ids, categories, passes):
  """COCO results; seconds of the detector and of plain passes per image."""
  results, seconds, plain = [], 0.0, 0.0
  seen = set()
  for path in tqdm.tqdm(paths, unit='image', mininterval=5.0):
    image = image_bytes.read_rgb(path)
    if image.shape not in seen:  # Tracing and compilation are not timed.
      seen.add(image.shape)
      for one in (detector, *passes):
        one.detect(image)
    start = time.perf_counter()
    found = detector.detect(image)
    middle = time.perf_counter()
    for one in passes:
      one.detect(image)
    plain += time.perf_counter() - middle
    seconds += middle - start
    results += outputs.results(
        found, ids[os.path.basename(path)], *image.shape[:2], categories)
  return results, seconds / len(paths), plain / len(paths)


def main():
  """Prints a Markdown table, a row at a time."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', action='append', required=True)
  parser.add_argument('--images', required=True)
  parser.add_argument('--annotations', required=True)
  parser.add_argument('--scales', type=float, nargs='+', required=True)
  parser.add_argument('--scoring', default='identity')
  parser.add_argument('--only', default='', help='rows whose name has this')
  parser.add_argument('--time', action='store_true',
                      help='plain passes beside each row')
  args = parser.parse_args()
  truth = coco_json.read(args.annotations)
  ids = {os.path.basename(image['file_name']): image['id']
         for image in truth['images']}
  paths = [path for path in image_files.image_paths(args.images)
           if os.path.basename(path) in ids]
  print('| | mask AP | AP50 | AP75 | box AP | s/image | of its passes |\n'
        '|---|---|---|---|---|---|---|')
  for name, options, count in rows(
      args.scales, len(args.model), args.scoring):
    if args.only not in name:
      continue
    models = args.model[-1:] if count < 0 else args.model[:count]
    detector = _open(models, options)
    passes = []
    if args.time:
      for model in models:
        passes += _passes(
            model, options.get('scales'), options.get('flip'))
    categories = [category['id'] for category in detector.categories]
    results, seconds, plain = measure(detector, paths, ids, categories, passes)
    metrics = coco.coco_metrics(truth, results, include_mask=True)
    mask = metrics['mask']
    print(f'| {name} | {mask["AP"]:.4f} | {mask["AP50"]:.4f} | '
          f'{mask["AP75"]:.4f} | {metrics["box"]["AP"]:.4f} | {seconds:.3f} | '
          + (f'{seconds / plain:.2f} |' if passes else '|'), flush=True)


if __name__ == '__main__':
  main()
