"""Figure 1: features, proposals, box branch, mask branch.

The model is Model Garden's Mask R-CNN with other parts handed in: its decoder
ends in the bottom-up path, its RoI aligners return one tensor per level, and
its heads take such lists. Training and inference are inherited.
"""

from typing import Dict, List, Tuple

import tensorflow as tf
import tf_keras
from official.vision.modeling import maskrcnn_model
from official.vision.ops import anchor as anchor_ops


@tf_keras.utils.register_keras_serializable(package='PANet')
class PANetModel(maskrcnn_model.MaskRCNNModel):
  """PANet. Takes the same parts as `MaskRCNNModel`.

  Calling it runs everything. The four methods below run its stages one by
  one, for ensembles, test-time augmentation and tests. Boxes are
  [y1, x1, y2, x2] in network-input pixels, float32.
  """

  def features(self, images: tf.Tensor,
               training: bool = False) -> Dict[str, tf.Tensor]:
    """Images [B, H, W, 3] to N2..N6, {'2'..'6'}: [B, H/2^l, W/2^l, C]."""
    return self.decoder(
        self.backbone(images, training=training), training=training)

  def propose(self, features: Dict[str, tf.Tensor],
              image_shape: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """Proposals of the RPN, after NMS.

    Args:
      features: N2..N6, with static height and width.
      image_shape: [B, 2] float32, height and width of the images without
        padding, in network-input pixels.

    Returns:
      boxes [B, R, 4] and scores [B, R].
    """
    rpn_scores, rpn_boxes = self.rpn_head(features, training=False)
    boxes, scores = self.roi_generator(
        rpn_boxes, rpn_scores, self._anchors(features), image_shape, False)
    return boxes, tf.reshape(scores, tf.shape(boxes)[:2])

  def classify(self, features: Dict[str, tf.Tensor],
               boxes: tf.Tensor) -> List[tf.Tensor]:
    """Boxes [B, R, 4] to class_logits [B, R, K] and box_deltas [B, R, 4K]."""
    return self.detection_head[0](
        self.roi_aligner(features, boxes), training=False)

  def segment(self, features: Dict[str, tf.Tensor], boxes: tf.Tensor,
              classes: tf.Tensor) -> tf.Tensor:
    """Boxes [B, N, 4] and classes [B, N] to mask logits [B, N, 28, 28]."""
    if self.mask_head is None:
      raise ValueError('this model has no mask branch (include_mask is false)')
    return self.mask_head(
        [self.mask_roi_aligner(features, boxes), classes], training=False)

  def _anchors(self, features: Dict[str, tf.Tensor]) -> Dict[str, tf.Tensor]:
    config = self.get_config()
    height, width = features['2'].shape[1:3]
    anchors = anchor_ops.Anchor(
        min_level=config['min_level'],
        max_level=config['max_level'],
        num_scales=config['num_scales'],
        aspect_ratios=config['aspect_ratios'],
        anchor_size=config['anchor_size'],
        image_size=(4 * height, 4 * width)).multilevel_boxes
    batch = tf.shape(features['2'])[0]
    return {
        level: tf.tile(boxes[tf.newaxis], [batch, 1, 1, 1])
        for level, boxes in anchors.items()}
