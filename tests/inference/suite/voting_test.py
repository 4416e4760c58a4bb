"""Suppression and box votes: drawn boxes by hand, random ones by slow twins."""

import math

import numpy as np
import pytest

from panet_tf.configs import inference as inference_config
from panet_tf.inference.suite import voting
from panet_tf.structures import detections
from panet_tf.structures import mask_windows

pytestmark = pytest.mark.filterwarnings('error')


def _of(boxes, scores, classes):
  return detections.Detections(boxes, scores, classes, (20, 20))


# Rectangles from the origin, 10 high: their IoU is the ratio of their widths.
_WIDE, _HALF, _MOST = [0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 8]


def _slow_iou(box, other):
  height = min(box[2], other[2]) - max(box[0], other[0])
  width = min(box[3], other[3]) - max(box[1], other[1])
  if height <= 0 or width <= 0:
    return 0.0
  areas = [(y2 - y1) * (x2 - x1) for y1, x1, y2, x2 in (box, other)]
  return height * width / (areas[0] + areas[1] - height * width)


def _slow_nms(boxes, scores, classes, threshold):
  kept = []
  for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
    if all(classes[i] != classes[j]
           or _slow_iou(boxes[i], boxes[j]) <= threshold for j in kept):
      kept.append(i)
  return kept


def _slow_soft_nms(boxes, scores, classes, method, iou_threshold, sigma, least):
  """All classes in one loop, one box and one pair at a time."""
  left = {i: float(score) for i, score in enumerate(scores)}
  done = []
  while left:
    best = max(left, key=lambda i: (left[i], -i))
    score = left.pop(best)
    if score < least:
      continue
    done.append((-score, best))
    for i in left:
      iou = _slow_iou(boxes[best], boxes[i])
      if classes[i] != classes[best]:
        continue
      if method == 'gaussian':
        left[i] *= math.exp(-iou * iou / sigma)
      elif iou > iou_threshold:
        left[i] *= 1 - iou
  done.sort()
  return [i for _, i in done], [-score for score, _ in done]


def _slow_box_voting(box, score, label, voters, threshold, scoring, beta):
  """Of one box; voters are (box, score, class)."""
  found = [(other, p, _slow_iou(box, other)) for other, p, kind in voters
           if kind == label and _slow_iou(box, other) >= threshold]
  total = sum(p for _, p, _ in found)
  if not total:
    return box, score
  mean = [sum(p * other[edge] for other, p, _ in found) / total
          for edge in range(4)]
  count = len(found)
  if scoring == 'average':
    score = total / count
  elif scoring == 'temperature_average':
    score = 0
    for _, p, _ in found:
      one, none = p ** (1 / beta), (1 - p) ** (1 / beta)
      score += one / (one + none) / count
  elif scoring == 'iou_average':
    score = (sum(p * iou for _, p, iou in found)
             / sum(iou for _, _, iou in found))
  elif scoring == 'generalized_average':
    score = (sum(p ** beta for _, p, _ in found) / count) ** (1 / beta)
  elif scoring == 'quasi_sum':
    score = total / count ** beta
  return mean, score


def _random(seed, count=60):
  """Boxes of whole pixels, some empty or inside out; ties in IoU and score."""
  rng = np.random.default_rng(seed)
  low = rng.integers(0, 7, [count, 2])
  boxes = np.concatenate([low, low + rng.integers(-1, 9, [count, 2])], 1)
  return (boxes.astype(float), rng.integers(0, 9, count) / 8,
          rng.integers(1, 4, count))


def test_iou_of_drawn_boxes():
  boxes = [[0, 0, 2, 2], [1, 1, 1, 4]]
  others = [[0, 1, 2, 3], [0, 2, 2, 4], [0, 0, 2, 2], [-1, -1, 3, 3],
            [1, 1, 1, 4], [2, 2, 0, 0]]
  np.testing.assert_array_equal(
      voting.ious(boxes, others), [[1 / 3, 0, 1, 0.25, 0, 0], [0] * 6])


