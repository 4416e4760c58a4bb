"""Pairs against a brute-force twin; IoUs with known answers."""

import itertools

import numpy as np
import pytest

from panet_tf.serving.verification import matching
from panet_tf.structures import detections as detections_lib
from panet_tf.structures import paste_masks

_SIZE = (50, 60)


def detections(boxes, scores=None, classes=None, masks=None):
  count = len(boxes)
  outputs = {
      'detection_boxes': np.array(boxes, np.float32).reshape(-1, 4),
      'detection_scores': np.array(
          [0.9] * count if scores is None else scores, np.float32),
      'detection_classes': np.array(
          [1] * count if classes is None else classes, np.int32)}
  if masks is not None:
    outputs['detection_masks'] = np.asarray(masks)
  return detections_lib.Detections.from_outputs(outputs, _SIZE)


def _slow_iou(a, b):
  def area(y1, x1, y2, x2):
    return max(y2 - y1, 0) * max(x2 - x1, 0)

  overlap = area(max(a[0], b[0]), max(a[1], b[1]),
                 min(a[2], b[2]), min(a[3], b[3]))
  return overlap / (area(*a) + area(*b) - overlap)


def _slow_pairs(likeness):
  """The best of all one-to-one assignments, one after the other."""
  rows, columns = likeness.shape
  best, best_sum = set(), 0.0
  for size in range(min(rows, columns) + 1):
    for chosen in itertools.combinations(range(rows), size):
      for others in itertools.permutations(range(columns), size):
        values = [likeness[pair] for pair in zip(chosen, others, strict=False)]
        if all(v > 0 for v in values) and sum(values) > best_sum:
          best, best_sum = set(zip(chosen, others, strict=False)), sum(values)
  return best


def _slow_pair(a, b):
  """`matching.pair` from its description."""
  def likeness(taken, one_class):
    found = np.zeros((len(a), len(b)))
    for i, j in np.ndindex(*found.shape):
      iou = _slow_iou(*(d.boxes[k].astype(float)
                        for d, k in ((a, i), (b, j))))
      equal = a.labels[i] == b.labels[j]
      free = all(i != k and j != m for k, m in taken)
      if iou >= 0.5 and equal == one_class and free:
        found[i, j] = iou - 0.1 * abs(
            float(a.scores[i]) - float(b.scores[j]))
    return found

  same = _slow_pairs(likeness((), True))
  return same, _slow_pairs(likeness(same, False))


def _crowd(rng, count):
  """Boxes that overlap each other a lot, of three classes."""
  low = rng.uniform(0, 6, (count, 2))
  return detections(
      np.concatenate([low, low + rng.uniform(8, 14, (count, 2))], 1),
      rng.uniform(size=count), rng.integers(1, 4, count))


def test_pairs_equal_the_brute_force_twin():
  rng = np.random.default_rng(0)
  seen = 0
  for _ in range(100):
    a, b = (_crowd(rng, rng.integers(0, 5)) for _ in range(2))
    same, changed = matching.pair(a, b)
    expected = _slow_pair(a, b)
    assert (set(map(tuple, same)), set(map(tuple, changed))) == expected
    seen += bool(expected[0]) and bool(expected[1])
  assert seen > 10  # Both kinds in one image.


def test_box_ious_equal_the_slow_twin():
  rng = np.random.default_rng(1)
  a, b = (_crowd(rng, 6).boxes for _ in range(2))
  np.testing.assert_allclose(
      matching.box_ious(a, b),
      [[_slow_iou(*map(np.float64, pair)) for pair in zip(
            [x] * 6, b, strict=False)]
       for x in a], rtol=1e-12)


def test_a_box_clipped_to_nothing_is_itself_and_no_other():
  boxes = [[0, 5, 0, 9], [0, 5, 0, 9.3], [3, 3, 3, 3]]
  np.testing.assert_array_equal(matching.box_ious(boxes, boxes), np.eye(3))


def test_scores_tell_two_boxes_at_one_place_apart():
  box = [10, 10, 30, 30]
  nearly = [10, 10, 30, 30.01]
  a = detections([box, nearly], [0.9, 0.5])
  b = detections([box, nearly], [0.5, 0.9])  # Rounding swapped the boxes.
  same, changed = matching.pair(a, b)
  assert set(map(tuple, same)) == {(0, 1), (1, 0)} and not len(changed)


def test_a_pair_of_one_class_comes_before_a_better_box_of_another():
  a = detections([[0, 0, 10, 10]], classes=[1])
  b = detections([[0, 0, 10, 10], [0, 0, 10, 8]], classes=[2, 1])
  same, changed = matching.pair(a, b)
  assert same.tolist() == [[0, 1]] and not len(changed)


def _mask_iou(first, second, boxes=([4, 6, 32, 34],) * 2):
  return matching.mask_ious(
      *(detections([box], masks=[mask])
        for mask, box in zip((first, second), boxes, strict=False)))[0]


def _cells(count, probability=1.0):
  mask = np.zeros(784, np.float32)
  mask[:count] = probability
  return mask.reshape(28, 28)


def test_every_cell_counts_where_the_boxes_are_the_same():
  # A box of 7 pixels: pasted, no pixel sees most of the cells.
  box = [[4, 6, 11, 13]] * 2
  assert _mask_iou(_cells(392), _cells(391), box) == 391 / 392
  assert _mask_iou(_cells(391), _cells(392), box) == 391 / 392
  assert _mask_iou(_cells(10), _cells(0), box) == 0
  assert _mask_iou(_cells(0), _cells(0), box) == 1


def test_a_cell_that_rounding_moves_over_the_threshold_is_no_difference():
  first = _cells(300)
  for own, other, expected in ((0.49999, 0.50001, 1), (0.50001, 0.49999, 1),
                               (0.4998, 0.5, 300 / 301),
                               (0.5002, 0.4999, 300 / 301)):
    a, b = first.copy(), first.copy()
    a[27, 27], b[27, 27] = own, other
    assert _mask_iou(a, b) == expected


def test_masks_of_moved_boxes_are_compared_in_the_image():
  """A full mask of 28 x 28 pixels moved by 7: 21 of 35 columns are shared."""
  boxes = [4, 6, 32, 34], [4, 13, 32, 41]
  assert _mask_iou(_cells(784), _cells(784), boxes) == pytest.approx(21 / 35)
  beyond = [4, 46, 32, 74], [4, 53, 32, 81]  # The image ends at 60.
  assert _mask_iou(_cells(784), _cells(784), beyond) == pytest.approx(7 / 14)


def test_masks_of_the_whole_image_are_compared_with_pasted_ones():
  box = [4, 6, 39, 41]
  smooth = np.random.default_rng(2).uniform(size=(7, 7)).repeat(
      4, 0).repeat(4, 1).astype(np.float32)
  whole = paste_masks.paste_mask(smooth, box, 50, 60).astype(bool)
  assert _mask_iou(smooth, whole, (box, box)) == 1
  wrong = whole.copy()
  wrong[0, 0] = True
  count = whole.sum()
  assert _mask_iou(smooth, wrong, (box, box)) == count / (count + 1)
