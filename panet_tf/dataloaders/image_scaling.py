"""Images at the paper's scales, on canvases that the network takes.

Section 4.2: "longer edge to 1400 and the other edge ranges from 400 to 1400"
for training, edges 800 and 1000 for evaluation.
"""

import dataclasses
from typing import List, Optional, Tuple

import numpy as np
import tensorflow as tf
from official.vision.ops import preprocess_ops

_COARSEST_STRIDE = 64  # Level 6.
# preprocess_ops.normalize_image in two passes over the image instead of three.
MEAN = 255 * np.float32(preprocess_ops.MEAN_NORM)
STDDEV = 255 * np.float32(preprocess_ops.STDDEV_NORM)


@dataclasses.dataclass(frozen=True)
class Pixels:
  """What a network sees of a pixel: (value - mean) / stddev, value in 0..255.

  Attributes:
    color_order: 'rgb' or 'bgr', of the channels of the network's input.
    mean: of each channel, in that order.
    stddev: the same.
  """
  color_order: str = 'rgb'
  mean: Tuple[float, ...] = tuple(MEAN.tolist())
  stddev: Tuple[float, ...] = tuple(STDDEV.tolist())

  def __call__(self, image: tf.Tensor) -> tf.Tensor:
    """[H, W, 3] RGB to float32 of the same shape."""
    if self.color_order == 'bgr':
      image = tf.reverse(image, [-1])
    return (image - np.float32(self.mean)) * (1 / np.float32(self.stddev))


def canvas_size(input_size: List[int], long_edge: int) -> List[int]:
  """Height and width of the padded network input, multiples of 64."""
  height, width = (long_edge, long_edge) if long_edge else input_size[:2]
  return [-(-edge // _COARSEST_STRIDE) * _COARSEST_STRIDE
          for edge in (height, width)]


def scale_for_edges(image_size: tf.Tensor, short_edge: tf.Tensor,
                    long_edge: int) -> tf.Tensor:
  """Scale that brings the shorter edge to `short_edge`, or the longer to its
  limit where that is less (section 4.2: 800 and 1000)."""
  return tf.minimum(short_edge / tf.reduce_min(image_size),
                    long_edge / tf.reduce_max(image_size))


def resize_to_canvas(
    image: tf.Tensor, scale: tf.Tensor, canvas: List[int],
    crop_position: Optional[tf.Tensor] = None,
    pixels: Pixels = Pixels()) -> Tuple[tf.Tensor, tf.Tensor]:
  """Resizes, crops what overhangs, normalises and pads with the mean colour.

  Args:
    image: [H, W, 3] uint8, RGB.
    scale: scalar, network-input pixels per image pixel.
    canvas: height and width of the result, numbers or scalar tensors.
    crop_position: [2] in 0..1, where the canvas lies in a larger image; None
      is the top left.
    pixels: how they are normalised.

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
  image = tf.image.resize(image, tf.cast(scaled_size, tf.int32))
  height, width = tf.unstack(tf.cast(visible, tf.int32))
  top, left = tf.unstack(tf.cast(offset, tf.int32))
  image = image[top:top + height, left:left + width]
  image = pixels(image)
  image = tf.image.pad_to_bounding_box(image, 0, 0, *canvas)
  image.set_shape([*map(tf.get_static_value, canvas), 3])
  return image, tf.stack(
      [image_size, visible, scaled_size / image_size, offset])
