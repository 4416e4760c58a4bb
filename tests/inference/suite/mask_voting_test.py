"""Mask voting: drawn masks by hand, random ones by a slow twin of pixels."""

import numpy as np
import pytest

from panet_tf.inference.suite import mask_voting
from panet_tf.structures import box_masks
from panet_tf.structures import detections
from panet_tf.structures import mask_windows

pytestmark = pytest.mark.filterwarnings('error')

_SIZE = _HEIGHT, _WIDTH = 24, 31


def _vote(boxes, scores, classes, masks, kept, size=_SIZE, **options):
  """Full images of the voted masks, of probabilities."""
  masks = box_masks.BoxMasks(masks, boxes, size)
  voted = mask_voting.mask_voting(
      detections.Detections(boxes, np.asarray(scores),
                            np.asarray(classes, np.int64), size, masks),
      kept, **options)
  assert isinstance(voted, mask_windows.MaskWindows)
  return voted.images()


def _vote_drawn(scores, classes, images, kept, **options):
  """`_vote` of images [N, H, W] bool: the box of each has a cell per pixel."""
  boxes = np.tile([0, 0, *images.shape[1:]], (len(images), 1))
  return _vote(boxes, scores, classes, images.astype(np.float32), kept,
               images.shape[1:], **options)


def _pasted(masks, boxes):
  return box_masks.BoxMasks(masks, boxes, _SIZE).windows()


def _sample(mask, box, row, column):
  """A mask in the frame of a box at the centre of a pixel; 0 outside."""
  size, values = len(mask), []
  for axis, pixel in enumerate((row, column)):
    low, high = float(box[axis]), float(box[axis + 2])
    if not low <= pixel + 0.5 < high:
      return 0.0
    cell = (pixel + 0.5 - low) / (high - low) * size - 0.5
    values.append(min(max(cell, 0.0), size - 1.0))
  total = 0.0
  for i in range(size):
    for j in range(size):
      share = max(0, 1 - abs(values[0] - i)) * max(0, 1 - abs(values[1] - j))
      total += share * float(mask[i, j])
  return total


def _slow_means(scores, classes, images, kept, iou_threshold, threshold=0.5):
  """Means [K, H, W] of images [N, H, W], one pair and one voter at a time."""
  means = []
  for own in kept:
    total, weight = np.zeros(images.shape[1:]), 0
    for other, image in enumerate(images):
      if classes[other] != classes[own]:
        continue
      a, b = images[own] >= threshold, image >= threshold
      union = (a | b).sum()
      iou = (a & b).sum() / union if union else 0
      if other == own or iou >= iou_threshold:
        total += scores[other] * image
        weight += scores[other]
    means.append(total / weight)
  return np.array(means)


def _random(seed, count=24, size=5):
  """Blobs around three places, a few without area or outside of the image."""
  rng = np.random.default_rng(seed)
  low = rng.choice([[2, 3], [6, 12], [-3, 20]], count) + rng.normal(
      0, 0.7, [count, 2])
  boxes = np.concatenate([low, low + rng.uniform(7, 12, [count, 2])], 1)
  boxes[0] = [5, 5, 5, 9]
  boxes[1] = [30, 3, 40, 9]
  radius = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, size)] * 2))
  masks = np.clip(
      1.2 - radius * 0.8 + rng.normal(0, 0.15, [count, size, size]), 0, 1)
  return (boxes, rng.integers(1, 9, count) / 8, rng.integers(1, 3, count),
          masks.astype(np.float32))


# Rows of 4 pixels: `a` has 4 columns, `b` 3, `c` 2.
_A, _B, _C = (np.arange(6) < columns for columns in (4, 3, 2))
_DRAWN = np.stack([np.tile(row, (4, 1)) for row in (_A, _B, _C)])


@pytest.mark.parametrize('scores, classes, iou_threshold, wanted', [
    # Columns 0 and 1 have 1, column 2 has 0.8, column 3 has 0.5: inside.
    ([0.5, 0.3, 0.2], [1, 1, 1], 0.5, _A),
    ([0.5, 0.3, 0.3], [1, 1, 1], 0.5, _B),   # Column 3 has 0.5 / 1.1.
    ([0.3, 0.1, 0.7], [1, 1, 1], 0.5, _C),   # Column 2 has 0.4 / 1.1.
    ([0.3, 0.1, 0.7], [1, 1, 1], 0.51, _A),  # `c` has an IoU of 0.5.
    ([0.3, 0.1, 0.7], [1, 1, 2], 0.5, _A),   # Another class.
    ([0.3, 0.4, 0.7], [1, 1, 2], 0.75, _B),
    ([0.1] * 3, [1, 1, 1], 0.5, _B),
    ([0.0] * 3, [1, 1, 1], 0.5, _A),         # No weights: it stays.
])
def test_votes_of_drawn_masks(scores, classes, iou_threshold, wanted):
  voted = _vote_drawn(scores, classes, _DRAWN, [0], iou_threshold=iou_threshold)
  np.testing.assert_array_equal(voted, [np.tile(wanted, (4, 1))])


