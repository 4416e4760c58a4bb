"""From the masks in a record to those that the mask head learns.

A mask goes from its PNG straight to its target: only what lies around its own
box is ever a tensor, never N masks of the image's size.
"""

from collections.abc import Mapping

import tensorflow as tf

FEATURES = {
    'image/object/mask': tf.io.VarLenFeature(tf.string),
    'image/object/mask/crop': tf.io.VarLenFeature(tf.string),
    'image/object/mask/crop_top': tf.io.VarLenFeature(tf.int64),
    'image/object/mask/crop_left': tf.io.VarLenFeature(tf.int64),
}


def encoded_masks(parsed: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
  """The smallest form of the masks of a record, whose FEATURES are dense.

  {'png': [N] string, 'corner': [N, 2] int64}, top and left of what the PNG
  shows, original-image pixels. In Model Garden's records it shows all of it.
  """
  whole = parsed['image/object/mask']
  corner = tf.stack([parsed[f'image/object/mask/crop_{side}']
                     for side in ('top', 'left')], 1)
  return tf.cond(
      tf.size(corner) > 0,
      lambda: {'png': parsed['image/object/mask/crop'], 'corner': corner},
      lambda: {'png': whole,
               'corner': tf.zeros([tf.size(whole), 2], tf.int64)})


def masks_in_boxes(masks: dict[str, tf.Tensor], boxes: tf.Tensor,
                   image_size: tf.Tensor, size: int,
                   aligned: bool = True) -> tf.Tensor:
  """Cuts each object's box out of its mask.

  Args:
    masks: as of `encoded_masks`.
    boxes: [N, 4] yxyx, original-image pixels.
    image_size: [2] int, height and width of the image.
    size: height and width of a crop.
    aligned: see `configs.data.ParserConfig.aligned_masks`; False samples from
      corner to corner.

  Returns:
    [N, size, size] float32 in 0..1, bilinear.
  """
  first, last = _sampled(boxes, image_size, size, aligned)
  start, stop, corner = _touched(masks, first, last)
  # Beyond the mask's own part of the image it is 0; beyond the image, where the
  # outer samples of a box at its edge lie, a copy of the outermost pixels.
  ends = tf.stack([corner <= 0, corner + stop - start >= image_size], 2)
  # 0 is the first pixel's centre for the kernel, and 1 the last one's.
  origin = tf.cast(corner - 1, tf.float32)
  limit = tf.cast(stop - start + 1, tf.float32)
  corners = tf.concat([(first - origin) / limit, (last - origin) / limit], 1)

  def crop(inputs):
    png, start, stop, ends, corners = inputs
    mask = tf.io.decode_png(png, channels=1)
    mask = mask[start[0]:stop[0], start[1]:stop[1]]
    # Third row: the channel.
    copies = tf.pad(tf.cast(ends, tf.int32), [[0, 1], [0, 0]])
    zeros = tf.pad(tf.cast(~ends, tf.int32), [[0, 1], [0, 0]])
    mask = tf.pad(tf.pad(mask, copies, 'SYMMETRIC'), zeros)
    return tf.image.crop_and_resize(
        mask[tf.newaxis], corners[tf.newaxis], [0], [size, size])[0, :, :, 0]

  return tf.map_fn(
      crop, (masks['png'], start, stop, ends, corners), parallel_iterations=4,
      fn_output_signature=tf.TensorSpec([size, size], tf.float32))


def _sampled(boxes, image_size, size, aligned):
  """First and last sample [N, 2], where pixel centres are whole numbers."""
  if not aligned:
    last_pixel = tf.cast(image_size - 1, tf.float32)
    ratio = last_pixel / tf.cast(image_size, tf.float32)
    return boxes[:, :2] * ratio, boxes[:, 2:] * ratio
  half_cell = (boxes[:, 2:] - boxes[:, :2]) / (2 * size)
  return boxes[:, :2] + half_cell - 0.5, boxes[:, 2:] - half_cell - 0.5


def _touched(masks, first, last):
  """The part of each PNG that samples touch: start and stop [N, 2] int32 in the
  PNG, and the start's place in the image."""
  # Width and height stand in the same place of every PNG.
  header = tf.strings.substr(masks['png'], 16, 8)
  png_size = tf.reverse(tf.reshape(
      tf.io.decode_raw(header, tf.int32, little_endian=False), [-1, 2]), [1])
  corner = tf.cast(masks['corner'], tf.int32)
  start = tf.cast(tf.floor(first), tf.int32) - corner
  stop = tf.cast(tf.floor(last), tf.int32) + 2 - corner
  # Where samples touch nothing a line is kept, which they do not touch either.
  start = tf.clip_by_value(start, 0, png_size - 1)
  stop = tf.clip_by_value(stop, start + 1, png_size)
  return start, stop, corner + start
