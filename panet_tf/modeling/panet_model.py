"""Figure 1: features, proposals, box branch, mask branch.

The model is Model Garden's Mask R-CNN with other parts handed in: its decoder
ends in the bottom-up path, its RoI aligners return one tensor per level, and
its heads take such lists. Training and inference are inherited.
"""


from official.vision.modeling import maskrcnn_model
import tensorflow as tf
import tf_keras

from panet_tf.modeling.proposals import proposal_stage


@tf_keras.utils.register_keras_serializable(package='PANet')
class PANetModel(proposal_stage.ProposalStage,
                 maskrcnn_model.MaskRCNNModel):
  """PANet. Takes the same parts as `MaskRCNNModel`.

  Calling it runs everything. `features`, `propose`, `classify` and `segment`
  run its stages one by one, for ensembles, test-time augmentation and tests. Boxes are
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
      anchor_boxes = self.image_anchors(images, images.shape[1:3])
    return super().call(images, image_shape, anchor_boxes, **kwargs)

  def classify(self, features: dict[str, tf.Tensor],
               boxes: tf.Tensor) -> list[tf.Tensor]:
    """Boxes [B, R, 4] to class_logits [B, R, K] and box_deltas [B, R, 4K]."""
    return self.detection_head[0](
        self.roi_aligner(features, self.edge_boxes(boxes)), training=False)

  def segment(self, features: dict[str, tf.Tensor], boxes: tf.Tensor,
              classes: tf.Tensor) -> tf.Tensor:
    """Boxes [B, N, 4] and classes [B, N] to mask logits [B, N, 28, 28]."""
    if self.mask_head is None:
      raise ValueError('this model has no mask branch (include_mask is false)')
    return self.mask_head(
        [self.mask_roi_aligner(features, self.edge_boxes(boxes)), classes],
        training=False)
