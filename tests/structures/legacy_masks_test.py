"""Claims about masks pasted as the release does it."""

import cv2
import numpy as np
import pytest

from panet_tf.structures import box_masks
from tests.support import release_masks


@pytest.mark.parametrize('largest', [6, 40, 300])
def test_masks_are_those_of_the_release(largest):
  rng = np.random.default_rng(largest)
  height, width, count = 200, 260, 60
  masks = cv2.GaussianBlur(
      rng.uniform(0, 1, [28, 28, count]).astype(np.float32), (7, 7), 2)
  masks = np.moveaxis(masks, -1, 0)
  masks = np.clip((masks - 0.5) * 6 + 0.5, 0, 1)
  start = rng.uniform(0, [[height - 2, width - 2]], [count, 2])
  end = np.minimum(start + rng.uniform(0, largest, [count, 2]),
                   [height - 1, width - 1])
  boxes = np.float32(np.concatenate([start, end], 1))
  found = box_masks.BoxMasks(
      masks, boxes + np.float32([0, 0, 1, 1]), (height, width), legacy=True
  ).images()
  different = pixels = 0
  for mask, box, image in zip(masks, boxes, found, strict=True):
    wanted = release_masks.paste(mask, box[[1, 0, 3, 2]], height, width)
    different += np.sum(wanted != image)
    pixels += wanted.sum()
  assert pixels > 100
  # OpenCV's weights are rounded: a pixel on the threshold may fall either way.
  assert different <= max(2, 1e-3 * pixels)


def test_a_box_that_truncates_to_nothing_has_a_pixel():
  masks, boxes = box_masks.legacy_frames(
      np.ones([1, 28, 28], np.float32), [[5.2, 7.9, 6.2, 8.9]])
  assert masks.shape == (1, 30, 30) and not masks[0, 0].any()
  np.testing.assert_array_equal(boxes, [[5, 7, 6, 8]])


def test_no_masks_are_no_windows():
  none = box_masks.BoxMasks(
      np.zeros([0, 28, 28], np.float32), np.zeros([0, 4]), (5, 5), legacy=True)
  assert not len(none.windows()) and not none.rles()
