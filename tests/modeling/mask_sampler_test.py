"""Claims about mask targets."""

import numpy as np
from official.vision.modeling.layers import mask_sampler as official
import pytest
import tensorflow as tf

from panet_tf.modeling import mask_sampler


def crop_slowly(mask, box, roi, size):
  """NumPy twin: bilinear where all four neighbours exist, else 0."""
  result = np.zeros([size, size])
  height, width = mask.shape
  for row in range(size):
    for column in range(size):
      y = roi[0] + (row + 0.5) * (roi[2] - roi[0]) / size
      x = roi[1] + (column + 0.5) * (roi[3] - roi[1]) / size
      y = (y - box[0]) / (box[2] - box[0]) * height - 0.5
      x = (x - box[1]) / (box[3] - box[1]) * width - 0.5
      if not (0 <= y <= height - 1 and 0 <= x <= width - 1):
        continue
      i, j = min(int(y), height - 2), min(int(x), width - 2)
      for di, wy in ((0, 1 - (y - i)), (1, y - i)):
        for dj, wx in ((0, 1 - (x - j)), (1, x - j)):
          result[row, column] += wy * wx * mask[i + di, j + dj]
  return result


def crop(mask, box, roi, size):
  return mask_sampler.masks_in_rois(
      tf.constant(mask[None], tf.float32), tf.constant([0]),
      tf.constant([box], tf.float32), tf.constant([roi], tf.float32),
      size)[0].numpy()


BOX = (10., 20., 38., 76.)


@pytest.mark.parametrize('roi', [
    BOX,
    (5., 11., 41., 80.),  # Larger.
    (15.3, 30.1, 31.7, 52.2),  # Inside.
    (0., 0., 21., 33.),  # Overlaps a corner.
])
@pytest.mark.parametrize('mask_size, size', [(28, 28), (56, 28), (14, 20)])
def test_targets_equal_the_slow_twin(roi, mask_size, size):
  mask = np.random.rand(mask_size, mask_size)
  np.testing.assert_allclose(
      crop(mask, BOX, roi, size), crop_slowly(mask, BOX, roi, size),
      atol=2e-4)


@pytest.mark.parametrize('size', [7, 28])
def test_a_roi_that_is_the_object_s_box_has_its_mask(size):
  """And with coarser cells, the mean over the middle of each cell."""
  mask = np.random.rand(size, size)
  np.testing.assert_allclose(crop(mask, BOX, BOX, size), mask, atol=1e-4)
  fine = np.random.rand(2 * size, 2 * size)
  coarse = fine.reshape(size, 2, size, 2).mean((1, 3))
  np.testing.assert_allclose(crop(fine, BOX, BOX, size), coarse, atol=1e-4)


def test_targets_are_zero_outside_of_the_object_s_box():
  ones = np.ones([28, 28])
  assert not crop(ones, BOX, (40., 20., 60., 76.), 28).any()
  half = crop(ones, BOX, (-18., 20., 38., 76.), 28)  # The upper half lies out.
  assert not half[:14].any()
  np.testing.assert_allclose(half[14:], 1, atol=1e-5)


def test_a_roi_and_its_box_may_move_and_grow_together():
  mask = np.random.rand(28, 28)
  roi = np.array([15.3, 30.1, 31.7, 52.2])
  np.testing.assert_allclose(
      crop(mask, BOX, roi, 14),
      crop(mask, 3 * np.array(BOX) + 7, 3 * roi + 7, 14), atol=1e-3)


def test_padding_boxes_give_finite_targets():
  target = crop(np.full([28, 28], -1.), (-1.,) * 4, (3., 4., 9., 12.), 28)
  assert np.isfinite(target).all()


# The layer.


def inputs(batch=2, num_rois=6, num_masks=3, size=28):
  """Every other RoI is background: class 0, index -1."""
  rng = np.random.default_rng(0)
  boxes = rng.uniform(0, 30, [batch, num_masks, 4])
  boxes[..., 2:] += boxes[..., :2] + 10
  indices = rng.integers(0, num_masks, [batch, num_rois])
  indices[:, ::2] = -1
  matched = np.take_along_axis(
      boxes, np.maximum(indices, 0)[..., None], axis=1)
  rois = matched + rng.uniform(-3, 3, matched.shape)
  classes = np.where(indices >= 0, 1 + np.maximum(indices, 0), 0)
  masks = rng.uniform(0, 1, [batch, num_masks, size, size])
  return [tf.constant(rois, tf.float32), tf.constant(matched, tf.float32),
          tf.constant(classes, tf.int32), tf.constant(indices, tf.int32),
          tf.constant(masks, tf.float32)]


