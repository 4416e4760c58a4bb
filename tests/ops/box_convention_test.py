"""Claims about where a box ends, everyone's way and the release's."""

import numpy as np
from official.vision.ops import anchor as anchor_ops
import pytest
import tensorflow as tf

from panet_tf.ops import box_convention

EDGES, LAST_PIXEL = box_convention.EDGES, box_convention.LAST_PIXEL
FIELDS = dict(min_level=2, max_level=6, num_scales=1, anchor_size=8.0)
RATIOS = [2.0, 1.0, 0.5]


def anchors(image_size=(64, 64), **fields):
  return LAST_PIXEL.anchors(
      image_size, **(FIELDS | {'aspect_ratios': RATIOS} | fields))


def test_the_last_pixel_belongs_to_a_box_and_empty_rows_stay():
  edges = tf.constant([[0., 0., 10., 10.], [5., 6., 6., 8.], [0., 0., 0., 0.]])
  pixels = box_convention.to_pixels(edges)
  np.testing.assert_array_equal(
      pixels, [[0, 0, 9, 9], [5, 6, 5, 7], [0, 0, 0, 0]])
  np.testing.assert_array_equal(box_convention.to_edges(pixels), edges)


def test_a_box_outside_keeps_a_pixel_of_the_image():
  """Detectron clips indices of pixels to 0 and size - 1."""
  rng = np.random.default_rng(0)
  start = rng.uniform(-40, 60, [200, 2])
  edges = np.concatenate([start, start + rng.uniform(1, 50, [200, 2])], 1)
  size = np.array([24, 32])
  limit = np.tile(size, 2)
  kept = LAST_PIXEL.clipped(
      tf.constant(np.clip(edges, 0, limit)), tf.constant([24., 32.]))
  pixels = np.clip(edges - [0, 0, 1, 1], 0, limit - 1)
  np.testing.assert_allclose(kept, pixels + [0, 0, 1, 1], atol=1e-12)
  outside = (pixels[:, :2] == pixels[:, 2:]).any(1)
  assert 20 < outside.sum() < 180


def test_proposals_may_enter_the_padding_to_32():
  np.testing.assert_array_equal(
      LAST_PIXEL.proposal_area(
          tf.constant([[1000, 1333], [1024, 1024], [1, 33]])),
      [[1024, 1344], [1024, 1024], [32, 64]])


def test_first_anchors_are_detectron_s():
  """Its numbers for stride 4, size 32, x1 y1 x2 y2 of the last pixel."""
  first = tf.reshape(anchors()['2'][0, 0], [-1, 4])
  np.testing.assert_array_equal(
      box_convention.to_pixels(first).numpy()[:, [1, 0, 3, 2]],
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


def test_a_convention_goes_by_its_name():
  for convention in (EDGES, LAST_PIXEL):
    assert box_convention.of(convention.name) == convention
    assert box_convention.of(convention) is convention
  assert len({EDGES, LAST_PIXEL}) == 2
  with pytest.raises(ValueError, match="'corners': expected 'edges' or"):
    box_convention.of('corners')


INFO = tf.constant([[[50., 60.], [100., 120.], [2., 2.], [0., 0.]]])
BOXES = tf.constant([[[10., 20., 31., 41.], [0., 0., 0., 0.],
                      [90., 99., 100., 120.]]])


def test_the_last_pixel_is_one_of_the_frame_a_box_is_in():
  """Indices of pixels over the scale, and one: COCO's width is x2 - x1 + 1."""
  np.testing.assert_array_equal(LAST_PIXEL.to_image(BOXES, INFO)[0], [
      [5, 10, 16, 21], [0, 0, 0, 0], [45, 49.5, 50, 60]])
  np.testing.assert_array_equal(EDGES.to_image(BOXES, INFO)[0], BOXES[0] / 2)
  im_info = LAST_PIXEL.im_info(INFO)
  np.testing.assert_array_equal(im_info, [[100, 120, 2]])
  np.testing.assert_array_equal(EDGES.im_info(INFO), [[100, 120]])
  np.testing.assert_array_equal(
      LAST_PIXEL.to_network_ends(BOXES, im_info) - BOXES,
      [[[0, 0, -1, -1], [0, 0, 0, 0], [0, 0, -1, -1]]])
  assert EDGES.to_network_ends(BOXES, im_info) is BOXES
  scale = tf.constant([2., 2.])
  np.testing.assert_array_equal(
      LAST_PIXEL.scaled(tf.constant([[5., 10., 16., 21.]]), scale),
      BOXES[0, :1])
  np.testing.assert_array_equal(
      EDGES.scaled(BOXES[0], scale), 2 * BOXES[0])


def test_detections_of_a_shrunken_image_are_clipped_to_the_image():
  """101 pixels at the scale 0.625 are 63.125; the network has whole ones."""
  im_info = tf.constant([[63., 63., 0.625]])
  rois = tf.constant([[[1., 0., 2., 1.], [0., 0., 0., 0.]]])
  seen = []

  def decode(*given):
    seen[:] = [x.numpy().tolist() for x in given]
    return tf.constant(
        [[[[63.125, 0., 63.125, 1.]], [[0., 0., 0., 0.]]]]), 'scores'

  boxes, scores = LAST_PIXEL.detections(decode, rois, im_info)
  np.testing.assert_array_equal(
      boxes[0, :, 0], [[62.5, 0, 63.125, 1], [0, 0, 0, 0]])
  assert scores == 'scores'
  assert seen == [[[[1, 0, 1.625, 0.625], [0, 0, 0, 0]]], [[63.125, 63.125]]]
  EDGES.detections(decode, rois, im_info[:, :2])
  assert seen == [rois.numpy().tolist(), [[63, 63]]]


def test_boxes_that_end_at_edges_have_model_garden_s_anchors():
  expected = anchor_ops.Anchor(
      image_size=(96, 160), aspect_ratios=RATIOS, **FIELDS).multilevel_boxes
  found = EDGES.anchors((96, 160), aspect_ratios=RATIOS, **FIELDS)
  assert list(found) == list(expected)
  for level, boxes in expected.items():
    np.testing.assert_array_equal(found[level], boxes)


def test_only_the_release_pools_up_to_an_index():
  np.testing.assert_array_equal(
      LAST_PIXEL.pooled(BOXES), box_convention.to_pixels(BOXES))
  assert EDGES.pooled(BOXES) is BOXES
