"""Times COCO evaluation, from a model's arrays to AP, against the usual ways.

Synthetic ground truth with COCO's statistics, 100 detections of 28 x 28 mask
probabilities per image. Every run is a process of its own; they take turns.

  python benchmarks/output/evaluation.py [--num_images=500] [--repeats=1]
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
from pycocotools import mask as mask_utils

_DETECTIONS, _CELLS, _BATCH, _SCALE = 100, 28, 8, 1.5
_CATEGORIES = 80
# COCO val2017: a third are people; the others fall off slowly.
_FREQUENCY = np.concatenate([[0.3], 0.7 * np.arange(2, _CATEGORIES + 1)**-0.6
                             / (np.arange(2, _CATEGORIES + 1)**-0.6).sum()])
# Log-normal sqrt(area) with 41 % below 32 and 76 % below 96 pixels.
_LOG_MEAN, _LOG_STD = 3.733, 1.176
_FILL = 0.65  # Of a box by its mask.
_HARMONICS = np.arange(2, 5)
_GRID = (np.arange(_CELLS) + 0.5) / _CELLS * 2 - 1
_ANGLE = np.arctan2(_GRID[:, None], _GRID)
_DISTANCE = np.hypot(_GRID[:, None], _GRID)


def _size(number):
  return (480, 640) if number % 4 else (640, 480)


def _objects(rng, count, height, width):
  """Boxes [N, 4] yxyx, and outlines [N, 2, 3]: amplitudes and phases."""
  side = np.exp(rng.normal(_LOG_MEAN, _LOG_STD, count)) / _FILL**0.5
  aspect = np.exp(rng.normal(0, 0.35, count))
  extent = np.stack([side * aspect, side / aspect], 1)
  extent = np.clip(extent, 4, [height - 1, width - 1])
  corner = rng.uniform(size=(count, 2)) * ([height, width] - extent)
  outlines = np.stack([rng.uniform(0, 0.12, (count, 3)),
                       rng.uniform(0, 2 * np.pi, (count, 3))], 1)
  return np.concatenate([corner, corner + extent], 1), outlines


def _radius(outlines, angle):
  """Radius of each outline [N, ..] at the angles [..]: 1 reaches the box."""
  amplitude, phase = outlines[:, 0], outlines[:, 1]
  turns = _HARMONICS[:, None] * angle.reshape(-1)
  waves = np.concatenate(
      [amplitude * np.cos(phase), -amplitude * np.sin(phase)], 1
  ) @ np.concatenate([np.cos(turns), np.sin(turns)])
  waves -= amplitude.sum(1)[:, None]
  return (1 + waves).reshape(-1, *angle.shape)


def _truth(number):
  """Boxes, outlines and categories of one image, and its random generator."""
  rng = np.random.default_rng(number)
  count = rng.poisson(rng.gamma(1.2, 7.3 / 1.2))
  boxes, outlines = _objects(rng, count, *_size(number))
  categories = rng.choice(_CATEGORIES, count, p=_FREQUENCY)
  for i in range(1, count):  # Things come in groups.
    if rng.uniform() < 0.6:
      categories[i] = categories[i - 1]
  return boxes, outlines, categories, rng


def _run_lengths(rle):
  """An RLE as COCO's JSON has those of crowds."""
  pixels = mask_utils.decode(rle).reshape(-1, order='F')
  edges = np.flatnonzero(np.diff(pixels, prepend=np.uint8(0)))
  return {'size': rle['size'],
          'counts': np.diff([0, *edges, pixels.size]).tolist()}


def ground_truth(num_images):
  """A COCO data set: polygons, and run lengths for the 1 % crowds."""
  annotations = []
  angle = np.linspace(0, 2 * np.pi, 25)[:-1]
  for number in range(1, num_images + 1):
    boxes, outlines, categories, _ = _truth(number)
    height, width = _size(number)
    radius = _radius(outlines, angle)
    for box, r, category in zip(boxes, radius, categories, strict=True):
      y1, x1, y2, x2 = box.tolist()
      polygon = np.stack([
          (x1 + x2) / 2 + r * np.cos(angle) * (x2 - x1) / 2,
          (y1 + y2) / 2 + r * np.sin(angle) * (y2 - y1) / 2], 1).reshape(-1)
      rle, = mask_utils.frPyObjects([polygon.tolist()], height, width)
      crowd = len(annotations) % 100 == 99
      annotations.append({
          'id': len(annotations) + 1, 'image_id': number, 'iscrowd': int(crowd),
          'category_id': int(category) + 1, 'bbox': [x1, y1, x2 - x1, y2 - y1],
          'area': float(mask_utils.area(rle)),
          'segmentation': _run_lengths(rle) if crowd else [
              polygon.round(2).tolist()]})
  return {
      'images': [{'id': i, 'height': _size(i)[0], 'width': _size(i)[1]}
                 for i in range(1, num_images + 1)],
      'categories': [{'id': i + 1, 'name': f'category {i + 1}'}
                     for i in range(_CATEGORIES)],
      'annotations': annotations}


