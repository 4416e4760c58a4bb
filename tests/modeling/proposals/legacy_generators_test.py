"""Claims about proposals and detections with the release's boxes."""

import numpy as np
import tensorflow as tf

from panet_tf.modeling.proposals import portable_generators
from panet_tf.ops import box_convention


def detections(rois, image_size=(30, 40), **options):
  """Of one class with no offsets; scores fall from box to box."""
  generator = portable_generators.PortableDetectionGenerator(
      boxes='last_pixel', max_num_detections=len(rois),
      pre_nms_score_threshold=0.0, **options)
  logits = np.linspace(2, 1, len(rois))
  return generator(
      tf.zeros([1, len(rois), 8]),
      tf.constant(np.stack([0 * logits, logits], -1)[np.newaxis], tf.float32),
      tf.constant([rois], tf.float32), tf.constant([image_size], tf.float32))


def test_a_detection_outside_is_one_pixel_thick():
  found = detections([[-9, -9, -5, -5], [2, 50, 12, 60]])
  assert int(found['num_detections'][0]) == 2
  np.testing.assert_array_equal(
      found['detection_boxes'][0], [[0, 0, 1, 1], [2, 39, 12, 40]])


def test_rows_that_pad_proposals_are_no_detections():
  found = detections([[2, 2, 12, 12], [0, 0, 0, 0]])
  assert int(found['num_detections'][0]) == 1


def test_overlap_counts_the_last_pixel():
  """Of 2 x 2 and 1 x 2 pixels: IoU 0.5, by differences of indices 0."""
  pixels = tf.constant([[4., 4., 5., 5.], [5., 4., 5., 5.]])
  rois = box_convention.to_edges(pixels).numpy().tolist()
  assert int(detections(rois, nms_iou_threshold=0.45)['num_detections'][0]) == 1
  assert int(detections(rois, nms_iou_threshold=0.55)['num_detections'][0]) == 2


def test_proposals_enter_the_padding_and_keep_a_pixel():
  """An image of 30 x 40 is padded to 32 x 64."""
  anchors = tf.constant([[[[0, 0, 50, 80, 8, 70, 20, 90.]]]])
  boxes, _ = portable_generators.PortableROIGenerator(
      boxes='last_pixel', test_num_proposals=3)(
          {'2': tf.zeros([1, 1, 1, 8])}, {'2': tf.constant([[[[2., 1.]]]])},
          {'2': anchors}, tf.constant([[30., 40.]]), False)
  np.testing.assert_array_equal(
      boxes[0, :2], [[0, 0, 32, 64], [8, 63, 20, 64]])


def test_a_training_step_proposes_as_well():
  generator = portable_generators.PortableROIGenerator(
      boxes='last_pixel', num_proposals=2)
  boxes, _ = generator(
      {'2': tf.zeros([1, 1, 1, 8])}, {'2': tf.constant([[[[2., 1.]]]])},
      {'2': tf.constant([[[[0, 0, 50, 80, 8, 7, 20, 19.]]]])},
      tf.constant([[30., 40.]]), True)
  np.testing.assert_array_equal(boxes[0], [[0, 0, 30, 40], [8, 7, 20, 19]])
  assert type(generator).from_config(
      generator.get_config()).get_config()['boxes'] == 'last_pixel'
