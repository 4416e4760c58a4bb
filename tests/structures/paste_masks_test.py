"""Pasted masks against a slow twin; RLEs against full canvases."""

import numpy as np
from pycocotools import mask as mask_utils
import pytest

from panet_tf.structures import paste_masks


def _slow_paste(mask, box, height, width, threshold=0.5):
  """One pixel at a time, from the definition."""
  y1, x1, y2, x2 = [float(edge) for edge in box]
  size = len(mask)
  output = np.zeros((height, width), np.uint8)
  for p in range(height):
    for q in range(width):
      y, x = p + 0.5, q + 0.5
      if not (y1 <= y < y2 and x1 <= x < x2):
        continue
      v = min(max((y - y1) / (y2 - y1) * size - 0.5, 0), size - 1)
      u = min(max((x - x1) / (x2 - x1) * size - 0.5, 0), size - 1)
      i, j = int(v), int(u)
      k, m = min(i + 1, size - 1), min(j + 1, size - 1)
      value = ((1 - v + i) * ((1 - u + j) * mask[i, j] + (u - j) * mask[i, m])
               + (v - i) * ((1 - u + j) * mask[k, j] + (u - j) * mask[k, m]))
      output[p, q] = value >= threshold
  return output


def _random(rng, count, height, width, size=7):
  """Random masks, and boxes that may leave the image."""
  low = rng.uniform(-0.3, 0.9, (count, 2)) * [height, width]
  extent = rng.uniform(0, 1, (count, 2)) ** 2 * [height, width]
  boxes = np.concatenate([low, low + extent], axis=1)
  return rng.uniform(0, 1, (count, size, size)), boxes


def _naive_encode(masks, boxes, height, width):
  canvases = [_slow_paste(mask, box, height, width)
              for mask, box in zip(masks, boxes, strict=True)]
  return [mask_utils.encode(np.asfortranarray(canvas)) for canvas in canvases]


@pytest.mark.parametrize('threshold', [0.5, 0.3])
def test_paste_equals_the_slow_twin(threshold):
  masks, boxes = _random(np.random.default_rng(0), 40, 23, 31)
  for mask, box in zip(masks, boxes, strict=True):
    np.testing.assert_array_equal(
        paste_masks.paste_mask(mask, box, 23, 31, threshold),
        _slow_paste(mask, box, 23, 31, threshold))


def test_a_full_mask_fills_exactly_the_pixels_of_its_box():
  pasted = paste_masks.paste_mask(np.ones((28, 28)), [2, 3, 7, 9], 10, 12)
  expected = np.zeros((10, 12), np.uint8)
  expected[2:7, 3:9] = 1
  np.testing.assert_array_equal(pasted, expected)
  assert pasted.dtype == np.uint8


def test_a_box_of_one_cell_per_pixel_copies_the_mask():
  mask = np.random.default_rng(1).uniform(size=(6, 6))
  pasted = paste_masks.paste_mask(mask, [4, 5, 10, 11], 12, 12)
  np.testing.assert_array_equal(pasted[4:10, 5:11], mask >= 0.5)


@pytest.mark.parametrize('box', [
    [5, 5, 5, 9], [9, 5, 4, 9], [-9, -9, -1, -1], [30, 2, 40, 6],
    [np.nan, 0, 5, 5], [0, 0, np.inf, 5], [0, -np.inf, 5, np.inf],
    [-1e308, 0, 1e308, 5], [3.6, 3.6, 4.4, 4.4]])
def test_an_empty_or_outside_box_gives_an_empty_mask(box):
  ones = np.ones((4, 4))
  assert not paste_masks.paste_mask(ones, box, 20, 24).any()
  rle, = paste_masks.encode_masks([ones], [box], 20, 24)
  assert mask_utils.area(rle) == 0
  assert rle['size'] == [20, 24]


def test_rles_are_byte_equal_to_encoded_canvases():
  rng = np.random.default_rng(2)
  masks, boxes = _random(rng, 100, 37, 29)
  masks[::3] = 1 - masks[::3] ** 4  # nearly full: runs over column borders
  boxes[::3, 0], boxes[::3, 2] = -2, 40
  boxes[0], masks[0] = [0, 0, 37, 29], 1
  boxes[1], masks[1] = [0, 0, 37, 29], 0
  rles = paste_masks.encode_masks(masks, boxes, 37, 29)
  expected = _naive_encode(masks, boxes, 37, 29)
  assert [rle['counts'].encode() for rle in rles] == [
      rle['counts'] for rle in expected]
  assert all(isinstance(rle['counts'], str) for rle in rles)


def test_a_value_at_the_threshold_is_inside():
  mask = np.full((4, 4), 0.25)
  mask[1] = 0.5  # Exact, as are the pixels: each is a cell.
  pasted = paste_masks.paste_mask(mask, [2, 2, 6, 6], 8, 8)
  expected = np.zeros((8, 8))
  expected[3, 2:6] = 1
  np.testing.assert_array_equal(pasted, expected)


def test_nan_is_outside():
  masks = np.random.default_rng(3).uniform(0, 1, (20, 5, 5))
  broken = np.where(masks < 0.2, np.nan, masks)
  whole = np.where(masks < 0.2, 0, masks)
  boxes = np.tile([3.2, 1.7, 22.4, 19.1], (20, 1))
  assert paste_masks.encode_masks(broken, boxes, 24, 24) == (
      paste_masks.encode_masks(whole, boxes, 24, 24))


def test_as_many_masks_as_boxes_are_needed():
  with pytest.raises(ValueError, match='2 masks but 1 boxes'):
    paste_masks.encode_masks(np.zeros((2, 4, 4)), np.zeros((1, 4)), 9, 9)


def test_no_masks_give_no_rles():
  assert not paste_masks.encode_masks(
      np.zeros((0, 28, 28)), np.zeros((0, 4)), 20, 20)
