"""Which detection of an export is which of the checkpoint, and how like it is.

`verify` needs one-to-one pairs whatever the order of the two lists, and mask
IoUs that rounding does not disturb. No TensorFlow.
"""

import dataclasses

import numpy as np
from pycocotools import mask as mask_utils
from scipy import optimize

from panet_tf.structures import paste_masks

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
    same: [P, 2], see `pair`.
    changed: [Q, 2], see `pair`.
    figures: of each of `same` [P]: differences `score` and `box_pixels` (the
      largest of an edge), `box_iou` and, of a model with masks, `mask_iou`.
  """
  scores: list[np.ndarray]
  same: np.ndarray
  changed: np.ndarray
  figures: dict[str, np.ndarray]


def measure(reference: dict[str, np.ndarray], exported: dict[str, np.ndarray],
            height: int, width: int) -> Pairs:
  """Pairs the detections of an image and measures every pair.

  Args:
    reference: the checkpoint's, see `verify.compare`.
    exported: the export's.
    height: int, of the image.
    width: int, of the image.
  """
  same, changed = pair(reference, exported)
  sides = [{key: value[index] for key, value in detections.items()}
           for detections, index in zip((reference, exported), same.T)]
  boxes, scores = ([side[key].astype(np.float64) for side in sides]
                   for key in ('detection_boxes', 'detection_scores'))
  figures = {
      'score': np.abs(scores[0] - scores[1]),
      'box_pixels': np.abs(boxes[0] - boxes[1]).max(1, initial=0),
      'box_iou': np.diagonal(box_ious(*boxes))}
  if 'detection_masks' in reference:
    figures['mask_iou'] = mask_ious(*sides, height, width)
  return Pairs([d['detection_scores'] for d in (reference, exported)],
               same, changed, figures)


def box_ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
  """IoU of every box with every other.

  Args:
    boxes: [N, 4] yxyx.
    others: [M, 4] yxyx.

  Returns:
    [N, M] float64. Two boxes clipped to less than 0.01 square pixels have 1 if
    they are within 0.05 px of each other.
  """
  boxes = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
  others = np.asarray(others, np.float64).reshape(1, -1, 4)
  area = lambda low, high: np.maximum(high - low, 0).prod(-1)
  overlap = area(np.maximum(boxes[..., :2], others[..., :2]),
                 np.minimum(boxes[..., 2:], others[..., 2:]))
  union = (area(boxes[..., :2], boxes[..., 2:])
           + area(others[..., :2], others[..., 2:]) - overlap)
  near = np.abs(boxes - others).max(-1) <= _STILL
  return np.where(union > _SPECK, overlap / np.maximum(union, _SPECK), near)


def pair(reference: dict[str, np.ndarray],
         exported: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """Pairs detections one to one.

  The pairs of one class have the greatest sum of box IoU - 0.1 * score
  difference; an IoU below 0.5 is no pair. What is left is paired across the
  classes in the same way.

  Args:
    reference: detections of one image, see `verify`.
    exported: the same.

  Returns:
    Pairs of one class [P, 2] and of two classes [Q, 2]: indices of a reference
    detection and of an exported one.
  """
  ious = box_ious(reference['detection_boxes'], exported['detection_boxes'])
  apart = np.abs(np.subtract.outer(
      reference['detection_scores'].astype(np.float64),
      exported['detection_scores']))
  likeness = np.where(ious >= _SAME_PLACE, ious - _SCORE_WEIGHT * apart, 0)
  one_class = np.equal.outer(
      reference['detection_classes'], exported['detection_classes'])
  same = _assign(likeness * one_class)
  likeness[same[:, 0]] = 0
  likeness[:, same[:, 1]] = 0
  return same, _assign(likeness * ~one_class)


def _assign(likeness):
  """Pairs [P, 2] of the greatest sum, those of 0 left out."""
  rows, columns = optimize.linear_sum_assignment(likeness, maximize=True)
  found = likeness[rows, columns] > 0
  return np.stack([rows[found], columns[found]], axis=1)


def mask_ious(reference: dict[str, np.ndarray], exported: dict[str, np.ndarray],
              height: int, width: int) -> np.ndarray:
  """Mask IoU of detection i with detection i.

  Masks of boxes within 0.05 px of each other are compared cell by cell in the
  frame of the box: the sharpest, pasting a 28 x 28 mask into a small box hides
  most cells. Others, and masks of the whole image, are compared in the image's
  pixels. A cell or pixel that the reference has within 1e-4 of the threshold
  0.5 may be either.

  Args:
    reference: P detections, masks [P, M, M] probabilities.
    exported: P detections, masks [P, M, M], or [P, height, width] bool.
    height: int, of the image.
    width: int, of the image.

  Returns:
    [P] float64; 1 where both masks are empty.
  """
  masks, others = (d['detection_masks'] for d in (reference, exported))
  boxes, other_boxes = (d['detection_boxes'] for d in (reference, exported))
  may, must = 0.5 - _ROUNDING, 0.5 + _ROUNDING
  whole = others.dtype == bool
  ious = np.zeros(len(masks))
  still = np.abs(boxes - other_boxes).max(1, initial=0) <= _STILL
  if not whole:
    cells = others[still] >= 0.5
    most, least = masks[still] >= may, masks[still] >= must
    ious[still] = _ratio((most & cells).sum((1, 2)),
                         (least | cells).sum((1, 2)))
  for i in np.flatnonzero(~still | whole):
    paste = lambda j, mask, box, t: paste_masks.encode_masks(
        mask[j:j + 1], box[j:j + 1], height, width, t)[0]
    pixels = (mask_utils.encode(np.asfortranarray(others[i], np.uint8))
              if whole else paste(i, others, other_boxes, 0.5))
    most, least = (paste(i, masks, boxes, t) for t in (may, must))
    ious[i] = _ratio(mask_utils.area(mask_utils.merge([most, pixels], True)),
                     mask_utils.area(mask_utils.merge([least, pixels])))
  return ious


def _ratio(overlap, union):
  """IoU of numbers of cells, 1 for two empty masks."""
  return np.where(union > 0, overlap / np.maximum(union, 1), 1.0)