def _detections(number):
  """One image's arrays: shaken objects, some twice, and false alarms."""
  boxes, outlines, categories, rng = _truth(number)
  height, width = _size(number)
  copies = np.repeat(np.arange(len(boxes)), rng.integers(
      0, 4, len(boxes)))[:_DETECTIONS]
  others = _DETECTIONS - len(copies)
  shift = rng.normal(0, 1, (len(copies), 4)) * rng.exponential(
      0.06, (len(copies), 1))
  extent = boxes[copies, 2:] - boxes[copies, :2]
  more_boxes, more_outlines = _objects(rng, others, height, width)
  boxes = np.concatenate([
      boxes[copies] + shift * np.tile(extent, 2), more_boxes])
  boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
  boxes = np.clip(boxes, 0, [height, width, height, width])
  outlines = np.concatenate([outlines[copies], more_outlines])
  nearby = np.concatenate([categories, rng.choice(
      _CATEGORIES, 3, p=_FREQUENCY)])
  scores = np.concatenate([rng.beta(4, 2, len(copies)),
                           rng.beta(1, 6, others)])
  order = np.argsort(-scores)
  labels = 1 + np.concatenate([categories[copies], rng.choice(nearby, others)])
  inside = _radius(outlines, _ANGLE) - _DISTANCE
  logits = 15 * inside + rng.standard_normal(inside.shape, np.float32)
  return {
      'source_id': np.int64(number),
      'image_info': np.array([[height, width], [960, 960],
                              [_SCALE, _SCALE], [0, 0]], np.float32),
      'num_detections': np.int32(_DETECTIONS),
      'detection_boxes': (boxes * _SCALE).astype(np.float32)[order],
      'detection_scores': scores.astype(np.float32)[order],
      'detection_classes': labels.astype(np.int32)[order],
      'detection_masks': (1 / (1 + np.exp(-logits))).astype(np.float32)[order]}


def batches(num_images):
  for first in range(1, num_images + 1, _BATCH):
    images = [_detections(number) for number in range(
        first, min(first + _BATCH, num_images + 1))]
    yield {key: np.stack([image[key] for image in images])
           for key in images[0]}


class Watch:
  """Seconds by part."""

  def __init__(self):
    self.seconds = {}

  @contextlib.contextmanager
  def part(self, name):
    start = time.perf_counter()
    yield
    self.seconds[name] = (
        self.seconds.get(name, 0) + time.perf_counter() - start)

  def wrap(self, owner, attribute, name):
    function = getattr(owner, attribute)

    def timed(*args, **kwargs):
      with self.part(name):
        return function(*args, **kwargs)

    setattr(owner, attribute, timed)


def run_ours(num_images, watch):
  """panet_tf's evaluator."""
  import faster_coco_eval

  from panet_tf.evaluation import coco
  from panet_tf.evaluation import coco_evaluator
  assert 'tensorflow' not in sys.modules
  for name in 'evaluate', 'accumulate':
    watch.wrap(faster_coco_eval.COCOeval_faster, name, name)
  truth = ground_truth(num_images)
  evaluator = coco_evaluator.CocoEvaluator(
      truth, include_mask=True, max_detections=_DETECTIONS,
      category_ids=range(1, _CATEGORIES + 1))
  for batch in batches(num_images):
    with watch.part('masks'):
      evaluator.update_state(None, batch)
  with watch.part('rest'):
    metrics = coco.coco_metrics(truth, evaluator.instances())
  return [[*metrics[kind].values()] for kind in ('box', 'mask')]


def paste(mask, box, height, width):
  """A box's mask on a canvas, every pixel of the box sampled."""
  canvas = np.zeros((height, width), np.uint8, order='F')
  pixels, samples = [], []
  for low, high, size in zip(box[:2], box[2:], (height, width), strict=True):
    first, end = np.clip(np.ceil([low - 0.5, high - 0.5]), 0, size).astype(int)
    where = (np.arange(first, end) + 0.5 - low) / (high - low) * _CELLS - 0.5
    where = np.clip(where, 0, _CELLS - 1)
    below = where.astype(int)
    pixels.append(slice(first, end))
    samples.append((below, np.minimum(below + 1, _CELLS - 1), where - below))
  (top, bottom, v), (left, right, u) = samples
  v = v[:, None]
  rows = mask[top] * (1 - v) + mask[bottom] * v
  canvas[tuple(pixels)] = (
      rows[:, left] * (1 - u) + rows[:, right] * u) >= 0.5
  return canvas


