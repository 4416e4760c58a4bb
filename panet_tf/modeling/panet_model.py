"""Figure 1: features, proposals, box branch, mask branch.

The model is Model Garden's Mask R-CNN with other parts handed in: its decoder
ends in the bottom-up path, its RoI aligners return one tensor per level, and
its heads take such lists. Training and inference are inherited.
"""

from collections.abc import Callable, Mapping
from typing import Any

from official.vision.modeling import maskrcnn_model
import tensorflow as tf
import tf_keras

from panet_tf.modeling.proposals import portable_generators
from panet_tf.modeling.proposals import proposal_stage
from panet_tf.ops import box_convention


@tf_keras.utils.register_keras_serializable(package='PANet')
class PANetModel(proposal_stage.ProposalStage, maskrcnn_model.MaskRCNNModel):
  """PANet. Takes the same parts as `MaskRCNNModel`.

  `detect` runs everything. `features`, `propose`, `classify` and `segment` run
  its stages one by one, for ensembles, test-time augmentation and tests; their
  boxes are [y1, x1, y2, x2] in network-input pixels, float32, end at edges.
  """

  def __init__(
      self, *args,
      boxes: box_convention.BoxConvention | str = box_convention.EDGES,
      **kwargs):
    """Takes the convention of `boxes`, or its name, beside the parts.

    RoI aligners and generators have an argument of this name, too.
    """
    super().__init__(*args, **kwargs)
    self.boxes = box_convention.of(boxes)

  def call(self, images, image_shape, anchor_boxes=None, *args, training=None,
           **kwargs):
    """Model Garden's while training; else `run_stages` of the first three."""
    if training:
      return super().call(images, image_shape, anchor_boxes, *args,
                          training=True, **kwargs)
    return self.run_stages(images, image_shape, anchor_boxes)

  @tf.autograph.experimental.do_not_convert
  def run_stages(self, images: tf.Tensor, im_info: tf.Tensor,
                 anchors: Mapping[str, tf.Tensor] | None = None, *,
                 proposals: tf.Tensor | None = None,
                 masks: Callable[..., tf.Tensor] | None = None
                ) -> dict[str, tf.Tensor]:
    """`detect`, but of `im_info`, and boxes in network-input pixels.

    `proposals` [B, R, 4], network-input pixels, take the place of the RPN's,
    and a function `masks` that of this class's.
    """
    features = self.features(images)
    if proposals is None:
      proposals, _ = self.propose(features, im_info, anchors)
    class_logits, box_deltas = self.classify(features, proposals)
    found = self.detection_generator(
        box_deltas, class_logits, proposals, im_info,
        portable_generators.BOX_WEIGHTS)
    if self.mask_head is not None:
      found['detection_masks'] = (masks or self.masks)(features, found)
    return found

  def masks(self, features: dict[str, tf.Tensor],
            found: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Probabilities [B, N, 28, 28] of all rows of what was found."""
    return tf.sigmoid(self.segment(
        features, found['detection_boxes'], found['detection_classes']))

  @tf.autograph.experimental.do_not_convert
  def classify(self, features: dict[str, tf.Tensor],
               boxes: tf.Tensor) -> list[tf.Tensor]:
    """Boxes [B, R, 4] to class_logits [B, R, K] and box_deltas [B, R, 4K]."""
    return self.detection_head[0](
        self.roi_aligner(features, boxes), training=False)

  @tf.autograph.experimental.do_not_convert
  def segment(self, features: dict[str, tf.Tensor], boxes: tf.Tensor,
              classes: tf.Tensor) -> tf.Tensor:
    """Boxes [B, N, 4] and classes [B, N] to mask logits [B, N, 28, 28]."""
    if self.mask_head is None or self.mask_roi_aligner is None:
      raise ValueError('this model has no mask branch (include_mask is false)')
    return self.mask_head(
        [self.mask_roi_aligner(features, boxes), classes],
        training=False)

  def get_config(self) -> dict[str, Any]:
    """Model Garden's, and the convention of boxes."""
    return dict(super().get_config(), boxes=self.boxes.name)
