"""Proposals and detections with NMS kernels, as exported graphs have them.

Model Garden's loops over tiles of boxes convert to no other runtime, or slowly.
Its batched NMS takes boxes beyond `pre_nms_top_k` and detects the empty boxes
that proposals are padded with. These give what its loops give, where those are
right: below an IoU threshold of 0.5 they let suppressed boxes suppress others.
"""

from typing import Any

from official.vision.modeling.layers import detection_generator
from official.vision.ops import box_ops
import tensorflow as tf
import tf_keras

from panet_tf.modeling.proposals import roi_generator
from panet_tf.ops import box_convention
from panet_tf.ops import formulations
from panet_tf.ops import nms

BOX_WEIGHTS = [10.0, 10.0, 5.0, 5.0]  # Model Garden's of the first stage.


class _Portable(tf_keras.layers.Layer):
  """What both generators take beside Model Garden's arguments."""

  def __init__(self, formulation: str = formulations.KERNELS,
               boxes: box_convention.BoxConvention | str = box_convention.EDGES,
               **kwargs):
    super().__init__(**kwargs)
    self.formulation = formulations.check(formulation)
    self.boxes = box_convention.of(boxes)

  def get_config(self) -> dict[str, Any]:
    return dict(super().get_config(), formulation=self.formulation,
                boxes=self.boxes.name)


@tf_keras.utils.register_keras_serializable(package='PANet')
class PortableROIGenerator(_Portable, roi_generator.ROIGenerator):
  """The generator, with its arguments; training has Model Garden's loops."""

  def call(self, raw_boxes, raw_scores, anchor_boxes, image_shape,
           training=None):
    """See Model Garden's: boxes [B, R, 4] and scores [B, R]."""
    if training:
      return super().call(
          raw_boxes, raw_scores, anchor_boxes, image_shape, training)
    image_shape = self.boxes.proposal_area(image_shape)[:, tf.newaxis]
    levels = [
        self._level(raw_boxes[level], raw_scores[level], anchor_boxes[level],
                    image_shape) for level in sorted(raw_scores)]
    boxes, scores = (tf.concat(parts, 1) for parts in zip(*levels, strict=True))
    return _best(boxes, scores, self.get_config()['test_num_proposals'])

  def _level(self, raw_boxes, raw_scores, anchors, image_shape):
    config = self.get_config()
    size = raw_scores.shape[1:].num_elements()  # None where a canvas may vary.

    def flat(x, *last):
      return tf.reshape(
          x, [-1, size, *last] if size else [tf.shape(x)[0], -1, *last])

    most = config['test_num_proposals']
    scores = tf.sigmoid(flat(raw_scores))
    boxes = self.boxes.clipped(box_ops.clip_boxes(box_ops.decode_boxes(
        flat(raw_boxes, 4), flat(anchors, 4)), image_shape), image_shape)
    min_size = config['test_pre_nms_min_size_threshold']
    if min_size > 0.0:
      boxes, scores = box_ops.filter_boxes(boxes, scores, image_shape, min_size)
    boxes, scores = _best(boxes, scores, config['test_pre_nms_top_k'])
    if config['test_nms_iou_threshold'] <= 0.0:  # Model Garden's "none".
      return _best(boxes, scores, most)
    return nms.non_max_suppression(
        boxes, scores,
        max_output_size=min(size or most, most),
        iou_threshold=config['test_nms_iou_threshold'],
        score_threshold=config['test_pre_nms_score_threshold'],
        formulation=self.formulation)


@tf_keras.utils.register_keras_serializable(package='PANet')
class PortableDetectionGenerator(
    _Portable, detection_generator.DetectionGenerator):
  """Model Garden's generator (its version 'v2'), with its arguments."""

  def __init__(self, *args, **kwargs):
    """Takes its arguments, a formulation and how boxes end."""
    super().__init__(*args, **kwargs)
    official = detection_generator.DetectionGenerator
    self._decode = official(**dict[str, Any](
        official.get_config(self), apply_nms=False))

  def __call__(self, raw_boxes, raw_scores, anchor_boxes, image_shape,
               regression_weights=None, bbox_per_class=True):
    """See Model Garden's."""
    if not bbox_per_class:
      raise ValueError('boxes must be per class')
    found = self.suppress(*self.decode(
        raw_boxes, raw_scores, anchor_boxes, image_shape, regression_weights))
    found['detection_boxes'] = self.boxes.to_network_ends(
        found['detection_boxes'], image_shape)
    return found

  def decode(self, raw_boxes, raw_scores, anchor_boxes, image_shape,
             regression_weights=None):
    """Arguments of a call to boxes [B, N, K, 4] and scores [B, N, K].

    K is without background; boxes are clipped to the image. Those of the
    release end behind their last pixel of the image here, proposals and what a
    call gives behind that of the network input; see `box_convention`.
    """
    def decode(rois, area):
      decoded = self._decode(
          raw_boxes, raw_scores, rois, area, regression_weights)
      return decoded['decoded_boxes'], decoded['decoded_box_scores']

    return self.boxes.detections(decode, anchor_boxes, image_shape)

  def suppress(self, boxes, scores):
    """What `decode` gives to detections, as a call does."""
    config = self.get_config()
    # Each class of each image is a set of boxes: [B * K, N, ...].
    num_boxes, num_classes = scores.shape[1:]
    boxes, scores = _best(
        tf.reshape(tf.transpose(boxes, [0, 2, 1, 3]), [-1, num_boxes, 4]),
        tf.reshape(tf.transpose(scores, [0, 2, 1]), [-1, num_boxes]),
        config['pre_nms_top_k'])
    most = config['max_num_detections']
    boxes, scores = nms.non_max_suppression(
        boxes, scores, max_output_size=most,
        iou_threshold=config['nms_iou_threshold'],
        score_threshold=config['pre_nms_score_threshold'],
        formulation=self.formulation)
    scores, chosen = tf.math.top_k(
        tf.reshape(scores, [-1, num_classes * most]), most)
    boxes = tf.reshape(boxes, [-1, num_classes * most, 4])
    return {
        'detection_boxes': tf.gather(boxes, chosen, batch_dims=1),
        'detection_scores': scores,
        'detection_classes': chosen // most + 1,
        'num_detections': tf.reduce_sum(tf.cast(scores > 0.0, tf.int32), 1),
    }


def _best(boxes, scores, count):
  """The `count` best of boxes [B, N, 4] and scores [B, N], best first."""
  scores, chosen = tf.math.top_k(
      scores, min(scores.shape[1], count) if scores.shape[1] else
      tf.minimum(tf.shape(scores)[1], count))
  return tf.gather(boxes, chosen, batch_dims=1), scores