@pytest.mark.parametrize('num_sampled', [2, 5])
def test_foreground_comes_first_and_background_has_class_0(num_sampled):
  rois, matched, classes, indices, masks = arrays = inputs()
  layer = mask_sampler.MaskSampler(28, num_sampled)
  chosen_rois, chosen_classes, targets = layer(*arrays)
  order = [1, 3, 5, 0, 2][:num_sampled]
  np.testing.assert_array_equal(
      chosen_rois, tf.gather(rois, order, axis=1))
  np.testing.assert_array_equal(
      chosen_classes, tf.gather(classes, order, axis=1))
  assert (chosen_classes.numpy()[:, 3:] == 0).all()
  assert targets.shape == [2, num_sampled, 28, 28]
  for image in range(2):
    for i, roi in enumerate(order[:3]):
      np.testing.assert_allclose(targets[image, i], crop_slowly(
          masks[image, indices[image, roi]].numpy(),
          matched[image, roi].numpy(), rois[image, roi].numpy(), 28),
                                 atol=1e-4)


def test_no_foreground_at_all_gives_classes_0_and_finite_targets():
  rois, matched, classes, indices, masks = inputs()
  layer = mask_sampler.MaskSampler(28, 4)
  _, chosen, targets = layer(
      rois, tf.zeros_like(matched), tf.zeros_like(classes),
      tf.fill(indices.shape, -1), tf.fill(masks.shape, -1.))
  assert not chosen.numpy().any()
  assert np.isfinite(targets.numpy()).all()


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16])
def test_targets_are_float32(dtype):
  *arrays, masks = inputs()
  targets = mask_sampler.MaskSampler(14, 3)(*arrays, tf.cast(masks, dtype))[2]
  assert targets.dtype == tf.float32


def ellipse(box, rois, size):
  """Coverage of an ellipse in a box by the cells of RoIs, 8x8 samples each."""
  at = (np.arange(8 * size) + 0.5) / (8 * size)
  y = rois[:, :1] + at * (rois[:, 2:3] - rois[:, :1])
  x = rois[:, 1:2] + at * (rois[:, 3:] - rois[:, 1:2])
  radii = [(box[2] - box[0]) / 2, (box[3] - box[1]) / 2]
  y = (y - (box[0] + box[2]) / 2) / radii[0]
  x = (x - (box[1] + box[3]) / 2) / radii[1]
  inside = y[:, :, None]**2 + x[:, None]**2 <= 1
  return inside.reshape(len(rois), size, 8, size, 8).mean((2, 4))


@pytest.mark.parametrize('mask_size, tolerance', [(28, 0.04), (56, 0.02)])
def test_targets_agree_with_model_garden_s_and_are_nearer_to_the_truth(
    mask_size, tolerance):
  """Theirs lie half a mask cell off, so the contours differ a little."""
  box = np.array([12., 20., 44., 60.])
  rois = box + np.random.uniform(-6, 6, [16, 4])
  truth = ellipse(box, rois, 28)
  arrays = [tf.constant(rois[None], tf.float32),
            tf.constant(np.tile(box, [1, 16, 1]), tf.float32),
            tf.ones([1, 16], tf.int32), tf.zeros([1, 16], tf.int32),
            tf.constant(ellipse(box, box[None], mask_size)[None], tf.float32)]
  ours = mask_sampler.MaskSampler(28, 16)(*arrays)
  theirs = official.MaskSampler(28, 16)(*arrays)
  for a, b in zip(ours[:2], theirs[:2], strict=True):
    np.testing.assert_array_equal(a, b)
  assert np.abs(ours[2] - theirs[2]).mean() < tolerance
  error, their_error = (np.abs(x[2][0] - truth).mean() for x in (ours, theirs))
  assert error < tolerance / 2
  assert error < 0.8 * their_error
