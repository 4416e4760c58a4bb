"""Where image, masks and boxes lie after flipping, scaling and cropping.

`flips` is [2] bool everywhere: top to bottom, left to right. `image_info` is
[4, 2], see `image_scaling.resize_to_canvas`.
"""

from official.vision.ops import box_ops
from official.vision.ops import preprocess_ops
import tensorflow as tf

from panet_tf.ops import box_convention


def flip_pixels(pixels, flips, axis=0):
  """An image [H, W, 3], mirrored; or masks [N, H, W], of which H is axis 1."""
  down = tf.cond(flips[0], lambda: tf.reverse(pixels, [axis]), lambda: pixels)
  return tf.cond(flips[1], lambda: tf.reverse(down, [axis + 1]), lambda: down)


def flip_boxes(boxes, flips):
  """Boxes [N, 4] yxyx in 0..1; its own inverse."""
  mirrored = 1.0 - tf.roll(boxes, 2, axis=1)
  return tf.where(tf.tile(flips, [2]), mirrored, boxes)


def place_boxes(boxes, flips, image_info, convention=box_convention.EDGES):
  """Boxes [N, 4] yxyx in 0..1 in network-input pixels, clipped to the visible.

  With `LAST_PIXEL` a box's last pixel is one of the image before, and one of
  the network after.
  """
  image_size, visible, scale, offset = tf.unstack(image_info)
  # Model Garden's order: another one rounds otherwise, and anchors tie.
  pixels = convention.scaled(
      flip_boxes(boxes, flips) * tf.tile(image_size, [2]), scale)
  return box_ops.clip_boxes(pixels - tf.tile(offset, [2]), visible)


def place_proposals(boxes, flips, image_info, most,
                    convention=box_convention.EDGES):
  """Stored proposals as a model takes them, [most, 4]; see `place_boxes`.

  They are [N, 4] yxyx edges in pixels of the image, best first; zeros follow
  fewer than `most`, as in Model Garden's RPN.
  """
  boxes = place_boxes(
      boxes / tf.tile(image_info[0], [2]), flips, image_info, convention)
  boxes = tf.gather(boxes, box_ops.get_non_empty_box_indices(boxes))
  return preprocess_ops.clip_or_pad_to_fixed_size(boxes, most, 0)
