"""One set of detections out of several copies' and models'.

Section 4.2 merges what four scales, flips and seven models say of an image.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from panet_tf.configs import inference as inference_config
from panet_tf.inference.suite import voting

_MAX_VOTERS = 1000  # Of a source: the best.


@dataclasses.dataclass
class Boxes:
  """Boxes of one image.

  Attributes:
    boxes: [N, 4] float64, yxyx, pixels of the image.
    scores: [N] float32.
    classes: [N] int32, labels from 1.
  """
  boxes: np.ndarray
  scores: np.ndarray
  classes: np.ndarray

  def __getitem__(self, index) -> 'Boxes':
    return Boxes(self.boxes[index], self.scores[index], self.classes[index])

  @classmethod
  def concatenate(cls, parts: Sequence['Boxes']) -> 'Boxes':
    """All of several, in their order."""
    return cls(*(np.concatenate([getattr(part, field.name) for part in parts])
                 for field in dataclasses.fields(cls)))


def mean(classified: Sequence[tuple[np.ndarray, np.ndarray]]
        ) -> tuple[np.ndarray, np.ndarray]:
  """The mean of what several models say of the same proposals.

  Args:
    classified: boxes [R, K, 4] and scores [R, K] of each.

  Returns:
    boxes float64 and scores float32: of models that agree, the very same.
  """
  boxes, scores = (np.mean([np.asarray(part, np.float64) for part in parts], 0)
                   for parts in zip(*classified))
  return boxes, scores.astype(np.float32)


def candidates(boxes: np.ndarray, scores: np.ndarray,
               score_threshold: float) -> Boxes:
  """What suppression starts from: the best boxes, at most 1000, best first.

  Args:
    boxes: [R, K, 4], empty where they are padding.
    scores: [R, K].
    score_threshold: scores up to it are left out.
  """
  solid = np.all(boxes[..., 2:] > boxes[..., :2], -1)
  rows, columns = np.nonzero(solid & (scores > score_threshold))
  found = Boxes(boxes[rows, columns], scores[rows, columns],
                np.int32(columns + 1))
  return found[np.argsort(-found.scores, kind='stable')[:_MAX_VOTERS]]


def soften(found: Boxes, options: inference_config.Inference,
           iou_threshold: float, score_threshold: float
          ) -> tuple[np.ndarray, Boxes]:
  """Soft-NMS: which are kept, and they with their new scores."""
  kept, scores = voting.soft_nms(
      found.boxes, found.scores, found.classes, method=options.soft_nms,
      iou_threshold=iou_threshold, sigma=options.soft_nms_sigma,
      score_threshold=score_threshold)
  return kept, dataclasses.replace(found[kept], scores=np.float32(scores))


def merge(sources: Sequence[Boxes], voters: list[Boxes],
          options: inference_config.Inference, *, iou_threshold: float,
          score_threshold: float, max_detections: int
         ) -> tuple[np.ndarray, Boxes]:
  """Detections of an image.

  Args:
    sources: detections of each copy, or of each model on each copy, without
      duplicates of their own: a single one stays as it is.
    voters: for box voting.
    options: which way.
    iou_threshold: of suppression.
    score_threshold: of soft-NMS.
    max_detections: at most so many.

  Returns:
    Which of all sources' detections are kept [N], and they: best score first.
  """
  found = Boxes.concatenate(sources)
  kept = np.arange(len(found.scores))
  if len(sources) > 1:
    distinct = _distinct(found)
    if options.soft_nms:
      chosen, found = soften(
          found[distinct], options, iou_threshold, score_threshold)
      kept = distinct[chosen]
    else:
      kept = distinct[voting.non_max_suppression(
          *dataclasses.astuple(found[distinct]), iou_threshold)]
      found = found[kept]
  kept, found = kept[:max_detections], found[:max_detections]
  if options.box_voting:
    crowd = Boxes.concatenate(voters)
    boxes, scores = voting.box_voting(
        found.boxes, found.scores, found.classes,
        crowd.boxes, crowd.scores, crowd.classes,
        iou_threshold=options.box_voting_iou,
        scoring=options.box_voting_scoring, beta=options.box_voting_beta)
    order = np.argsort(-np.float32(scores), kind='stable')
    kept = kept[order]
    found = Boxes(boxes, np.float32(scores), found.classes)[order]
  return kept, found


def _distinct(found):
  """The best of each box and class, in their order: [N] int.

  A box without area overlaps nothing, not even its like of another copy.
  """
  order = np.argsort(-found.scores, kind='stable')
  rows = np.column_stack([found.classes, found.boxes])[order]
  _, first = np.unique(rows, axis=0, return_index=True)
  return np.sort(order[first])