def test_suppression_of_drawn_boxes():
  boxes = np.array([_HALF, _WIDE, [0, 0, 10, 6], _WIDE, [0, 4, 10, 10], _HALF])
  scores = np.array([0.5, 0.9, 0.6, 0.7, 0.6, 0.5])
  classes = np.array([1, 1, 1, 2, 1, 2])
  # The halves touch the threshold. 2 and 4 have 0.6 of 1: gone, and so in the
  # way of no other.
  np.testing.assert_array_equal(
      voting.non_max_suppression(_of(boxes, scores, classes), 0.5),
      [1, 3, 0, 5])
  np.testing.assert_array_equal(
      voting.non_max_suppression(_of(boxes, scores, classes), 0.49), [1, 3])
  # Without 1, 2 comes before 4, which has the same score and 2 / 10.
  np.testing.assert_array_equal(voting.non_max_suppression(
      _of(boxes, scores, classes)[[4, 2]], 0.19), [0])


@pytest.mark.parametrize('threshold', [0, 0.25, 0.5, 1])
def test_suppression_equals_its_slow_twin(threshold):
  for seed in range(20):
    drawn = _random(seed)
    kept = voting.non_max_suppression(_of(*drawn), threshold)
    assert kept.tolist() == _slow_nms(*drawn, threshold)


def test_soft_nms_of_drawn_boxes():
  boxes = np.array([_MOST, _WIDE, _HALF, _WIDE])
  scores = np.array([0.7, 0.9, 0.8, 0.6])
  classes = np.array([1, 1, 1, 2])
  # _HALF has 0.5 of _WIDE, which is not more. _MOST loses 0.8 to _WIDE, then
  # 5 / 8 to _HALF: 0.7 * 0.2 * 0.375.
  kept, final = voting.soft_nms(_of(boxes, scores, classes))
  assert kept.tolist() == [1, 2, 3, 0]
  np.testing.assert_allclose(final.scores, [0.9, 0.8, 0.6, 0.0525], rtol=1e-12)
  # 0.8 * exp(-0.25 / 0.5); 0.7 * exp(-0.64 / 0.5) * exp(-0.390625 / 0.5).
  kept, final = voting.soft_nms(
      _of(boxes, scores, classes), method='gaussian')
  assert kept.tolist() == [1, 3, 2, 0]
  np.testing.assert_allclose(
      final.scores, [0.9, 0.6, 0.485224528, 0.0891063264], rtol=1e-8)


def test_soft_nms_drops_below_its_threshold():
  drawn = _of(np.array([_WIDE, _MOST, _HALF]),
              np.array([1, 0.5, 0.25], np.float32), np.array([1, 1, 2]))
  # 0.5 * 0.2 = 0.1 goes, 0.25 is the threshold and stays.
  kept, final = voting.soft_nms(drawn, score_threshold=0.25)
  assert kept.tolist() == [0, 2] and final.scores.tolist() == [1, 0.25]
  assert final.scores.dtype == np.float32
  kept, _ = voting.soft_nms(drawn, score_threshold=0.09)
  assert kept.tolist() == [0, 2, 1]


@pytest.mark.parametrize('method', inference_config.SOFT_NMS_METHODS)
def test_soft_nms_equals_its_slow_twin(method):
  for seed in range(20):
    drawn = _random(seed)
    options = dict(method=method, iou_threshold=0.25, sigma=0.3)
    kept, final = voting.soft_nms(
        _of(*drawn), score_threshold=0.02, **options)
    wanted, scores = _slow_soft_nms(*drawn, *options.values(), 0.02)
    assert kept.tolist() == wanted
    np.testing.assert_allclose(final.scores, scores, rtol=1e-12)
    np.testing.assert_array_equal(final.boxes, drawn[0][kept])


# One box and what votes for it: itself, and the second, which has exactly 0.8.
_VOTERS = _of(np.array([_WIDE, _MOST, [0, 0, 10, 7], _WIDE]),
              np.array([0.6, 0.2, 0.9, 0.9]), np.array([1, 1, 1, 2]))


@pytest.mark.parametrize('scoring, beta, wanted', [
    ('identity', 1.0, 0.6),
    ('average', 1.0, 0.4),
    ('temperature_average', 1.0, 0.4),
    # 0.36 / (0.36 + 0.16) and 0.04 / (0.04 + 0.64).
    ('temperature_average', 0.5, (9 / 13 + 1 / 17) / 2),
    ('iou_average', 1.0, (0.6 + 0.8 * 0.2) / 1.8),
    ('generalized_average', 2.0, 0.2 ** 0.5),
    ('quasi_sum', 0.0, 0.8),
    ('quasi_sum', 0.5, 0.8 / 2 ** 0.5),
])
def test_box_voting_of_drawn_boxes(scoring, beta, wanted):
  found = voting.box_voting(_VOTERS[:1], _VOTERS, scoring=scoring, beta=beta)
  np.testing.assert_allclose(found.scores, [wanted], rtol=1e-12)
  # (0.6 * 10 + 0.2 * 8) / 0.8, though the boxes are whole numbers.
  np.testing.assert_allclose(found.boxes, [[0, 0, 10, 9.5]], rtol=1e-12)


