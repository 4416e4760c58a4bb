"""Of Model Garden's NMS."""

import functools

from official.vision.ops import nms
import tensorflow as tf

_loops = nms.sorted_non_max_suppression_padded


def trace_once():
  """Makes its loops one function of a graph, however often they are called.

  Every level and every class has a copy of them otherwise, and most of a
  model's ops are theirs. No gradient goes through.
  """
  nms.sorted_non_max_suppression_padded = _shared


def _shared(scores, boxes, max_output_size, iou_threshold):
  found = _traced(max_output_size, iou_threshold)(
      tf.stop_gradient(tf.cast(scores, tf.float32)),
      tf.stop_gradient(tf.cast(boxes, tf.float32)))
  # Shapes that TensorFlow's optimizer sees: others round kernels otherwise.
  return tuple(tf.ensure_shape(x, [scores.shape[0], *x.shape[1:]])
               for x in found)


@functools.cache
def _traced(max_output_size, iou_threshold):
  return tf.function(
      lambda scores, boxes: _loops(
          scores, boxes, max_output_size, iou_threshold),
      input_signature=[tf.TensorSpec([None, None]),
                       tf.TensorSpec([None, None, 4])], autograph=False,
      experimental_attributes={'_noinline': True})
