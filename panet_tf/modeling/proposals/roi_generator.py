"""Proposals of feature maps whose size is known at run time only.

Training on several canvases has one graph for all of them. Model Garden's
generator reads the maps' sizes while that graph is made.
"""

from official.vision.modeling.layers import roi_generator
from official.vision.ops import box_ops
import tensorflow as tf
import tf_keras


@tf_keras.utils.register_keras_serializable(package='PANet')
class ROIGenerator(roi_generator.MultilevelROIGenerator):
  """Model Garden's generator, with its arguments; any map size."""

  def call(self, raw_boxes, raw_scores, anchor_boxes, image_shape,
           training=None):
    """See Model Garden's; a map of unknown size gives the same proposals.

    Where a map has fewer anchors than `pre_nms_top_k`, empty boxes of score 0
    follow them, as NMS leaves them behind anyway. Model Garden's batched NMS,
    and none at all, may take boxes beyond `pre_nms_top_k`; here they do not.
    """
    config, prefix = self.get_config(), '' if training else 'test_'
    most = config[prefix + 'pre_nms_top_k']
    min_size = config[prefix + 'pre_nms_min_size_threshold']
    levels = {
        level: _best(raw_boxes[level], scores, anchor_boxes[level], most,
                     image_shape, min_size)
        for level, scores in raw_scores.items()
        if None in scores.shape[1:].as_list()}
    raw_boxes, raw_scores, anchor_boxes = (
        dict(given, **{level: best[i] for level, best in levels.items()})
        for i, given in enumerate((raw_boxes, raw_scores, anchor_boxes)))
    return super().call(
        raw_boxes, raw_scores, anchor_boxes, image_shape, training)


def _best(boxes, scores, anchors, most, image_shape, min_size):
  """Boxes, scores and anchors of the `most` best, as a map of one row."""
  batch = tf.shape(scores)[0]
  scores = tf.reshape(scores, [batch, -1])
  boxes, anchors = (tf.reshape(x, [batch, -1, 4]) for x in (boxes, anchors))
  if min_size > 0:  # Small boxes must not take the places of others.
    decoded = box_ops.decode_boxes(boxes, tf.cast(anchors, boxes.dtype))
    image_shape = image_shape[:, tf.newaxis]
    _, fits = box_ops.filter_boxes(
        box_ops.clip_boxes(decoded, image_shape), tf.ones_like(scores),
        image_shape, min_size)
    scores = tf.where(fits > 0, scores, scores.dtype.min)
  missing = [[0, 0], [0, tf.maximum(most - tf.shape(scores)[1], 0)]]
  scores = tf.pad(scores, missing, constant_values=scores.dtype.min)
  scores, chosen = tf.math.top_k(scores, most)

  def rows(x):
    return tf.gather(tf.pad(x, [*missing, [0, 0]]), chosen, batch_dims=1)

  return (rows(boxes)[:, tf.newaxis], scores[:, tf.newaxis, :, tf.newaxis],
          rows(anchors)[:, tf.newaxis])
