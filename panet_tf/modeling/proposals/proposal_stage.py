"""The first stage of Figure 1: features and proposals, and frames of boxes.

What a whole PANet and an RPN alone have in common.
"""


from official.vision.ops import anchor as anchor_ops
import tensorflow as tf

from panet_tf.ops import legacy_boxes as legacy


class ProposalStage:
  """Methods of a model with backbone, decoder, rpn_head and roi_generator.

  It has `_legacy_boxes`, see `ops.legacy_boxes`, and the fields of its anchors
  in `get_config`. Frames of boxes are those of `PANetModel`.
  """

  def im_info(self, image_info: tf.Tensor) -> tf.Tensor:
    """What stages and calls take for `image_shape`, of image_info [B, 4, 2].

    Height and width in network-input pixels; of legacy boxes the scale, too,
    without which a detection's last pixel is as large as one of the network.
    """
    if not self._legacy_boxes:
      return image_info[:, 1]
    return tf.concat([image_info[:, 1], image_info[:, 2, :1]], -1)

  def pixel_boxes(self, edge_boxes: tf.Tensor,
                  im_info: tf.Tensor | None = None) -> tf.Tensor:
    """Boxes of a call's outputs as the methods take them.

    Args:
      edge_boxes: [B, N, 4].
      im_info: for boxes of `detection_generator.decode` instead, which end
        behind a pixel of the image.
    """
    if not self._legacy_boxes:
      return edge_boxes
    if im_info is None:
      return legacy.to_pixels(edge_boxes)
    return legacy.lengthened(
        edge_boxes, -legacy.image_pixel(im_info)[:, tf.newaxis])

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
               training: bool = False) -> dict[str, tf.Tensor]:
    """Images [B, H, W, 3] to N2..N6, {'2'..'6'}: [B, H/2^l, W/2^l, C]."""
    return self.decoder(
        self.backbone(images, training=training), training=training)

  def propose(self, features: dict[str, tf.Tensor],
              image_shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
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

  def anchors(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Anchors of N2..N6, [B, h, w, 4 * anchors]; they always end at edges."""
    height, width = features['2'].shape[1:3]
    return self.image_anchors(features['2'], (4 * height, 4 * width))

  def image_anchors(self, batch_of: tf.Tensor,
                    image_size: tuple[int, int]) -> dict[str, tf.Tensor]:
    """Anchors of images of a size, as many as `batch_of` [B, ...] has rows."""
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
