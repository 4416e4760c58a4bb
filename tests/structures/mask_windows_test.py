"""Masks in windows: the same masks as full images."""

import numpy as np
from pycocotools import mask as mask_utils
import pytest

from panet_tf.structures import detections as detections_lib
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
  windows = mask_windows.MaskWindows.from_images(drawn)
  np.testing.assert_array_equal(windows.images(*_SIZE), drawn)
  np.testing.assert_array_equal(windows.areas(), drawn.sum((1, 2)))
  assert windows.crops[7].shape == (1, 1) and windows.crops[5].size == 0


def test_rles_equal_pycocotools(drawn):
  windows = mask_windows.MaskWindows.from_images(drawn)
  # The windows of a seam are not tight.
  loose = mask_windows.MaskWindows(np.zeros([9, 2]), list(drawn))
  wanted = [mask_utils.encode(np.asfortranarray(mask, np.uint8))
            for mask in drawn]
  for rles in (windows.rles(*_SIZE), loose.rles(*_SIZE)):
    assert [rle['counts'].encode() for rle in rles] == [
        rle['counts'] for rle in wanted]
    assert [rle['size'] for rle in rles] == [list(_SIZE)] * 9


def test_bounds_are_the_edges_of_what_is_set(drawn):
  bounds = mask_windows.MaskWindows.from_images(drawn).bounds()
  for mask, found in zip(drawn, bounds):
    y, x = np.nonzero(mask)
    wanted = [y.min(), x.min(), y.max() + 1, x.max() + 1] if y.size else [0] * 4
    np.testing.assert_array_equal(found, wanted)


def test_masks_of_boxes_are_those_of_paste_mask():
  rng = np.random.default_rng(4)
  masks = rng.random([40, 28, 28]).astype(np.float32)
  low = rng.uniform(-15, 45, [40, 2])
  boxes = np.concatenate([low, low + rng.uniform(-2, 30, [40, 2])], 1)
  boxes[3] = np.nan
  windows = mask_windows.MaskWindows.from_boxes(masks, boxes, *_SIZE)
  wanted = [paste_masks.paste_mask(mask, box, *_SIZE)
            for mask, box in zip(masks, boxes)]
  np.testing.assert_array_equal(windows.images(*_SIZE), np.array(wanted, bool))
  assert np.any(wanted)


def test_masks_are_chosen_and_joined(drawn):
  windows = mask_windows.MaskWindows.from_images(drawn)
  for index in (slice(2, 5), np.array([8, 0]), drawn.any((1, 2))):
    np.testing.assert_array_equal(windows[index].images(*_SIZE), drawn[index])
  joined = mask_windows.MaskWindows.concatenate([windows[:4], windows[4:]])
  np.testing.assert_array_equal(joined.images(*_SIZE), drawn)
  assert not len(mask_windows.MaskWindows.concatenate([]))
  with pytest.raises(ValueError, match='1 corners but 2 crops'):
    mask_windows.MaskWindows([[0, 0]], [drawn[0]] * 2)


def test_every_kind_of_mask_gives_the_same_pixels():
  rng = np.random.default_rng(5)
  boxes = np.float32([[2, 3, 20, 30], [0, 0, 37, 53], [5, 5, 5, 9]])
  given = {'detection_boxes': boxes,
           'detection_masks': rng.random([3, 28, 28]).astype(np.float32)}
  pixels = detections_lib.image_masks(given, *_SIZE)
  windows = detections_lib.mask_windows(given, *_SIZE)
  for masks in (pixels, windows):
    other = dict(given, detection_masks=masks)
    np.testing.assert_array_equal(
        detections_lib.image_masks(other, *_SIZE), pixels)
    np.testing.assert_array_equal(
        detections_lib.mask_windows(other, *_SIZE).images(*_SIZE), pixels)
    assert detections_lib.image_rles(other, *_SIZE) == detections_lib.image_rles(
        given, *_SIZE)


@pytest.mark.parametrize('factor', [0.5, 0.37, 1.0, 2.0])
def test_scaled_masks_have_the_nearest_pixels(drawn, factor):
  windows = mask_windows.MaskWindows.from_images(drawn)
  size = [int(np.ceil(edge * factor)) for edge in _SIZE]
  found = windows.scaled(factor).images(*size)
  wanted = np.zeros([9, *size], bool)
  for row in range(size[0]):
    for column in range(size[1]):
      y, x = int((row + 0.5) / factor), int((column + 0.5) / factor)
      if y < _SIZE[0] and x < _SIZE[1]:
        wanted[:, row, column] = drawn[:, y, x]
  np.testing.assert_array_equal(found, wanted)
