"""Masks pasted in a graph equal those that `panet predict` pastes."""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.ops import full_image_masks
from panet_tf.structures import paste_masks


@pytest.mark.parametrize('size', [(40, 60), (1, 1), (7, 300)], ids=str)
@pytest.mark.parametrize('cells', [28, 5])
def test_equals_the_numpy_twin(size, cells):
  rng = np.random.default_rng(size[1] + cells)
  corner = rng.uniform(-10, size, [30, 2])
  boxes = np.float32(np.concatenate(
      [corner, corner + rng.uniform(0.1, 1.2 * max(size), [30, 2])], 1))
  masks = rng.uniform(size=[30, cells, cells]).astype(np.float32)
  got = full_image_masks.paste(
      tf.constant(masks), tf.constant(boxes), size).numpy()
  assert got.shape == (30, *size) and got.dtype == bool
  for mask, box, one in zip(masks, boxes, got, strict=True):
    want = paste_masks.paste_mask(mask, box, *size)
    # A probability within rounding of the threshold may fall either way.
    assert np.count_nonzero(one != want) <= 1e-3 * want.size + (
        want.size > 100)
  assert got.any() or size == (1, 1)


def test_a_mask_of_halves_is_cut_where_it_crosses_the_threshold():
  mask = np.zeros([1, 4, 4], np.float32)
  mask[:, :, 2:] = 1
  box = np.float32([[2, 2, 10, 10]])
  got = full_image_masks.paste(tf.constant(mask), tf.constant(box), (12, 12))
  want = np.zeros([12, 12], bool)
  want[2:10, 6:10] = True
  np.testing.assert_array_equal(got[0], want)


@pytest.mark.parametrize('box', [
    [0, 0, 0, 0], [5, 5, 5, 9], [8, 8, 4, 4], [-9, -9, -1, -1],
    [50, 50, 60, 60]], ids=str)
def test_an_empty_box_or_one_outside_has_no_pixel(box):
  got = full_image_masks.paste(
      tf.ones([1, 28, 28]), tf.constant([box], tf.float32), (20, 30))
  assert not np.any(got)
