"""Proposals of feature maps whose size is known at run time only.

Training on several canvases has one graph for all of them. Model Garden's
generator reads the maps' sizes while that graph is made.
"""

import tensorflow as tf
import tf_keras
from official.vision.modeling.layers import roi_generator


@tf_keras.utils.register_keras_serializable(package='PANet')
class ROIGenerator(roi_generator.MultilevelROIGenerator):
  """Model Garden's generator, with its arguments; any map size."""

  def call(self, raw_boxes, raw_scores, anchor_boxes, image_shape,
           training=None):
    """See Model Garden's; a map of unknown size gives the same proposals.

    Where a map has fewer anchors than `pre_nms_top_k`, empty boxes of score 0
    follow them, as NMS leaves them behind anyway.
    """
    most = self.get_config()[
        'pre_nms_top_k' if training else 'test_pre_nms_top_k']
    levels = {
        level: _best(raw_boxes[level], scores, anchor_boxes[level], most)
        for level, scores in raw_scores.items()
        if None in scores.shape[1:].as_list()}
    raw_boxes, raw_scores, anchor_boxes = (
        dict(given, **{level: best[i] for level, best in levels.items()})
        for i, given in enumerate((raw_boxes, raw_scores, anchor_boxes)))
    return super().call(
        raw_boxes, raw_scores, anchor_boxes, image_shape, training)


def _best(boxes, scores, anchors, most):
  """Boxes, scores and anchors of the `most` best, as a map of one row."""
  batch = tf.shape(scores)[0]
  scores = tf.reshape(scores, [batch, -1])
  missing = [[0, 0], [0, tf.maximum(most - tf.shape(scores)[1], 0)]]
  scores = tf.pad(scores, missing, constant_values=scores.dtype.min)
  scores, chosen = tf.math.top_k(scores, most)

  def rows(x):
    x = tf.pad(tf.reshape(x, [batch, -1, 4]), [*missing, [0, 0]])
    return tf.gather(x, chosen, batch_dims=1)

  return (rows(boxes)[:, tf.newaxis], scores[:, tf.newaxis, :, tf.newaxis],
          rows(anchors)[:, tf.newaxis])
