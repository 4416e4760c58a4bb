"""Claims about the release's boxes."""

import numpy as np
import tensorflow as tf

from panet_tf.ops import legacy_boxes

FIELDS = dict(min_level=2, max_level=6, num_scales=1, anchor_size=8.0)
RATIOS = [2.0, 1.0, 0.5]


def anchors(image_size=(64, 64), **fields):
  return legacy_boxes.anchors(
      image_size, **(FIELDS | {'aspect_ratios': RATIOS} | fields))


def test_the_last_pixel_belongs_to_a_box_and_empty_rows_stay():
  edges = tf.constant([[0., 0., 10., 10.], [5., 6., 6., 8.], [0., 0., 0., 0.]])
  pixels = legacy_boxes.to_pixels(edges)
  np.testing.assert_array_equal(
      pixels, [[0, 0, 9, 9], [5, 6, 5, 7], [0, 0, 0, 0]])
  np.testing.assert_array_equal(legacy_boxes.to_edges(pixels), edges)


def test_a_box_outside_keeps_a_pixel_of_the_image():
  """Detectron clips indices of pixels to 0 and size - 1."""
  rng = np.random.default_rng(0)
  start = rng.uniform(-40, 60, [200, 2])
  edges = np.concatenate([start, start + rng.uniform(1, 50, [200, 2])], 1)
  size = np.array([24, 32])
  limit = np.tile(size, 2)
  kept = legacy_boxes.keep_a_pixel(
      tf.constant(np.clip(edges, 0, limit)), tf.constant([24., 32.]))
  pixels = np.clip(edges - [0, 0, 1, 1], 0, limit - 1)
  np.testing.assert_allclose(kept, pixels + [0, 0, 1, 1], atol=1e-12)
  outside = (pixels[:, :2] == pixels[:, 2:]).any(1)
  assert 20 < outside.sum() < 180


def test_proposals_may_enter_the_padding_to_32():
  np.testing.assert_array_equal(
      legacy_boxes.padded(tf.constant([[1000, 1333], [1024, 1024], [1, 33]])),
      [[1024, 1344], [1024, 1024], [32, 64]])


def test_first_anchors_are_detectron_s():
  """Its numbers for stride 4, size 32, x1 y1 x2 y2 of the last pixel."""
  first = tf.reshape(anchors()['2'][0, 0], [-1, 4])
  np.testing.assert_array_equal(
      legacy_boxes.to_pixels(first).numpy()[:, [1, 0, 3, 2]],
      [[-22, -10, 25, 13], [-14, -14, 17, 17], [-10, -22, 13, 25]])


def test_sizes_are_rounded_half_to_even():
  """45.25 rounds to 45, whose half, 22.5, to 22: at stride 32, times 8."""
  first = np.reshape(anchors()['5'][0, 0], [-1, 4])
  np.testing.assert_array_equal(
      first[:, 2:] - first[:, :2],
      [[8 * 22, 8 * 45], [8 * 32, 8 * 32], [8 * 46, 8 * 23]])


def test_cells_are_a_stride_apart_on_maps_larger_than_the_image():
  boxes = np.reshape(anchors((96, 160))['6'], [2, 3, 3, 4])
  centre = (boxes[..., :2] + boxes[..., 2:]) / 2
  np.testing.assert_array_equal(centre[:, 0, 0, 0], [32, 96])
  np.testing.assert_array_equal(centre[0, :, 0, 1], [32, 96, 160])


def test_scales_divide_the_octave():
  boxes = np.reshape(anchors(num_scales=2, aspect_ratios=[1.0])['3'][0, 0],
                     [-1, 4])
  np.testing.assert_allclose(
      boxes[:, 2] - boxes[:, 0], [64, 64 * 2**0.5], rtol=1e-6)
