"""An RPN's place in Mask R-CNN, taken by proposals that come with the input.

Section 4.1: "proposals are from an independently trained RPN [...] the backbone
is not shared with object detection/instance segmentation".
"""

import tensorflow as tf
import tf_keras


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

  They are its `anchor_boxes`: the one argument that Model Garden's training
  step hands through the model without a look, see `model_garden.training`.
  """

  def call(self, raw_boxes, raw_scores, anchor_boxes, image_shape,
           training=None):
    """See Model Garden's: boxes [B, R, 4] and scores [B, R], all 1."""
    del raw_boxes, raw_scores, image_shape, training
    return anchor_boxes, tf.ones_like(anchor_boxes[..., 0])