def test_probabilities_are_averaged_before_they_are_cut():
  # Cells are pixels. The mean is [[.9, .65], [.45, .1]].
  masks = np.array([[[0.9, 0.4], [0.6, 0.1]], [[0.9, 0.9], [0.3, 0.1]]])
  boxes = np.array([[1, 2, 3, 4]] * 2)
  voted = _vote(boxes, [0.3, 0.3], [1, 1], masks, [1, 0], iou_threshold=0.33)
  wanted = np.zeros([_HEIGHT, _WIDTH], bool)
  wanted[1, 2:4] = True
  np.testing.assert_array_equal(voted, [wanted] * 2)
  # At 0.34 each keeps its own: their IoU is 1 / 3.
  alone = _vote(boxes, [0.3, 0.3], [1, 1], masks, [0], iou_threshold=0.34)
  np.testing.assert_array_equal(
      alone[0, 1:3, 2:4], [[True, False], [True, False]])


def test_beyond_its_box_a_mask_votes_for_nothing():
  # The wider one has 0.6 of the votes on its own, the other 0.4.
  boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 6]])
  masks = np.ones([2, 3, 3], np.float32)
  for scores, wanted in (([0.4, 0.6], 6), ([0.6, 0.4], 4)):
    voted = _vote(boxes, scores, [1, 1], masks, [0])
    assert voted[0, :4, :wanted].all() and voted.sum() == 4 * wanted


@pytest.mark.parametrize('iou_threshold', [0.3, 0.6])
@pytest.mark.parametrize('seed', range(4))
def test_probabilities_equal_the_slow_twin(seed, iou_threshold):
  boxes, scores, classes, masks = _random(seed)
  images = np.array([
      [[_sample(mask, box, row, column) for column in range(_WIDTH)]
       for row in range(_HEIGHT)]
      for mask, box in zip(masks, boxes, strict=True)])
  kept = [7, 0, 1, 23, 4, 11]
  means = _slow_means(scores, classes, images, kept, iou_threshold)
  voted = _vote(boxes, scores, classes, masks, kept,
                iou_threshold=iou_threshold)
  np.testing.assert_array_equal(voted, means >= 0.5)
  assert voted.any((1, 2)).tolist() == [True, False, False, True, True, True]
  assert (voted != (images[kept] >= 0.5)).any()


@pytest.mark.parametrize('iou_threshold', [0, 0.3, 0.6])
@pytest.mark.parametrize('seed', range(4))
def test_binary_masks_equal_the_slow_twin(seed, iou_threshold):
  boxes, scores, classes, masks = _random(seed)
  images = _pasted(masks, boxes).images()
  # One that does not overlap has an IoU of 0, and no vote for that.
  means = _slow_means(scores, classes, images, range(24),
                      max(iou_threshold, 1e-9))
  voted = _vote_drawn(scores, classes, images, np.arange(24),
                      iou_threshold=iou_threshold)
  np.testing.assert_array_equal(voted, means >= 0.5)
  assert (voted != images).any()


def test_a_lone_mask_is_what_is_pasted():
  boxes, scores, _, masks = _random(5)
  masks[2], masks[3, 1, 2] = 0.5, np.nan
  boxes[4] = [np.nan, 0, 9, 9]
  voted = _vote(boxes, scores, np.arange(24), masks, np.arange(24))
  np.testing.assert_array_equal(voted, _pasted(masks, boxes).images())
  assert voted[2].any()


def test_equal_scores_tie_whatever_they_are():
  # Five of ten say yes; 0.1 cannot be added up exactly.
  masks = np.zeros([10, 4, 6], bool)
  masks[:, :, :3] = True
  masks[:5, :, 3] = True
  for score in (0.1, 0.3, 0.7):
    voted = _vote_drawn(np.full(10, score), np.ones(10), masks, [0, 9])
    np.testing.assert_array_equal(voted, masks[[0, 0]])


def test_more_masks_than_pycocotools_counts_at_once():
  rng = np.random.default_rng(0)
  low = rng.uniform(0, 15, [600, 2])
  boxes = np.concatenate([low, low + 8], 1)
  voted = _vote(boxes, np.ones(600), np.arange(600), np.ones([600, 2, 2]),
                np.arange(600))
  np.testing.assert_array_equal(
      voted, _pasted(np.ones([600, 2, 2]), boxes).images())


def test_an_empty_mask_stays_empty():
  masks = np.zeros([2, 5, 5], np.float32)
  masks[1] = 1
  assert not _vote(
      np.float32([[0, 0, 9, 9]] * 2), [0.9, 0.8], [1, 1], masks, [0]).any()


def test_nothing_gives_nothing():
  masks = np.zeros([0, 28, 28], np.float32)
  assert not len(_vote(np.zeros([0, 4]), [], [], masks, []))
