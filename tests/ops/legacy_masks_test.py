"""Claims about masks pasted as the release does it."""

import cv2
import numpy as np
import pytest

from panet_tf.ops import legacy_masks


def by_the_release(mask, box, height, width):
  """Its loop over detections, written down again; OpenCV as there.

  `box` x1, y1, x2, y2, indices of pixels.
  """
  size = mask.shape[0]
  padded = np.zeros([size + 2, size + 2], np.float32)
  padded[1:-1, 1:-1] = mask
  scale = (size + 2.0) / size
  half_width, half_height = (
      np.float32(box[i + 2] - box[i]) * .5 * scale for i in range(2))
  x_centre, y_centre = ((box[i + 2] + box[i]) * .5 for i in range(2))
  x1, y1, x2, y2 = np.array([
      x_centre - half_width, y_centre - half_height, x_centre + half_width,
      y_centre + half_height]).astype(np.int32)
  w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
  resized = cv2.resize(padded, (int(w), int(h))) > 0.5
  image = np.zeros([height, width], bool)
  left, right = max(x1, 0), min(x2 + 1, width)
  top, bottom = max(y1, 0), min(y2 + 1, height)
  image[top:bottom, left:right] = resized[
      top - y1:bottom - y1, left - x1:right - x1]
  return image


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
  found = legacy_masks.paste(
      masks, boxes + np.float32([0, 0, 1, 1]), height, width
  ).images(height, width)
  different = pixels = 0
  for mask, box, image in zip(masks, boxes, found):
    wanted = by_the_release(mask, box[[1, 0, 3, 2]], height, width)
    different += np.sum(wanted != image)
    pixels += wanted.sum()
  assert pixels > 100
  # OpenCV's weights are rounded: a pixel on the threshold may fall either way.
  assert different <= max(2, 1e-3 * pixels)


def test_a_box_that_truncates_to_nothing_has_a_pixel():
  masks, boxes = legacy_masks.frames(
      np.ones([1, 28, 28], np.float32), [[5.2, 7.9, 6.2, 8.9]])
  assert masks.shape == (1, 30, 30) and not masks[0, 0].any()
  np.testing.assert_array_equal(boxes, [[5, 7, 6, 8]])


def test_no_masks_are_no_windows():
  assert len(legacy_masks.paste(
      np.zeros([0, 28, 28], np.float32), np.zeros([0, 4]), 5, 5)) == 0
