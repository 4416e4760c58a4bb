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

from panet_tf.ops import legacy_boxes as legacy


@tf_keras.utils.register_keras_serializable(package='PANet')
class PANetModel(maskrcnn_model.MaskRCNNModel):
  """PANet. Takes the same parts as `MaskRCNNModel`.

  Calling it runs everything. The four methods below run its stages one by
  one, for ensembles, test-time augmentation and tests. Boxes are
  [y1, x1, y2, x2] in network-input pixels, float32. With `legacy_boxes` those
  that the methods take and give are the release's, whose y2 and x2 are indices
  of the last pixel; detections of a call always end at an edge.
  """

  def __init__(self, *args, legacy_boxes: bool = False, **kwargs):
    """Initializes the model.

    Args:
      *args: of `MaskRCNNModel`.
      legacy_boxes: anchors and boxes of the release, see `ops.legacy_boxes`;
        RoI aligners and generators have an argument of this name, too.
      **kwargs: of `MaskRCNNModel`.
    """
    super().__init__(*args, **kwargs)
    self._legacy_boxes = legacy_boxes
    self._config_dict['legacy_boxes'] = legacy_boxes

  def call(self, images, image_shape, anchor_boxes=None, **kwargs):
    """See Model Garden's; makes its own anchors where none are given."""
    if anchor_boxes is None:
      anchor_boxes = self._anchors(images, images.shape[1:3])
    return super().call(images, image_shape, anchor_boxes, **kwargs)

  def pixel_boxes(self, edge_boxes: tf.Tensor) -> tf.Tensor:
    """Boxes of a call's outputs as the methods take them."""
    return legacy.to_pixels(edge_boxes) if self._legacy_boxes else edge_boxes

  def image_boxes(self, edge_boxes: tf.Tensor,
                  image_info: tf.Tensor) -> tf.Tensor:
    """Detections of a call, [B, N, 4], in pixels of the image.

    Args:
      edge_boxes: of the call.
      image_info: [B, 4, 2] float32, see `image_scaling.resize_to_canvas`. The
        last pixel of a legacy box is one of the image, not of the network.
    """
    boxes = self.edge_boxes(self.pixel_boxes(edge_boxes) / tf.tile(
        image_info[:, 2:3], [1, 1, 2]))
    if not self._legacy_boxes:
      return boxes
    return tf.minimum(boxes, tf.tile(image_info[:, 0:1], [1, 1, 2]))

  def edge_boxes(self, pixel_boxes: tf.Tensor) -> tf.Tensor:
    """Boxes of the methods as a call gives them."""
    return legacy.to_edges(pixel_boxes) if self._legacy_boxes else pixel_boxes

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
        rpn_boxes, rpn_scores, self.anchors(features), image_shape, False)
    return self.pixel_boxes(boxes), tf.reshape(scores, tf.shape(boxes)[:2])

  def classify(self, features: Dict[str, tf.Tensor],
               boxes: tf.Tensor) -> List[tf.Tensor]:
    """Boxes [B, R, 4] to class_logits [B, R, K] and box_deltas [B, R, 4K]."""
    return self.detection_head[0](
        self.roi_aligner(features, self.edge_boxes(boxes)), training=False)

  def segment(self, features: Dict[str, tf.Tensor], boxes: tf.Tensor,
              classes: tf.Tensor) -> tf.Tensor:
    """Boxes [B, N, 4] and classes [B, N] to mask logits [B, N, 28, 28]."""
    if self.mask_head is None:
      raise ValueError('this model has no mask branch (include_mask is false)')
    return self.mask_head(
        [self.mask_roi_aligner(features, self.edge_boxes(boxes)), classes],
        training=False)

  def anchors(self, features: Dict[str, tf.Tensor]) -> Dict[str, tf.Tensor]:
    """Anchors of N2..N6, [B, h, w, 4 * anchors]; they always end at edges."""
    height, width = features['2'].shape[1:3]
    return self._anchors(features['2'], (4 * height, 4 * width))

  def _anchors(self, batch_of, image_size) -> Dict[str, tf.Tensor]:
    config = self.get_config()
    fields = {name: config[name] for name in (
        'min_level', 'max_level', 'num_scales', 'aspect_ratios', 'anchor_size')}
    if self._legacy_boxes:
      anchors = legacy.anchors(image_size, **fields)
    else:
      anchors = anchor_ops.Anchor(
          image_size=image_size, **fields).multilevel_boxes
    batch = tf.shape(batch_of)[0]
    return {
        level: tf.tile(boxes[tf.newaxis], [batch, 1, 1, 1])
        for level, boxes in anchors.items()}
