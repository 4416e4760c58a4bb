"""The graph that every export holds: network input to detections.

`PANetModel.detect` with parts that other runtimes know, and masks of the rows
that hold a detection only.
"""

import functools

import numpy as np
import tensorflow as tf

from panet_tf import factory
from panet_tf import runs
from panet_tf.modeling import panet_model
from panet_tf.modeling.proposals import portable_generators
from panet_tf.ops import formulations


def build_model(config, formulation: str = formulations.SAVED
               ) -> panet_model.PANetModel:
  """`factory.build_panet` with parts that other runtimes know.

  The formulation is 'saved', or 'builtin' for TFLite, see `ops.formulations`.
  """
  parts = dict(factory.build_panet(config).get_config())
  portable = {
      'roi_generator': portable_generators.PortableROIGenerator,
      'detection_generator': portable_generators.PortableDetectionGenerator}
  for name in ('roi_aligner', 'mask_roi_aligner', *portable):
    if (part := parts[name]) is not None:
      parts[name] = portable.get(name, type(part))(
          **dict(part.get_config(), formulation=formulation))
  return panet_model.PANetModel(**parts)


class ExportModule(tf.Module):
  """A trained model between the network's input and its detections."""

  def __init__(self, run: runs.Run, formulation: str = formulations.SAVED):
    """A run's model, see `build_model`; InputError if weights do not fit."""
    super().__init__(name='panet')
    self.parser = run.parser
    self.model = run.build_model(
        functools.partial(build_model, formulation=formulation))
    self._skips_empty_rows = formulation != formulations.BUILTIN
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
    found = self.model.detect(
        images, image_info, self._anchors(images), masks=self._masks)
    boxes, count = found['detection_boxes'], found['num_detections']
    valid = tf.range(boxes.shape[1]) < count[:, tf.newaxis]
    outputs = {
        'detection_boxes': boxes,
        'detection_boxes_normalized': boxes / tf.tile(
            image_info[:, 0:1], [1, 1, 2]),
        'detection_scores': found['detection_scores'],
        'detection_classes': tf.where(valid, tf.gather(
            self._category_ids, found['detection_classes']), 0),
        'num_detections': count}
    if 'detection_masks' in found:
      outputs['detection_masks'] = found['detection_masks']
    return outputs

  def _anchors(self, images):
    """[1, h, w, 4 * anchors] of each level: the first cells of the canvas's."""
    anchors = {level: boxes[tf.newaxis]
               for level, boxes in self.parser.anchors().items()}
    if not self.parser.pad_to:
      return anchors
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    return {level: boxes[:, :-(-height // 2**int(level)),
                         :-(-width // 2**int(level))]
            for level, boxes in anchors.items()}

  def _masks(self, features, found):
    """`PANetModel.masks`, 0 in rows without a detection."""
    boxes, labels, count = (found[name] for name in (
        'detection_boxes', 'detection_classes', 'num_detections'))
    num_rows = boxes.shape[1]
    if self._skips_empty_rows:  # Costs as many masks as the fullest image has.
      most = tf.maximum(tf.reduce_max(tf.concat([count, [1]], 0)), 1)
      boxes, labels = boxes[:, :most], labels[:, :most]
    masks = tf.sigmoid(self.model.segment(features, boxes, labels))
    valid = tf.range(num_rows)[:tf.shape(masks)[1]] < count[:, tf.newaxis]
    masks *= tf.cast(valid, tf.float32)[:, :, tf.newaxis, tf.newaxis]
    if self._skips_empty_rows:
      masks = tf.pad(masks, [[0, 0], [0, num_rows - most], [0, 0], [0, 0]])
    return tf.ensure_shape(
        masks, [None, num_rows, masks.shape[2], masks.shape[3]])
