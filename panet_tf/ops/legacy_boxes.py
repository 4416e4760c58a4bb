"""Boxes as the authors' release has them, which is Detectron's way of 2018.

There a box ends on the index of its last pixel: [0, 0, 9, 9] is ten pixels wide
("+1"). Inside the model a box ends at an edge, [0, 0, 10, 10] for the same box.
Then widths, offsets and IoU of the release are those of everyone else, and what
is left of its habits is here: rounded anchors, boxes that keep a pixel of the
image when they are clipped, and the clipping of proposals to the padded image.

The release decodes and suppresses detections in pixels of the image, where the
last pixel is one of the image's: `scale` pixels of the network input wide. So
its generators take `im_info` for an image's shape: height, width and, if there
is a third number, that scale.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_STRIDE = 32  # Of the coarsest backbone level; images are padded to it.


def to_pixels(boxes: tf.Tensor) -> tf.Tensor:
  """Edges to indices of pixels, [..., 4] yxyx; empty rows of 0 stay 0."""
  return lengthened(boxes, -1.0)


def to_edges(boxes: tf.Tensor) -> tf.Tensor:
  """Indices of pixels to edges, [..., 4] yxyx; empty rows of 0 stay 0."""
  return lengthened(boxes, 1.0)


def lengthened(boxes: tf.Tensor, by: tf.Tensor) -> tf.Tensor:
  """Boxes [..., 4] yxyx with y2 and x2 that much larger; empty rows stay."""
  return boxes + present(boxes) * by * tf.constant([0, 0, 1, 1], boxes.dtype)


def present(boxes: tf.Tensor) -> tf.Tensor:
  """[..., 1] of the boxes' type: 0 for empty rows, which pad lists."""
  return tf.cast(tf.reduce_any(boxes != 0, -1, keepdims=True), boxes.dtype)


def image_pixel(im_info: tf.Tensor) -> tf.Tensor:
  """[B, 1] float32: a pixel of the image in pixels of the network input.

  Args:
    im_info: [B, 2] height and width, for images at their own scale, or [B, 3].
  """
  if im_info.shape[-1] == 3:
    return tf.cast(im_info[:, 2:], tf.float32)
  return tf.ones_like(im_info[:, :1], tf.float32)


def keep_a_pixel(boxes: tf.Tensor, image_shape: tf.Tensor,
                 pixel: tf.Tensor = 1.0) -> tf.Tensor:
  """What is left to clip of boxes that were clipped to the edges of an image.

  The release clips indices of pixels to 0..size - 1: a box that lies outside
  becomes one pixel thick, not empty.

  Args:
    boxes: [..., 4] yxyx edges, inside the image.
    image_shape: [..., 2], height and width, broadcast against the boxes.
    pixel: [..., 1], how large it is.
  """
  start, end = boxes[..., :2], boxes[..., 2:]
  last = tf.cast(image_shape, boxes.dtype) - pixel
  return tf.concat([tf.minimum(start, last), tf.maximum(end, pixel)], -1)


def padded(image_shape: tf.Tensor) -> tf.Tensor:
  """Height and width with the release's padding, which proposals may enter."""
  return _STRIDE * tf.math.ceil(tf.cast(image_shape, tf.float32) / _STRIDE)


def anchors(image_size: tuple[int, int], *, min_level: int, max_level: int,
            num_scales: int, aspect_ratios: Sequence[float],
            anchor_size: float) -> dict[str, tf.Tensor]:
  """The release's anchors; arguments and result of Model Garden's.

  A square of the level's stride gets its aspect ratio, is rounded to whole
  pixels, and scaled. Cells are `stride` apart, also where the map is larger
  than the image (Model Garden spreads them over the image).

  Args:
    image_size: height and width of the network input.
    min_level: finest level.
    max_level: coarsest level.
    num_scales: sizes per octave.
    aspect_ratios: width / height; the release counts from wide to tall.
    anchor_size: side in strides.

  Returns:
    {level: [h, w, anchors * 4]} float32, yxyx edges, network-input pixels.
  """
  boxes = {}
  for level in range(min_level, max_level + 1):
    stride = 2**level
    half = 0.5 * _sizes(stride, num_scales, aspect_ratios, anchor_size)
    cells = [-(-edge // stride) for edge in image_size]
    centre = stride * (np.stack(
        np.meshgrid(*map(np.arange, cells), indexing='ij'), -1) + 0.5)
    centre = centre[:, :, np.newaxis]
    boxes[str(level)] = tf.constant(
        np.concatenate([centre - half, centre + half], -1).reshape(
            [*cells, -1]), tf.float32)
  return boxes


def _sizes(stride, num_scales, aspect_ratios, anchor_size):
  """[anchors, 2], height and width."""
  sizes = []
  for scale in range(num_scales):
    for ratio in aspect_ratios:
      width = np.round(stride * np.sqrt(ratio))
      height = np.round(width / ratio)
      sizes.append(
          anchor_size * 2**(scale / num_scales) * np.array([height, width]))
  return np.array(sizes)
