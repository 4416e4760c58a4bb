"""An RPN's place in Mask R-CNN, taken by proposals that come with the input.

Section 4.1: "proposals are from an independently trained RPN [...] the backbone
is not shared with object detection/instance segmentation".
"""

import tensorflow as tf
import tf_keras

PROPOSALS = 'proposals'  # Their key among the labels' `anchor_boxes`.


@tf_keras.utils.register_keras_serializable(package='PANet')
class NoRPN(tf_keras.layers.Layer):
  """In the place of the RPN head: no scores and boxes at any level."""

  def call(self, n):
    """See `RPNHead.call`."""
    del n
    return {}, {}


@tf_keras.utils.register_keras_serializable(package='PANet')
class StoredProposals(tf_keras.layers.Layer):
  """In the place of the RoI generator: gives what it is given.

  Model Garden's steps hand `labels['anchor_boxes']` to the model and the model
  to the generator, and neither ever looks into it: there the boxes travel.
  """

  def call(self, raw_boxes, raw_scores, anchor_boxes, image_shape,
           training=None):
    """See Model Garden's: boxes [B, R, 4] and scores [B, R], all 1."""
    del raw_boxes, raw_scores, image_shape, training
    boxes = anchor_boxes[PROPOSALS]
    return boxes, tf.ones_like(boxes[..., 0])
