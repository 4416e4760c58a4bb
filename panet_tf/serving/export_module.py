"""The graph that every export holds: network input to detections.

Model Garden's export runs `model.call`, which predicts the mask of every empty
row as well, leaves boxes in network pixels and classes as labels. Here the
four stages of Figure 1 are put together for serving.
"""

import functools

import numpy as np
import tensorflow as tf

from panet_tf import factory
from panet_tf import runs
from panet_tf.modeling import panet_model
from panet_tf.modeling.proposals import portable_generators


def build_model(config, builtin_ops: bool = False) -> panet_model.PANetModel:
  """`factory.build_panet` with parts that other runtimes know.

  Args:
    config: `configs.panet.PANet`.
    builtin_ops: only ops that TFLite has.
  """
  parts = dict(factory.build_panet(config).get_config())
  for name in ('roi_aligner', 'mask_roi_aligner'):
    if parts[name] is not None:
      parts[name] = type(parts[name])(**dict(
          parts[name].get_config(), use_xla=False, builtin_ops=builtin_ops,
          forward_only=True))
  parts.update(
      roi_generator=portable_generators.PortableROIGenerator(
          **dict(parts['roi_generator'].get_config(), builtin_ops=builtin_ops)),
      detection_generator=portable_generators.PortableDetectionGenerator(
          **dict(parts['detection_generator'].get_config(),
                 builtin_ops=builtin_ops)))
  return panet_model.PANetModel(**parts)


class ExportModule(tf.Module):
  """A trained model between the network's input and its detections."""

  def __init__(self, run: runs.Run, builtin_ops: bool = False):
    """Builds the model and restores it.

    Args:
      run: its checkpoint and configuration.
      builtin_ops: only ops that TFLite has.

    Raises:
      InputError: the checkpoint does not fit.
    """
    super().__init__(name='panet')
    self.parser = run.parser
    self.model = run.build_model(
        functools.partial(build_model, builtin_ops=builtin_ops))
    self._skips_empty_rows = not builtin_ops
    self._category_ids = np.array(
        [0] + [category['id'] for category in run.categories], np.int32)

  def network(self, images: tf.Tensor,
              image_info: tf.Tensor) -> dict[str, tf.Tensor]:
    """Detections of network inputs.

    Args:
      images: [B, *canvas, 3] float32, normalised, see `parser.eval_image`;
        or, with `parser.pad_to`, [1, height, width, 3] of any size up to that
        of the canvas, see `parser.predict_image`.
      image_info: [B, 4, 2] float32: original size, size of the visible part,
        scale, offset.

    Returns:
      detection_boxes [B, N, 4] yxyx in original pixels,
      detection_boxes_normalized [B, N, 4] in 0..1 of the image,
      detection_scores [B, N] best first, detection_classes [B, N] int32,
      category ids of the data set, num_detections [B] int32 and, with a mask
      branch, detection_masks [B, N, 28, 28], probabilities in the frame of the
      box. Rows from num_detections on are 0.
    """
    model, shape = self.model, self.model.im_info(image_info)
    features = model.features(images)
    rpn_scores, rpn_boxes = model.rpn_head(features, training=False)
    rois, _ = model.roi_generator(
        rpn_boxes, rpn_scores, self._anchors(features), shape, False)
    found = model.detection_generator(
        *reversed(model.classify(features, model.pixel_boxes(rois))), rois,
        shape,
        portable_generators.BOX_WEIGHTS)
    boxes, labels = found['detection_boxes'], found['detection_classes']
    count = found['num_detections']
    valid = tf.range(boxes.shape[1]) < count[:, tf.newaxis]
    image_boxes = model.image_boxes(boxes, image_info)
    outputs = {
        'detection_boxes': image_boxes,
        'detection_boxes_normalized': image_boxes / tf.tile(
            image_info[:, 0:1], [1, 1, 2]),
        'detection_scores': found['detection_scores'],
        'detection_classes': tf.where(
            valid, tf.gather(self._category_ids, labels), 0),
        'num_detections': count,
    }
    if model.mask_head is not None:
      outputs['detection_masks'] = self._masks(features, boxes, labels, count)
    return outputs

  def _anchors(self, features):
    """[1, h, w, 4 * anchors] of each level.

    A smaller network input has the first cells of the canvas's.
    """
    anchors = self.parser.anchors()
    return {level: anchors[level][tf.newaxis, :tf.shape(n)[1], :tf.shape(n)[2]]
            if self.parser.pad_to else anchors[level][tf.newaxis]
            for level, n in features.items()}

  def _masks(self, features, boxes, labels, count):
    num_rows = boxes.shape[1]
    if self._skips_empty_rows:  # Costs as many masks as the fullest image has.
      most = tf.maximum(tf.reduce_max(tf.concat([count, [1]], 0)), 1)
      boxes, labels = boxes[:, :most], labels[:, :most]
    masks = tf.sigmoid(self.model.segment(
        features, self.model.pixel_boxes(boxes), labels))
    valid = tf.range(num_rows)[:tf.shape(masks)[1]] < count[:, tf.newaxis]
    masks *= tf.cast(valid, tf.float32)[:, :, tf.newaxis, tf.newaxis]
    if self._skips_empty_rows:
      masks = tf.pad(
          masks, [[0, 0], [0, num_rows - most], [0, 0], [0, 0]])
    return tf.ensure_shape(
        masks, [None, num_rows, masks.shape[2], masks.shape[3]])
