"""`paste_masks.paste_mask` inside a graph: masks as large as the image.

Bilinear sampling is separable: a row of weights for each pixel row and each
pixel column of the image. Costs H * W * 28 multiplications for each mask; one
mask at a time, so that memory is what the result takes and one float image.
"""

import tensorflow as tf


def paste(masks: tf.Tensor, boxes: tf.Tensor,
          size: tuple[tf.Tensor, tf.Tensor],
          threshold: float = 0.5) -> tf.Tensor:
  """Samples masks at the pixels of an image.

  Args:
    masks: [N, M, M] float32, probabilities in the frames of the boxes; N > 0.
    boxes: [N, 4] float32, yxyx, image pixels, edges (pixel p covers [p, p +
      1]).
    size: height and width of the image, scalars.
    threshold: least probability that counts as inside.

  Returns:
    [N, height, width] bool; all False for an empty box.
  """
  rows, columns = (
      tf.cast(tf.range(length), tf.float32) + 0.5 for length in size)

  def one(mask_and_box):
    mask, box = mask_and_box
    down, rows_inside = _weights(rows, box[0], box[2], mask.shape[0])
    across, columns_inside = _weights(columns, box[1], box[3], mask.shape[1])
    pixels = tf.matmul(tf.matmul(down, mask), across, transpose_b=True)
    inside = rows_inside[:, tf.newaxis] & columns_inside
    return (pixels >= threshold) & inside

  return tf.map_fn(one, (masks, boxes), fn_output_signature=tf.TensorSpec(
      [None, None], tf.bool))


def _weights(centers, low, high, cells):
  """Bilinear weights [pixels, cells], and which pixels lie in the box."""
  inside = (centers >= low) & (centers < high)
  position = (centers - low) / tf.maximum(high - low, 1e-12) * cells - 0.5
  position = tf.clip_by_value(position, 0.0, cells - 1.0)
  distance = position[:, tf.newaxis] - tf.range(cells, dtype=tf.float32)
  return tf.maximum(1.0 - tf.abs(distance), 0.0), inside
