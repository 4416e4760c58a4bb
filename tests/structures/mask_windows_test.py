"""Masks in windows: the same masks as full images."""

import numpy as np
from pycocotools import mask as mask_utils
import pytest

from panet_tf.structures import box_masks
from panet_tf.structures import mask_windows
from panet_tf.structures import paste_masks

_SIZE = (37, 53)


@pytest.fixture
def drawn():
  """Masks [N, H, W] bool: blobs, an empty one, all, a pixel, full columns."""
  rng = np.random.default_rng(3)
  masks = np.zeros([9, *_SIZE], bool)
  for mask in masks[:5]:
    y, x = rng.integers(0, 25, 2)
    mask[y:y + 12, x:x + 20] = rng.random(mask[y:y + 12, x:x + 20].shape) > .4
  masks[6] = True
  masks[7, 36, 52] = True
  masks[8, :, 10:13] = True
  return masks


def test_windows_give_the_images_back(drawn):
  windows = mask_windows.of_images(drawn).windows()
  np.testing.assert_array_equal(windows.images(), drawn)
  np.testing.assert_array_equal(windows.areas(), drawn.sum((1, 2)))
  assert windows.crops[7].shape == (1, 1) and windows.crops[5].size == 0


def test_rles_equal_pycocotools(drawn):
  windows = mask_windows.of_images(drawn).windows()
  # The windows of a seam are not tight.
  loose = mask_windows.MaskWindows(np.zeros([9, 2]), list(drawn), _SIZE)
  wanted = [mask_utils.encode(np.asfortranarray(mask, np.uint8))
            for mask in drawn]
  for rles in (windows.rles(), loose.rles()):
    assert [rle['counts'].encode() for rle in rles] == [
        rle['counts'] for rle in wanted]
    assert [rle['size'] for rle in rles] == [list(_SIZE)] * 9


def test_bounds_are_the_edges_of_what_is_set(drawn):
  bounds = mask_windows.of_images(drawn).windows().bounds()
  for mask, found in zip(drawn, bounds, strict=False):
    y, x = np.nonzero(mask)
    wanted = [y.min(), x.min(), y.max() + 1, x.max() + 1] if y.size else [0] * 4
    np.testing.assert_array_equal(found, wanted)


def test_masks_of_boxes_are_those_of_paste_mask():
  rng = np.random.default_rng(4)
  masks = rng.random([40, 28, 28]).astype(np.float32)
  low = rng.uniform(-15, 45, [40, 2])
  boxes = np.concatenate([low, low + rng.uniform(-2, 30, [40, 2])], 1)
  boxes[3] = np.nan
  windows = box_masks.BoxMasks(masks, boxes, _SIZE).windows()
  wanted = [paste_masks.paste_mask(mask, box, *_SIZE)
            for mask, box in zip(masks, boxes, strict=True)]
  np.testing.assert_array_equal(windows.images(), np.array(wanted, bool))
  assert np.any(wanted)


def test_masks_are_chosen_and_joined(drawn):
  windows = mask_windows.of_images(drawn).windows()
  for index in (slice(2, 5), np.array([8, 0]), drawn.any((1, 2))):
    np.testing.assert_array_equal(windows[index].images(), drawn[index])
  joined = mask_windows.MaskWindows.concatenate([windows[:4], windows[4:]])
  np.testing.assert_array_equal(joined.images(), drawn)
  with pytest.raises(ValueError, match='1 corners but 2 crops'):
    mask_windows.MaskWindows([[0, 0]], [drawn[0]] * 2, _SIZE)


def test_a_window_and_a_part_of_it_are_where_they_should_be(drawn):
  windows = mask_windows.of_images(drawn).windows()
  for number, extent in enumerate(windows.extents()):
    y1, x1, y2, x2 = extent
    np.testing.assert_array_equal(
        windows.cut(number, extent), drawn[number, y1:y2, x1:x2])
  np.testing.assert_array_equal(
      windows.cut(6, np.array([4, 9, 20, 11])), drawn[6, 4:20, 9:11])


@pytest.mark.parametrize('factor', [0.5, 0.37, 1.0, 2.0])
def test_scaled_masks_have_the_nearest_pixels(drawn, factor):
  windows = mask_windows.of_images(drawn).windows()
  size = [round(edge * factor) for edge in _SIZE]
  found = windows.scaled(factor).images()
  wanted = np.zeros([9, *size], bool)
  for row in range(size[0]):
    for column in range(size[1]):
      y, x = int((row + 0.5) / factor), int((column + 0.5) / factor)
      if y < _SIZE[0] and x < _SIZE[1]:
        wanted[:, row, column] = drawn[:, y, x]
  np.testing.assert_array_equal(found, wanted)