@pytest.mark.parametrize('scoring', inference_config.BOX_SCORINGS)
@pytest.mark.parametrize('beta', [0.5, 1, 2])
def test_box_voting_equals_its_slow_twin(scoring, beta):
  boxes, scores, classes = _random(1, 40)
  voters = _random(2, 80)
  for threshold in (0.25, 0.5):
    found = voting.box_voting(
        _of(boxes, scores, classes), _of(*voters), iou_threshold=threshold,
        scoring=scoring, beta=beta)
    listed = list(zip(*(array.tolist() for array in voters), strict=False))
    for i, (box, score) in enumerate(
        zip(found.boxes, found.scores, strict=True)):
      mean, wanted = _slow_box_voting(
          boxes[i].tolist(), scores[i], classes[i], listed, threshold, scoring,
          beta)
      np.testing.assert_allclose(box, mean, rtol=1e-12, atol=1e-12)
      np.testing.assert_allclose(score, wanted, rtol=1e-12)


@pytest.mark.parametrize('scoring', inference_config.BOX_SCORINGS)
def test_a_box_without_votes_keeps_box_and_score(scoring):
  boxes = np.array([_WIDE, [3, 3, 3, 8], _HALF], np.float32)
  scores, classes = np.array([0.5, 0.75, 0.25], np.float32), np.array([1, 1, 3])
  kept = _of(boxes, scores, classes)
  # Another class, no area, a score of 0; and one that only touches.
  voters = _of(np.array([_WIDE, [3, 3, 3, 8], _HALF, [0, 10, 10, 20]]),
               np.array([0.9, 0.8, 0, 0.7]), np.array([2, 1, 3, 1]))
  for threshold in (0, 0.5):
    found = voting.box_voting(
        kept, voters, iou_threshold=threshold, scoring=scoring)
    np.testing.assert_array_equal(found.boxes, boxes)
    np.testing.assert_array_equal(found.scores, scores)
    assert found.boxes.dtype == found.scores.dtype == np.float32


def test_sure_and_cold_votes_are_numbers():
  found = voting.box_voting(
      _of([_WIDE], [0.5], [1]), _of([_WIDE] * 3, [0, 1, 0.4], [1, 1, 1]),
      scoring='temperature_average', beta=1e-4)
  np.testing.assert_allclose(found.scores, [1 / 3])


def test_tightened_boxes_bound_their_masks():
  masks = np.zeros([3, 6, 8], bool)
  masks[0, 2:4, 5] = masks[0, 1, 3] = True
  masks[2] = True
  boxes = np.array([[0, 0, 6, 8], [1.5, 2, 3, 4], [1, 1, 2, 2]], np.float32)
  tight = voting.tighten(detections.Detections(
      boxes, np.ones(3), np.ones(3, int), (6, 8),
      mask_windows.of_images(masks)))
  np.testing.assert_array_equal(
      tight.boxes, [[1, 3, 4, 6], [1.5, 2, 3, 4], [0, 0, 6, 8]])
  assert tight.boxes.dtype == np.float32
  np.testing.assert_array_equal(tight.masks.windows().images(), masks)


def test_nothing_gives_nothing():
  one = _of(np.float32([_WIDE]), np.float32([0.5]), np.array([1]))
  none = one[:0]
  assert voting.non_max_suppression(none, 0.5).shape == (0,)
  assert [len(x) for x in voting.soft_nms(none)] == [0, 0]
  assert len(voting.box_voting(none, none)) == 0
  found = voting.box_voting(one, none, scoring='average')
  np.testing.assert_array_equal(found.boxes, one.boxes)
  assert found.scores == one.scores
  none.masks = mask_windows.MaskWindows(np.zeros([0, 2]), [], none.image_size)
  assert voting.tighten(none).boxes.shape == (0, 4)
