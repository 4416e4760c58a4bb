"""Detections in the words of a graph, beside what a graph gives."""

import numpy as np

from panet_tf.structures import box_masks


def of(found, category_ids=None):
  """Dictionary of `detection_*` arrays, classes as ids if those are given."""
  classes = found.labels
  if category_ids is not None:
    classes = np.asarray(category_ids)[classes - 1]
  outputs = {'detection_boxes': found.boxes, 'detection_scores': found.scores,
             'detection_classes': classes}
  if found.masks is not None:
    is_box = isinstance(found.masks, box_masks.BoxMasks)
    outputs['detection_masks'] = (
        found.masks.probabilities if is_box else found.masks.images())
  return outputs
