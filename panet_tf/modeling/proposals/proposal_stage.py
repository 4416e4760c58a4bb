"""The first stage of Figure 1: features and proposals, and the way to the end.

What a whole PANet and an RPN alone have in common.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from panet_tf.ops import box_convention


class ProposalStage:
  """Methods of a model with backbone, decoder, rpn_head and roi_generator.

  Boxes that they take and give end at edges, in network-input pixels, but for
  those of `detect`. `boxes` is their convention, `run_stages` is `detect` with
  `im_info` for image_info, and boxes in network-input pixels.
  """

  # Nothing in a model is control flow on tensors. Without AutoGraph, which
  # translates the source of every function first, tracing takes half the time.
  # (Not `call`: Keras reads its arguments, which the decorator hides.)
  boxes: box_convention.BoxConvention
  run_stages: Callable[..., dict[str, tf.Tensor]]
  get_config: Callable[[], Mapping[str, Any]]
  backbone: Any
  decoder: Any
  rpn_head: Any
  roi_generator: Any

  @tf.autograph.experimental.do_not_convert
  def detect(self, images: tf.Tensor, image_info: tf.Tensor,
             anchors: Mapping[str, tf.Tensor] | None = None,
             **parts: Any) -> dict[str, tf.Tensor]:
    """Images to detections: the one way there.

    Args:
      images: [B, H, W, 3] float32, normalised.
      image_info: [B, 4, 2] float32, see `image_scaling.resize_to_canvas`:
        original size, size without padding, scale and offset, which is 0.
      anchors: {'2'..'6'}: [1 or B, h, w, 4 * anchors]; None makes them, for
        images of a static size.
      **parts: of the model's `run_stages`.

    Returns:
      detection_boxes [B, N, 4] yxyx in pixels of the image, detection_scores
      [B, N] best first, detection_classes [B, N] int32 labels from 1,
      num_detections [B] int32, the rows that are detections, and, with a mask
      branch, detection_masks [B, N, M, M], probabilities in the frame of the
      box.
    """
    found = self.run_stages(images, self.im_info(image_info), anchors, **parts)
    return dict(found, detection_boxes=self.boxes.to_image(
        found['detection_boxes'], image_info))

  def im_info(self, image_info: tf.Tensor) -> tf.Tensor:
    """What stages and calls take for `image_shape`, of image_info [B, 4, 2].

    Height and width in network-input pixels; of the release's boxes the scale,
    too, without which a detection's last pixel is as large as the network's.
    """
    return self.boxes.im_info(image_info)

  @tf.autograph.experimental.do_not_convert
  def features(self, images: tf.Tensor,
               training: bool = False) -> dict[str, tf.Tensor]:
    """Images [B, H, W, 3] to N2..N6, {'2'..'6'}: [B, H/2^l, W/2^l, C]."""
    return self.decoder(
        self.backbone(images, training=training), training=training)

  @tf.autograph.experimental.do_not_convert
  def propose(self, features: dict[str, tf.Tensor], image_shape: tf.Tensor,
              anchors: Mapping[str, tf.Tensor] | None = None
             ) -> tuple[tf.Tensor, tf.Tensor]:
    """Proposals of the RPN, after NMS: boxes [B, R, 4] and scores [B, R].

    Args:
      features: N2..N6, with static height and width if there are no anchors.
      image_shape: [B, 2] float32, height and width of the images without
        padding, in network-input pixels; or of `im_info`.
      anchors: see `detect`.
    """
    rpn_scores, rpn_boxes = self.rpn_head(features, training=False)
    boxes, scores = self.roi_generator(
        rpn_boxes, rpn_scores,
        self.anchors(features) if anchors is None else anchors,
        image_shape, False)
    return boxes, tf.reshape(scores, tf.shape(boxes)[:2])

  def anchors(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Anchors of N2..N6, [B, h, w, 4 * anchors]."""
    config = self.get_config()
    height, width = features['2'].shape[1:3]
    anchors = self.boxes.anchors([4 * height, 4 * width], **{  # pyright: ignore[reportOperatorIssue] - static where no anchors are given
        name: config[name] for name in (
            'min_level', 'max_level', 'num_scales', 'aspect_ratios',
            'anchor_size')})
    batch = tf.shape(features['2'])[0]
    return {
        level: tf.tile(boxes[tf.newaxis], [batch, 1, 1, 1])  # pyright: ignore[reportArgumentType] - TensorFlow's stub allows no mixture
        for level, boxes in anchors.items()}
