"""Batches of one canvas: multi-scale training without paying for padding.

A batch is one tensor. With one canvas for all, an image whose shorter edge is
drawn to 400 pixels costs as much as one of 1400; grouped by canvas, it lies
with others of its size (Detectron2 groups by orientation in the same way).
"""

import re

import tensorflow as tf

from panet_tf import errors


def parse_canvases(options, is_training):
  """[[height, width]] of a `config.Parser`'s `canvases`.

  Raises:
    InputError: naming the field, and what would be right.
  """
  field = (f'task.{"train" if is_training else "validation"}_data.parser.'
           'canvases')
  canvases = []
  for text in options.canvases:
    if not re.fullmatch('[1-9][0-9]{0,5}x[1-9][0-9]{0,5}', str(text)):
      raise errors.InputError(
          f'{field} has {text!r}; an entry must be HEIGHTxWIDTH in pixels, as '
          'in 1088x1408')
    canvases.append([int(edge) for edge in text.split('x')])
  if canvases and not (options.short_edge or options.short_edge_choices):
    raise errors.InputError(
        f'{field} is for images scaled by edges; set short_edge (or '
        'short_edge_choices) and long_edge as well')
  if len(canvases) > 1 and not is_training:
    raise errors.InputError(
        f'{field} has {len(canvases)} entries; evaluation takes one at most: '
        'only training groups its batches by canvas')
  return canvases


def batches_of_one_canvas(global_batch_size):
  """The `transform_and_batch_fn` of Model Garden's reader that groups.

  It is exact in what it trains on: the batches hold the very examples, scales
  and flips that come in, each once. Of an endless stream, fewer than a batch
  per canvas wait at any time, none is dropped. Grouping changes the order and
  which examples meet in a batch, and the padding they have there; losses are
  not to the bit those of a larger canvas, for normalisation and anchors see the
  padding.

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
