"""A region proposal network that shares its backbone with nothing.

Section 4.1: "proposals are from an independently trained RPN [35, 51] for
convenient ablation and fair comparison". Its parts have the names they have in
`PANetModel`, so that the one starts from a checkpoint of the other.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from panet_tf.modeling.proposals import proposal_stage


@tf_keras.utils.register_keras_serializable(package='PANet')
class RPNModel(proposal_stage.ProposalStage, tf_keras.Model):
  """Backbone, feature pyramid and RPN head."""

  def __init__(self, *, backbone: tf_keras.Model, decoder: tf_keras.Model,
               rpn_head: tf_keras.layers.Layer,
               roi_generator: tf_keras.layers.Layer, min_level: int,
               max_level: int, num_scales: int, aspect_ratios: list[float],
               anchor_size: float, legacy_boxes: bool = False, **kwargs):
    """Initializes the model; see `PANetModel` for the arguments."""
    super().__init__(**kwargs)
    self.backbone, self.decoder = backbone, decoder
    self.rpn_head, self.roi_generator = rpn_head, roi_generator
    self._legacy_boxes = legacy_boxes
    self._config_dict = dict(
        backbone=backbone, decoder=decoder, rpn_head=rpn_head,
        roi_generator=roi_generator, min_level=min_level, max_level=max_level,
        num_scales=num_scales, aspect_ratios=aspect_ratios,
        anchor_size=anchor_size, legacy_boxes=legacy_boxes)

  def call(self, images: tf.Tensor, image_shape: tf.Tensor,
           anchor_boxes: Mapping[str, tf.Tensor] | None = None,
           gt_boxes: tf.Tensor | None = None,
           gt_classes: tf.Tensor | None = None,
           training: bool | None = None) -> dict[str, Any]:
    """Takes what Model Garden's steps give a Mask R-CNN.

    Args:
      images: [B, H, W, 3].
      image_shape: [B, 2], size without padding, network-input pixels; or of
        `im_info`.
      anchor_boxes: {'2'..'6'}: [B, h, w, 4 * anchors]; None makes them.
      gt_boxes: not used: the targets are among the labels.
      gt_classes: not used.
      training: whether there are losses to come, and no proposals.

    Returns:
      rpn_scores and rpn_boxes, see `RPNHead`. If not training, the proposals
      as detections of class 1: detection_boxes [B, R, 4] yxyx edges in
      network-input pixels, detection_scores [B, R], best first,
      detection_classes [B, R] int32 and num_detections [B] int32, without the
      empty boxes that fill the rows.
    """
    del gt_boxes, gt_classes
    rpn_scores, rpn_boxes = self.rpn_head(
        self.features(images, training=training), training=training)
    outputs = {'rpn_scores': rpn_scores, 'rpn_boxes': rpn_boxes}
    if training:
      return outputs
    if anchor_boxes is None:
      anchor_boxes = self.image_anchors(images, images.shape[1:3])
    boxes, scores = self.roi_generator(
        rpn_boxes, rpn_scores, anchor_boxes, image_shape, False)
    return dict(outputs, **_as_detections(
        boxes, tf.reshape(scores, tf.shape(boxes)[:2])))

  def get_config(self) -> dict[str, Any]:
    return self._config_dict

  @classmethod
  def from_config(cls, config, custom_objects=None):
    del custom_objects
    return cls(**config)


def _as_detections(boxes, scores):
  """Empty boxes last: a clipped one may stand before others."""
  present = tf.reduce_all(boxes[..., 2:] > boxes[..., :2], -1)
  order = tf.argsort(
      tf.cast(present, tf.int32), direction='DESCENDING', stable=True)
  return {
      'detection_boxes': tf.gather(boxes, order, batch_dims=1),
      'detection_scores': tf.gather(scores, order, batch_dims=1),
      'detection_classes': tf.ones_like(order),
      'num_detections': tf.reduce_sum(tf.cast(present, tf.int32), 1),
  }
