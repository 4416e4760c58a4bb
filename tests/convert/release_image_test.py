"""Claims about images of any size: scaled, and boxes back, as the release does.

Its lib/utils/blob.py and lib/core/test.py, those of Detectron.pytorch: OpenCV
enlarges by a factor, and boxes are decoded in pixels of the image.
"""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from panet_tf.dataloaders import image_scaling
from panet_tf.modeling.proposals import portable_generators
from tests.convert import release_numpy

MEAN = (102.9801, 115.9465, 122.7717)
PIXELS = image_scaling.Pixels('bgr', MEAN, (1.0, 1.0, 1.0), exact_scale=True)


def release_scale(height, width, short_edge, long_edge):
  """`get_target_scale`."""
  scale = short_edge / min(height, width)
  if np.round(scale * max(height, width)) > long_edge:
    scale = long_edge / max(height, width)
  return scale


def photo(height, width):
  """Smooth, and colourful up to its edges."""
  noise = np.random.default_rng(height).uniform(0, 255, [height, width, 3])
  smooth = cv2.GaussianBlur(noise, (0, 0), 2)
  return np.uint8(np.clip(4 * (smooth - 96), 0, 255))


# One third of a pixel is lost; the longer edge decides; it would be 350.1 long,
# which the release lets pass; tall; made smaller.
@pytest.mark.parametrize('size', [
    (120, 160), (107, 160), (457, 640), (160, 107), (600, 900)])
def test_an_image_is_scaled_by_a_factor_as_opencv_does(size):
  image = photo(*size)
  expected_scale = release_scale(*size, 250, 350)
  expected = cv2.resize(
      image[..., ::-1].astype(np.float32) - np.float32(MEAN), None, None,
      fx=expected_scale, fy=expected_scale, interpolation=cv2.INTER_LINEAR)
  scale = image_scaling.scale_for_edges(
      tf.constant(size, tf.float32), 250.0, 350)
  inputs, info = image_scaling.resize_to_canvas(
      image, scale, [384, 384], pixels=PIXELS)
  height, width = expected.shape[:2]
  np.testing.assert_allclose(inputs[:height, :width], expected, atol=0.02)
  assert not np.any(inputs[height:]) and not np.any(inputs[:, width:])
  np.testing.assert_allclose(
      info, [size, [height, width], [expected_scale] * 2, [0, 0]], rtol=1e-6)


def head_outputs(rng, count, classes):
  """Proposals around a few objects of 80 x 100, at their own scores."""
  centre = rng.uniform(0, [100, 80], [6, 2])[rng.integers(0, 6, count)]
  size = rng.uniform(5, 40, [count, 2])
  boxes = np.concatenate([centre - size / 2, centre + size / 2 - 1], 1)
  return (boxes, rng.normal(size=[count, 4 * classes]),
          2 * rng.normal(size=[count, classes]))


@pytest.mark.parametrize('scale', [2.5 + 1 / 12, 1.0])
def test_boxes_are_decoded_and_suppressed_in_pixels_of_the_image(scale):
  height, width, classes = 80, 100, 4
  boxes, deltas, logits = head_outputs(np.random.default_rng(0), 200, classes)
  rois = release_numpy.clip(boxes * scale, 224, 288)
  scores = tf.nn.softmax(np.float32(logits)).numpy()
  expected = np.array(release_numpy.detections(
      release_numpy.clip(release_numpy.decode(
          rois / scale, deltas, (10, 10, 5, 5)), height, width), scores))
  visible = np.round([height * scale, width * scale])
  generator = portable_generators.PortableDetectionGenerator(
      boxes='last_pixel', pre_nms_top_k=200, max_num_detections=100)
  yxyx = np.float32(rois[:, [1, 0, 3, 2]] + [0, 0, 1, 1])
  yxhw = np.float32(deltas.reshape(-1, classes, 4)[..., [1, 0, 3, 2]])
  found = generator(
      yxhw.reshape(1, 200, -1), np.float32(logits)[np.newaxis],
      yxyx[np.newaxis], np.float32([[*visible, scale]]),
      portable_generators.BOX_WEIGHTS)
  count = int(found['num_detections'][0])
  assert count == len(expected) > 50
  np.testing.assert_array_equal(
      found['detection_classes'][0, :count], expected[:, 0])
  # In network pixels they end behind one of those, for the mask branch.
  ours = (found['detection_boxes'][0, :count].numpy() - [0, 0, 1, 1]) / scale
  np.testing.assert_allclose(ours[:, [1, 0, 3, 2]], expected[:, 2:], atol=1e-3)
  assert (expected[:, 4] == width - 1).any()  # Clipped ones are among them.
