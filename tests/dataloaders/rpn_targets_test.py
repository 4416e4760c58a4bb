"""Claims about the anchors that train the RPN, most against Model Garden."""

import functools

import numpy as np
from official.vision.ops import anchor as anchor_ops
import pytest
import tensorflow as tf

from panet_tf.dataloaders import rpn_targets

SEED = tf.constant([3, 4], tf.int64)
ALL = 10**6  # All anchors take part: nothing is a matter of luck.


@functools.cache
def generator(num_scales=1, anchor_size=4.0):
  return anchor_ops.build_anchor_generator(
      2, 6, num_scales, [0.5, 1.0, 2.0], anchor_size)


def arrays(canvas, **options):
  return {level: boxes.numpy() for level, boxes in
          generator(**options)(image_size=canvas).items()}


def random_boxes(num_boxes, canvas, seed):
  """Of all sizes and shapes, clipped to the canvas; two are the same."""
  rng = np.random.default_rng(seed)
  centers = rng.uniform(0, canvas, [num_boxes, 2])
  sizes = np.exp(rng.uniform(np.log(1), np.log(canvas), [num_boxes, 2]))
  boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], 1)
  boxes = boxes.clip(0, np.tile(canvas, 2)).astype(np.float32)
  if num_boxes > 3:
    boxes[3] = boxes[0]
  return boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)]


def both(boxes, canvas, **options):
  anchors = generator(**options)(image_size=canvas)
  theirs = anchor_ops.RpnAnchorLabeler(0.7, 0.3, ALL, 0.5).label_anchors(
      anchors, boxes, tf.ones([len(boxes), 1]))
  ours = rpn_targets.RPNTargets(arrays(canvas, **options), batch_size=ALL)(
      tf.constant(boxes), SEED)
  return ours, theirs


@pytest.mark.parametrize('num_scales, anchor_size', [(1, 4.0), (3, 2.0)])
@pytest.mark.parametrize('num_boxes', [0, 1, 5, 40])
@pytest.mark.parametrize('canvas', [(64, 64), (128, 192)])
def test_labels_and_offsets_are_model_garden_s(canvas, num_boxes, num_scales,
                                               anchor_size):
  for seed in range(4):
    boxes = random_boxes(num_boxes, canvas, seed).reshape([-1, 4])
    (scores, offsets), (their_scores, their_offsets) = both(
        boxes, canvas, num_scales=num_scales, anchor_size=anchor_size)
    assert list(scores) == list(their_scores) == list('23456')
    for level in scores:
      np.testing.assert_array_equal(scores[level], their_scores[level])
      np.testing.assert_allclose(
          offsets[level], their_offsets[level], atol=1e-6)


@pytest.mark.parametrize('box', [
    (0, 0, 64, 64), (30, 30, 30.5, 30.5), (0, 0, 1, 64), (63, 0, 64, 64),
    (0, 0, 0.25, 0.25)])
def test_the_largest_smallest_and_thinnest_have_their_favourite(box):
  (scores, _), (theirs, _) = both(np.float32([box]), (64, 64))
  assert sum(np.sum(s == 1) for s in scores.values()) >= 1
  for level in scores:
    np.testing.assert_array_equal(scores[level], theirs[level])


def test_boxes_are_compared_everywhere_where_bounds_do_not_suffice():
  """An anchor grid so sparse that an object's own level has nothing for it."""
  canvas, boxes = (64, 64), np.float32([[0, 0, 3, 3], [20, 20, 44, 44]])
  anchors = arrays(canvas)
  far = {level: a + 1000 if level == '2' else a for level, a in anchors.items()}
  targets = rpn_targets.RPNTargets(far, batch_size=ALL)
  scores, _ = targets(tf.constant(boxes), SEED)
  flat = np.concatenate([a.reshape([-1, 4]) for a in far.values()])
  iou = slow_iou(flat, boxes)
  expected = np.full(len(flat), -1)
  expected[iou.max(1) < 0.3] = 0
  expected[iou.max(1) >= 0.7] = 1
  expected[iou.argmax(0)] = 1
  np.testing.assert_array_equal(
      np.concatenate([np.ravel(s) for s in scores.values()]), expected)


def slow_iou(anchors, boxes):
  result = np.zeros([len(anchors), len(boxes)])
  for i, a in enumerate(anchors):
    for j, b in enumerate(boxes):
      height = max(0, min(a[2], b[2]) - max(a[0], b[0]))
      width = max(0, min(a[3], b[3]) - max(a[1], b[1]))

      def area(c):
        return (c[2] - c[0]) * (c[3] - c[1])

      result[i, j] = height * width / (area(a) + area(b) - height * width)
  return result


def drawn(batch_size, seed, boxes=((8, 8, 40, 40), (20, 30, 60, 62))):
  targets = rpn_targets.RPNTargets(arrays((64, 64)), batch_size=batch_size)
  scores, _ = targets(tf.constant(boxes, tf.float32),
                      tf.constant(seed, tf.int64))
  return np.concatenate([np.ravel(s) for s in scores.values()])


@pytest.mark.parametrize('batch_size', [2, 8, 64])
def test_at_most_half_of_the_drawn_are_foreground(batch_size):
  scores, everything = drawn(batch_size, [1, 2]), drawn(ALL, [1, 2])
  foreground = min(batch_size // 2, np.sum(everything == 1))
  assert np.sum(scores == 1) == foreground
  assert np.sum(scores == 0) == batch_size - foreground
  for value in (0, 1):
    assert (everything[scores == value] == value).all()


def test_a_seed_fixes_the_draw_and_all_anchors_have_their_turn():
  np.testing.assert_array_equal(drawn(64, [1, 2]), drawn(64, [1, 2]))
  everything = drawn(ALL, [0, 0])
  times = sum(drawn(128, [i, 9]) >= 0 for i in range(100))
  background = times[everything == 0]
  expected = 100 * (128 - np.sum(everything == 1)) / background.size
  assert abs(background.mean() - expected) < 1e-6
  # Binomial: a deviation of 5.5 sigma would be one in 10**7.
  assert np.abs(background - expected).max() < 5.5 * expected**0.5 + 1
