"""Batches of one canvas: multi-scale training without paying for padding.

A batch is one tensor. With one canvas for all, an image whose shorter edge is
drawn to 400 pixels costs as much as one of 1400; grouped by canvas, it lies
with others of its size (Detectron2 groups by orientation in the same way).
"""

import tensorflow as tf


def batches_of_one_canvas(global_batch_size):
  """The `transform_and_batch_fn` of Model Garden's reader that groups.

  The batches hold the very examples, scales and flips that come in, each once.
  Of an endless stream, fewer than a batch per canvas wait at any time, none is
  dropped. Grouping changes which examples meet in a batch, and the padding they
  have there: losses are not to the bit those of a larger canvas, for
  normalisation and anchors see the padding.

  Args:
    global_batch_size: examples of a step, over all replicas. Each replica's
      batch has a canvas of its own.

  Returns:
    Function of a data set of (image [H, W, 3], labels) and an InputContext or
    None; it gives a data set of batches, H and W unknown until run time.
  """
  def group(dataset, input_context=None):
    size = (input_context.get_per_replica_batch_size(global_batch_size)
            if input_context else global_batch_size)
    return dataset.group_by_window(
        key_func=lambda image, labels: _canvas_number(image),
        reduce_func=lambda _, window: window.batch(size, drop_remainder=True),
        window_size=size)

  return group


def _canvas_number(image):
  """One int64 for the height and width of an image."""
  height, width = tf.unstack(tf.shape(image, tf.int64)[:2])
  return height * 2**32 + width
