"""Which detection of an export is which of the checkpoint, and how like it is.

`verify` needs one-to-one pairs whatever the order of the two lists, and mask
IoUs that rounding does not disturb. No TensorFlow.
"""

import dataclasses
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from scipy import optimize

from panet_tf.inference.suite import voting
from panet_tf.structures import detections
from panet_tf.structures import mask_windows
from panet_tf.structures import paste_masks

Detections = detections.Detections

_SAME_PLACE = 0.5  # Least box IoU of two views of one object.
# Nearly the same box twice: scores say which is which, not the last bits.
_SCORE_WEIGHT = 0.1
_STILL = 0.05  # Pixels; boxes no further apart share the frame of their masks.
# Probabilities as near to 0.5 as scores may differ: either side is right.
_ROUNDING = 1e-4
_SPECK = 1e-2  # Square pixels; the IoU of such boxes would be rounding only.


@dataclasses.dataclass
class Pairs:
  """The pairs of one image, whatever their scores.

  Attributes:
    scores: of the reference's detections [N] and of the export's [M].
    same: [P, 2] rows of both, pairs of one class.
    changed: [Q, 2] rows of both, pairs at one place of another class.
    figures: of each of `same` [P]: differences `score` and `box_pixels` (the
      largest of an edge), `box_iou` and, of a model with masks, `mask_iou`.
  """
  scores: list[np.ndarray]
  same: np.ndarray
  changed: np.ndarray
  figures: dict[str, np.ndarray]


def measure(reference: Detections, exported: Detections) -> Pairs:
  """Pairs the checkpoint's and the export's detections of an image."""
  same, changed = pair(reference, exported)
  sides = reference[same[:, 0]], exported[same[:, 1]]
  boxes, scores = ([getattr(side, name).astype(np.float64) for side in sides]
                   for name in ('boxes', 'scores'))
  figures = {
      'score': np.abs(scores[0] - scores[1]),
      'box_pixels': np.abs(boxes[0] - boxes[1]).max(1, initial=0),
      'box_iou': np.diagonal(box_ious(*boxes))}
  if reference.masks is not None:
    figures['mask_iou'] = mask_ious(*sides)
  return Pairs([reference.scores, exported.scores], same, changed, figures)


def box_ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
  """IoU of boxes [N, 4] with others [M, 4], yxyx: [N, M] float64.

  Two boxes clipped to less than 0.01 square pixels have 1 if they are within
  0.05 px of each other.
  """
  boxes, others = (
      np.asarray(x, np.float64).reshape(-1, 4) for x in (boxes, others))
  overlap = voting.intersections(boxes, others)
  union = voting.areas(boxes)[:, np.newaxis] + voting.areas(others) - overlap
  near = np.abs(boxes[:, np.newaxis] - others).max(-1) <= _STILL
  return np.where(union > _SPECK, overlap / np.maximum(union, _SPECK), near)


def pair(reference: Detections,
         exported: Detections) -> tuple[np.ndarray, np.ndarray]:
  """Pairs detections one to one: of one class [P, 2], of two classes [Q, 2].

  Both are indices of a reference detection and of an exported one. The pairs of
  one class have the greatest sum of box IoU - 0.1 * score difference; an IoU
  below 0.5 is no pair. What is left is paired across the classes in the same
  way.
  """
  ious = box_ious(reference.boxes, exported.boxes)
  apart = np.abs(np.subtract.outer(
      reference.scores.astype(np.float64), exported.scores))
  likeness = np.where(ious >= _SAME_PLACE, ious - _SCORE_WEIGHT * apart, 0)
  one_class = np.equal.outer(reference.labels, exported.labels)
  same = _assign(likeness * one_class)
  likeness[same[:, 0]] = 0
  likeness[:, same[:, 1]] = 0
  return same, _assign(likeness * ~one_class)


def _assign(likeness):
  """Pairs [P, 2] of the greatest sum, those of 0 left out."""
  rows, columns = optimize.linear_sum_assignment(likeness, maximize=True)
  found = likeness[rows, columns] > 0
  return np.stack([rows[found], columns[found]], axis=1)


def mask_ious(reference: Detections, exported: Detections) -> np.ndarray:
  """Mask IoU [P] of detection i with detection i; 1 for two empty masks.

  Masks of boxes within 0.05 px of each other are compared cell by cell in the
  frame of the box: the sharpest, pasting a 28 x 28 mask into a small box hides
  most cells. Others, and masks of the whole image, are compared in the image's
  pixels. A cell or pixel that the reference has within 1e-4 of the threshold
  0.5 may be either. The reference has `BoxMasks`, the export these or
  `MaskWindows`.
  """
  own: Any = reference.masks
  others: Any = exported.known_masks
  masks, boxes = own.probabilities, reference.boxes
  may, must = 0.5 - _ROUNDING, 0.5 + _ROUNDING
  ious = np.zeros(len(masks))
  whole = isinstance(others, mask_windows.MaskWindows)
  still = np.abs(boxes - exported.boxes).max(1, initial=0) <= _STILL
  if not whole:
    # However they are pasted in the end.
    others = dataclasses.replace(others, legacy=False)
    cells = others.probabilities[still] >= 0.5
    most, least = masks[still] >= may, masks[still] >= must
    ious[still] = _ratio((most & cells).sum((1, 2)),
                         (least | cells).sum((1, 2)))
  for i in np.flatnonzero(~still | whole):
    pixels: Any = others[i].rles()
    most, least = (
        paste_masks.encode_masks(
            masks[[i]], boxes[[i]], *reference.image_size, t)
        for t in (may, must))
    ious[i] = _ratio(mask_utils.area(mask_utils.merge(most + pixels, True)),
                     mask_utils.area(mask_utils.merge(least + pixels)))
  return ious


def _ratio(overlap, union):
  """IoU of numbers of cells, 1 for two empty masks."""
  return np.where(union > 0, overlap / np.maximum(union, 1), 1.0)
