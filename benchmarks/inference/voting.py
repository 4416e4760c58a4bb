"""Times suppression and votes of 8 x 100 detections on an 800 x 1200 image.

What a test-time suite with 8 views has to join for one image: 100 objects of
10 classes, each found 8 times, their boxes and masks jittered.

  python benchmarks/inference/voting.py [--repeats=10]
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys
import time
import tracemalloc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np

from panet_tf.inference.suite import mask_voting
from panet_tf.inference.suite import voting
from panet_tf.structures import box_masks
from panet_tf.structures import detections

_SIZE = _HEIGHT, _WIDTH = 800, 1200
_OBJECTS, _VIEWS, _CELLS = 100, 8, 28
_CLASSES = 10
_SIDES = 20, 400  # Log-uniform, pixels.
_JITTER = 0.03  # Of each edge, in sides of the box.


def _detections(worst):
  """Boxes, scores, classes and mask probabilities of all views, best first."""
  rng = np.random.default_rng(0)
  extent = np.exp(rng.uniform(*np.log(_SIDES), [_OBJECTS, 2]))
  if worst:
    extent[:] = _SIDES[1]
  low = rng.uniform(size=[_OBJECTS, 2]) * ([_HEIGHT, _WIDTH] - extent)
  boxes = np.tile(np.concatenate([low, low + extent], 1), (_VIEWS, 1))
  boxes += rng.normal(0, _JITTER, boxes.shape) * np.tile(extent, (_VIEWS, 2))
  boxes = np.clip(boxes, 0, [_HEIGHT, _WIDTH] * 2)
  classes = np.tile(rng.integers(1, _CLASSES + 1, _OBJECTS), _VIEWS)
  if worst:
    classes[:] = 1
  cell = (np.arange(_CELLS) + 0.5) / _CELLS * 2 - 1
  radius = np.hypot(cell[:, None], cell) + rng.normal(
      0, 0.05, [len(boxes), 1, 1])
  masks = 1 / (1 + np.exp(8 * (radius - 0.9)))
  masks += rng.normal(0, 0.02, masks.shape)
  scores = rng.uniform(0.05, 1, len(boxes))
  order = np.argsort(-scores)
  return (boxes[order].astype(np.float32), scores[order].astype(np.float32),
          classes[order], masks[order].clip(0, 1).astype(np.float32))


def _measure(name, run, repeats):
  """Prints a row."""
  walls, cpus = [], []
  run()
  for _ in range(repeats):
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    walls.append(1e3 * (time.perf_counter() - wall))
    cpus.append(1e3 * (time.process_time() - cpu))
  tracemalloc.start()
  run()
  peak = tracemalloc.get_traced_memory()[1] / 2 ** 20
  tracemalloc.stop()
  print(f'| {name} | {min(walls):.1f} | {statistics.median(walls):.1f} | '
        f'{min(cpus):.1f} | {statistics.median(cpus):.1f} | {peak:.1f} |',
        flush=True)


def _table(worst, repeats):
  boxes, scores, classes, masks = _detections(worst)
  found = detections.Detections(
      boxes, scores, classes, _SIZE, box_masks.BoxMasks(masks, boxes, _SIZE))
  # Without suppression, as after soft-NMS, each of the best 100 is voted for.
  best = np.arange(_OBJECTS) if worst else voting.non_max_suppression(
      found, 0.5)[:_OBJECTS]
  title = 'all 400 x 400, one class' if worst else '20 to 400 pixels'
  print(f'\n{title}: {len(best)} kept of {len(boxes)}\n\n'
        '| ms | wall best | median | CPU best | median | peak MiB |\n'
        '|---|---|---|---|---|---|')

  def vote_boxes():
    return voting.box_voting(found[best], found)

  def vote_masks():
    return mask_voting.mask_voting(found, best)

  def vote_all():
    vote_boxes()
    return vote_masks().images()

  for name, run in (
      ('NMS', lambda: voting.non_max_suppression(found, 0.5)),
      ('soft-NMS, linear', lambda: voting.soft_nms(found)),
      ('soft-NMS, gaussian', lambda: voting.soft_nms(
          found, method='gaussian')),
      ('box voting', vote_boxes)):
    _measure(name, run, repeats)
  voted = dataclasses.replace(found[best], masks=vote_masks())
  _measure('tightening', lambda: voting.tighten(voted), repeats)
  _measure('mask voting', vote_masks, repeats)
  _measure('box and mask voting, to full images', vote_all, repeats)


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--repeats', type=int, default=10)
  repeats = parser.parse_args().repeats
  for worst in (False, True):
    _table(worst, repeats)


if __name__ == '__main__':
  main()
