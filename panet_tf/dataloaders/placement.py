"""Where image, masks and boxes lie after flipping, scaling and cropping.

`flips` is [2] bool everywhere: top to bottom, left to right. `image_info` is
[4, 2], see `image_scaling.resize_to_canvas`.
"""

from official.vision.ops import box_ops
from official.vision.ops import preprocess_ops
import tensorflow as tf

from panet_tf.ops import box_convention


def flip_image(image, flips):
  """An image [H, W, 3], mirrored."""
  image = tf.cond(flips[0], lambda: tf.reverse(image, [0]), lambda: image)
  return tf.cond(flips[1], lambda: tf.reverse(image, [1]), lambda: image)


def flip_masks(masks, flips):
  """Masks [N, H, W], mirrored."""
  masks = tf.cond(flips[0], lambda: tf.reverse(masks, [1]), lambda: masks)
  return tf.cond(flips[1], lambda: tf.reverse(masks, [2]), lambda: masks)


def flip_boxes(boxes, flips):
  """Boxes [N, 4] yxyx in 0..1; its own inverse."""
  mirrored = 1.0 - tf.roll(boxes, 2, axis=1)
  return tf.where(tf.tile(flips, [2]), mirrored, boxes)


def place_boxes(boxes, flips, image_info, convention=box_convention.EDGES):
  """Boxes of an image as the network sees it.

  Args:
    boxes: [N, 4] yxyx in 0..1.
    flips: of the image.
    image_info: of the image.
    convention: with `LAST_PIXEL` a box's last pixel is one of the image before,
      and one of the network after.

  Returns:
    [N, 4] in network-input pixels, clipped to what is visible.
  """
  image_size, visible, scale, offset = tf.unstack(image_info)
  # Model Garden's order: another one rounds otherwise, and anchors tie.
  pixels = convention.scaled(
      flip_boxes(boxes, flips) * tf.tile(image_size, [2]), scale)
  return box_ops.clip_boxes(pixels - tf.tile(offset, [2]), visible)


def place_proposals(boxes, flips, image_info, most,
                    convention=box_convention.EDGES):
  """Stored proposals as a model takes them.

  Args:
    boxes: [N, 4] yxyx edges in pixels of the image, best first.
    flips: see `place_boxes`.
    image_info: see `place_boxes`.
    most: number of boxes; zeros follow fewer, as in Model Garden's RPN.
    convention: see `place_boxes`.

  Returns:
    [most, 4] in network-input pixels, clipped to what is visible.
  """
  boxes = place_boxes(
      boxes / tf.tile(image_info[0], [2]), flips, image_info, convention)
  boxes = tf.gather(boxes, box_ops.get_non_empty_box_indices(boxes))
  return preprocess_ops.clip_or_pad_to_fixed_size(boxes, most, 0)
