"""Claims about cutting mask targets out of what a record holds."""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.dataloaders import mask_targets
from tests.support import tiny

BOXES = [
    (8, 16, 24, 40),
    (0, 0, 48, 64),  # The whole image.
    (0, 50, 5, 64),  # In a corner: fewer pixels than cells.
    (40.25, 1.5, 48, 9.75),
    (10.3, 20.7, 11.1, 21.2),  # Smaller than a pixel.
]


def cut(masks, box, size, **options):
  shape = masks['png'].shape[0]
  return mask_targets.masks_in_boxes(
      masks, tf.reshape(tf.constant([box] * shape, tf.float32), [-1, 4]),
      tf.constant([48, 64]), size, **options).numpy()


def as_crop(mask, top, left, bottom, right):
  """What the converter writes of a mask whose ones lie in this region."""
  return {'png': tf.constant([tiny.png(mask[top:bottom, left:right])]),
          'corner': tf.constant([[top, left]], tf.int64)}


@pytest.mark.parametrize('size', [7, 28])
@pytest.mark.parametrize('box', BOXES)
def test_targets_equal_the_slow_twin(size, box):
  mask = np.random.rand(48, 64) > 0.5
  np.testing.assert_allclose(
      cut(tiny.encoded([mask]), box, size)[0],
      tiny.cut_slowly(mask, box, size), atol=2e-4)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('box', BOXES)
@pytest.mark.parametrize('region', [
    (8, 16, 24, 40), (0, 0, 48, 64), (0, 50, 5, 64), (40, 0, 48, 10),
    (10, 20, 11, 21), (20, 30, 40, 64)])
def test_a_crop_gives_the_targets_of_the_whole_mask(box, region, aligned):
  mask = np.zeros([48, 64])
  top, left, bottom, right = region
  mask[top:bottom, left:right] = np.random.rand(bottom - top, right - left) > .5
  whole, part = (cut(m, box, 14, aligned=aligned) for m in (
      tiny.encoded([mask]), as_crop(mask, *region)))
  np.testing.assert_allclose(part, whole, atol=2e-4)


@pytest.mark.parametrize('box', BOXES)
def test_without_alignment_targets_are_model_garden_s(box):
  """tf.image.crop_and_resize of normalised boxes, as its parser calls it."""
  mask = np.random.rand(48, 64) > 0.5
  expected = tf.image.crop_and_resize(
      mask[np.newaxis, ..., np.newaxis].astype(np.float32),
      tf.constant([box], tf.float32) / [48, 64, 48, 64], [0], [14, 14])
  np.testing.assert_allclose(
      cut(tiny.encoded([mask]), box, 14, aligned=False),
      expected[..., 0], atol=1e-4)


def test_a_target_of_as_many_cells_as_pixels_is_the_mask():
  mask = np.random.rand(48, 64) > 0.5
  target = cut(tiny.encoded([mask]), (12., 20, 40, 48), 28)
  np.testing.assert_allclose(target[0], mask[12:40, 20:48], atol=1e-4)


def test_an_image_of_one_pixel_has_a_mask():
  target = mask_targets.masks_in_boxes(
      tiny.encoded([[[1]]]), tf.constant([[0., 0, 1, 1]]), tf.constant([1, 1]),
      7)
  np.testing.assert_allclose(target[0], 1)


def test_no_object_has_no_target():
  assert cut(tiny.encoded(np.zeros([0, 48, 64])), (0, 0, 1, 1), 7).size == 0


@pytest.mark.parametrize('box', [(0, 0, 8, 8), (40, 56, 48, 64),
                                 (0, 0, 48, 64)])
def test_a_mask_far_from_the_box_leaves_the_target_empty_there(box):
  mask = np.zeros([48, 64])
  mask[20:24, 30:34] = 1
  np.testing.assert_allclose(
      cut(as_crop(mask, 20, 30, 24, 34), box, 14),
      cut(tiny.encoded([mask]), box, 14), atol=1e-5)
