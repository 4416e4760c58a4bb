"""Images at the paper's scales, on canvases that the network takes.

Section 4.2: "longer edge to 1400 and the other edge ranges from 400 to 1400"
for training, edges 800 and 1000 for evaluation.
"""

import dataclasses

import numpy as np
from official.vision.ops import preprocess_ops
import tensorflow as tf

# preprocess_ops.normalize_image in two passes over the image instead of three.
MEAN = 255 * np.array(preprocess_ops.MEAN_NORM, np.float32)
STDDEV = 255 * np.array(preprocess_ops.STDDEV_NORM, np.float32)


@dataclasses.dataclass(frozen=True)
class Pixels:
  """What a network sees of a pixel: (value - mean) / stddev, value in 0..255.

  Attributes:
    color_order: 'rgb' or 'bgr', of the channels of the network's input.
    mean: of each channel, in that order.
    stddev: of each channel, in that order.
    exact_scale: whether images are enlarged by just the scale, as OpenCV does
      when it gets a factor (the release). Otherwise it is the one between the
      two sizes, whole numbers of pixels.
  """
  color_order: str = 'rgb'
  mean: tuple[float, ...] = tuple(MEAN.tolist())
  stddev: tuple[float, ...] = tuple(STDDEV.tolist())
  exact_scale: bool = False

  def __call__(self, image: tf.Tensor) -> tf.Tensor:
    """[H, W, 3] RGB to float32 of the same shape."""
    if self.color_order == 'bgr':
      image = tf.reverse(image, [-1])
    mean, stddev = np.array([self.mean, self.stddev], np.float32)
    return (image - mean) * (1 / stddev)


DEFAULT_PIXELS = Pixels()


def scale_for_edges(image_size: tf.Tensor, short_edge: tf.Tensor,
                    long_edge: int) -> tf.Tensor:
  """Scale that brings the shorter edge to `short_edge`, or the longer to its
  limit where it would be beyond, in whole pixels (section 4.2: 800, 1000)."""
  longest = tf.reduce_max(image_size)
  scale = short_edge / tf.reduce_min(image_size)
  return tf.where(tf.round(scale * longest) > long_edge, long_edge / longest,
                  scale)


def _resize(image: tf.Tensor, size: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
  """Bilinear, [H, W, 3] to [*size, 3]; pixel x is read at (x + 0.5) / scale.

  `tf.image.resize` has no scale but size / [H, W]: at the far edge of an image
  that is a third of a pixel off.
  """
  image = tf.cast(image, tf.float32)
  for axis, length in enumerate(tf.unstack(size)):
    last = tf.shape(image)[axis] - 1
    place = (tf.range(tf.cast(length, tf.float32)) + 0.5) / scale - 0.5
    place = tf.clip_by_value(place, 0.0, tf.cast(last, tf.float32))
    cell = tf.cast(place, tf.int32)
    weight = tf.reshape(place - tf.floor(place), [-1] + [1] * (2 - axis))
    low = tf.gather(image, cell, axis=axis)
    high = tf.gather(image, tf.minimum(cell + 1, last), axis=axis)
    image = low + weight * (high - low)
  return image


def resize_to_canvas(
    image: tf.Tensor, scale: tf.Tensor, canvas: list[int],
    crop_position: tf.Tensor | None = None,
    pixels: Pixels = Pixels()) -> tuple[tf.Tensor, tf.Tensor]:
  """Resizes, crops what overhangs, normalises and pads with the mean colour.

  Args:
    image: [H, W, 3] uint8, RGB.
    scale: scalar, network-input pixels per image pixel.
    canvas: height and width of the result, numbers or scalar tensors.
    crop_position: [2] in 0..1, where the canvas lies in a larger image; None
      is the top left.
    pixels: how they are scaled and normalised.

  Returns:
    The network input, [*canvas, 3] float32, and image_info [4, 2] float32:
    original size, size of the visible part in network-input pixels, scale,
    offset of the crop.
  """
  image_size = tf.cast(tf.shape(image)[:2], tf.float32)
  scaled_size = tf.maximum(tf.round(image_size * scale), 1.0)
  visible = tf.minimum(scaled_size, tf.cast(canvas, tf.float32))
  if crop_position is None:
    crop_position = tf.zeros([2])
  offset = tf.floor(crop_position * (scaled_size - visible))
  size = tf.cast(scaled_size, tf.int32)
  if pixels.exact_scale:
    image, scales = _resize(image, size, scale), tf.fill([2], scale)
  else:
    image, scales = tf.image.resize(image, size), scaled_size / image_size
  height, width = tf.unstack(tf.cast(visible, tf.int32))
  top, left = tf.unstack(tf.cast(offset, tf.int32))
  image = image[top:top + height, left:left + width]
  image = pixels(image)
  image = tf.image.pad_to_bounding_box(image, 0, 0, *canvas)
  image.set_shape([*map(tf.get_static_value, canvas), 3])
  return image, tf.stack(
      [image_size, visible, scales, offset])