def run_pycocotools(num_images, watch):
  """The same masks on full canvases, and pycocotools."""
  from pycocotools import coco
  from pycocotools import cocoeval
  for name in 'evaluate', 'accumulate':
    watch.wrap(cocoeval.COCOeval, name, name)
  truth = coco.COCO()
  truth.dataset = ground_truth(num_images)
  truth.createIndex()
  results = []
  for batch in batches(num_images):
    with watch.part('masks'):
      for index, number in enumerate(batch['source_id'].tolist()):
        image = {key: value[index] for key, value in batch.items()}
        boxes = image['detection_boxes'].astype(np.float64) / _SCALE
        height, width = _size(number)
        boxes = np.clip(boxes, 0, [height, width, height, width])
        rles = [mask_utils.encode(paste(mask, box, height, width))
                for mask, box in zip(
                    image['detection_masks'], boxes, strict=True)]
        results += [
            {'image_id': number, 'category_id': int(label),
             'bbox': [x1, y1, x2 - x1, y2 - y1], 'score': float(score),
             'segmentation': rle}
            for (y1, x1, y2, x2), score, label, rle in zip(
                boxes.tolist(), image['detection_scores'],
                image['detection_classes'], rles, strict=True)]
  stats = []
  for iou_type in 'bbox', 'segm':
    with watch.part('rest'):
      if iou_type == 'segm':  # pycocotools takes a box's area otherwise.
        for result in results:
          del result['bbox']
      evaluation = cocoeval.COCOeval(truth, truth.loadRes(results), iou_type)
      evaluation.evaluate()
      evaluation.accumulate()
      evaluation.summarize()
    stats.append(evaluation.stats.tolist())
  return stats


def run_model_garden(num_images, watch):
  """Model Garden's COCOEvaluator: another paste, by OpenCV; pycocotools."""
  from official.vision.evaluation import coco_evaluator
  from official.vision.evaluation import coco_utils
  from pycocotools import cocoeval
  import tensorflow as tf
  for name in 'evaluate', 'accumulate':
    watch.wrap(cocoeval.COCOeval, name, name)
  watch.wrap(coco_utils, 'convert_predictions_to_coco_annotations', 'masks')
  with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, 'truth.json')
    with open(path, 'w', encoding='utf-8') as file:
      json.dump(ground_truth(num_images), file)
    evaluator = coco_evaluator.COCOEvaluator(path, include_mask=True)
  for batch in batches(num_images):
    batch = {key: tf.constant(value) for key, value in batch.items()}
    with watch.part('rest'):
      evaluator.update_state({}, batch)
  with watch.part('rest'):
    metrics = list(evaluator.result().values())
  return [np.array(metrics[i:i + 12], float).tolist() for i in (0, 12)]


CONTESTANTS = {'panet_tf': run_ours, 'pycocotools': run_pycocotools,
               'Model Garden': run_model_garden}


def run_one(name, num_images):
  """One contestant; its figures as JSON in the last line."""
  watch = Watch()
  with contextlib.redirect_stdout(io.StringIO()):
    metrics = CONTESTANTS[name](num_images, watch)
  seconds = watch.seconds
  seconds['total'] = seconds['rest'] + (
      0 if name == 'Model Garden' else seconds['masks'])
  seconds['build'] = seconds['total'] - sum(
      seconds[part] for part in ('masks', 'evaluate', 'accumulate'))
  # Not `getrusage`: a child starts there with the peak of its parent.
  status = pathlib.Path('/proc/self/status').read_text()
  peak = int(re.search(r'VmHWM:\s*(\d+) kB', status).group(1)) / 2**20
  print(json.dumps({'seconds': seconds, 'GiB': peak, 'metrics': metrics}))


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--num_images', type=int, default=500)
  parser.add_argument('--repeats', type=int, default=1)
  parser.add_argument('--contestants', nargs='+', default=list(CONTESTANTS))
  parser.add_argument('--one', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    run_one(args.one, args.num_images)
    return
  areas = np.array([annotation['area'] for annotation in ground_truth(
      args.num_images)['annotations']])
  print(f'{args.num_images} images, {len(areas)} objects: '
        f'{(areas < 32**2).mean():.0%} small, {(areas > 96**2).mean():.0%} '
        f'large; {args.num_images * _DETECTIONS} detections')
  runs = {name: [] for name in args.contestants}
  for _ in range(args.repeats):
    for name in runs:
      output = subprocess.run(
          [sys.executable, __file__, '--one', name, '--num_images',
           str(args.num_images)], check=True, capture_output=True, text=True)
      runs[name].append(json.loads(output.stdout.splitlines()[-1]))
  parts = ('masks', 'build', 'evaluate', 'accumulate', 'total')
  print('\n| |', ' | '.join(parts), '| total / first | peak GiB | AP box | '
        'AP mask |\n' + '|---' * 10 + '|')

  def median(name, part):
    return statistics.median(run['seconds'][part] for run in runs[name])

  first = args.contestants[0]
  for name, found in runs.items():
    ratio = statistics.median(
        a['seconds']['total'] / b['seconds']['total']
        for a, b in zip(found, runs[first], strict=True))
    boxes, masks = found[0]['metrics']
    print(f'| {name} |', ' | '.join(f'{median(name, p):.1f}' for p in parts),
          f'| {ratio:.1f} | {max(run["GiB"] for run in found):.2f} '
          f'| {boxes[0]:.6f} | {masks[0]:.6f} |')
  for name, found in runs.items():
    difference = np.abs(np.array(found[0]['metrics'])
                        - runs[first][0]['metrics']).max()
    print(f'{name}: the 24 figures differ by at most {difference:.1e}')


if __name__ == '__main__':
  main()
