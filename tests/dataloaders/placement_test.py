"""Stored proposals go where their image goes, as ground-truth boxes do."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support import tiny


def slow_boxes(boxes, info, horizontal, vertical, most, legacy=False):
  """NumPy twin: one box and one edge at a time."""
  size, visible, scale, offset = np.float64(info)
  placed = []
  for box in np.float64(boxes):
    edges = []
    for axis, mirrored in ((0, vertical), (1, horizontal)):
      start, end = box[axis], box[axis + 2]
      if mirrored:
        start, end = size[axis] - end, size[axis] - start
      start *= scale[axis]
      end = (end - 1) * scale[axis] + 1 if legacy else end * scale[axis]
      edges.append(np.clip([start - offset[axis], end - offset[axis]], 0,
                           visible[axis]))
    (y1, y2), (x1, x2) = edges
    if y2 > y1 and x2 > x1:
      placed.append([y1, x1, y2, x2])
  return np.array(placed + [[0] * 4] * most)[:most]


@pytest.mark.parametrize('legacy', [False, True])
def test_boxes_go_with_the_image_through_training(legacy):
  model = tiny.params(stages='detector', legacy_boxes=legacy)
  parser = tiny.parser(
      model, aug_rand_hflip=True, aug_rand_vflip=True, aug_scale_min=0.7,
      aug_scale_max=1.8)
  boxes = np.concatenate([
      np.float32([[0, 0, 48, 64], [5, 5, 5, 9], [3, 4, 20, 60],
                  [-9, 30, 70, 99]]),
      np.float32([[y, x, y + 9, x + 11] for y in (1, 20, 35)
                  for x in (0, 18, 50)])])
  seen = set()
  for seed in range(12):
    example, _ = tiny.example(seed=1)
    example['random_seed'] = tf.constant([seed, 3], tf.int64)
    example['proposals'] = tf.constant(boxes)
    _, labels = parser.parse_fn(True)(example)
    found = labels['proposals'].numpy()
    assert found.shape == (32, 4)
    twins = {(h, v): slow_boxes(boxes, labels['image_info'], h, v, 32, legacy)
             for h in (0, 1) for v in (0, 1)}
    fits = [flips for flips, twin in twins.items()
            if np.abs(found - twin).max() < 1e-3]
    assert len(fits) == 1
    seen.update(fits)
    # The ground truth took the same way.
    plain = tiny.parser(
        tiny.params(legacy_boxes=legacy), aug_rand_hflip=True,
        aug_rand_vflip=True,
        aug_scale_min=0.7, aug_scale_max=1.8).parse_fn(True)(example)[1]
    np.testing.assert_array_equal(labels['gt_boxes'], plain['gt_boxes'])
    np.testing.assert_array_equal(labels['image_info'], plain['image_info'])
    assert 'rpn_score_targets' not in labels
  assert len(seen) == 4


def test_boxes_go_with_the_image_through_evaluation():
  parser = tiny.parser(tiny.params(stages='detector'), is_training=False)
  example, _ = tiny.example(height=100, width=50)
  boxes = np.float32([[10, 5, 90, 45], [0, 0, 0, 0], [50, 10, 200, 60]])
  _, labels = parser.parse_fn(False)(dict(
      example, proposals=tf.constant(boxes)))
  found = labels['proposals'].numpy()
  np.testing.assert_allclose(
      found, slow_boxes(boxes, labels['image_info'], 0, 0, 24), atol=1e-4)
  assert (found[:2, 2:] > found[:2, :2]).all() and not found[2:].any()
