"""One set of detections out of several copies' and models' (section 4.2)."""

from collections.abc import Sequence

import numpy as np

from panet_tf.configs import inference as inference_config
from panet_tf.inference.suite import voting
from panet_tf.structures import detections

Detections = detections.Detections

_MAX_VOTERS = 1000  # Of a source: the best.


def mean(classified: Sequence[tuple[np.ndarray, np.ndarray]]
        ) -> tuple[np.ndarray, np.ndarray]:
  """The mean of boxes [R, K, 4] and scores [R, K] of several models.

  As float64 and float32: of models that agree, the very same.
  """
  boxes, scores = (np.mean([np.asarray(part, np.float64) for part in parts], 0)
                   for parts in zip(*classified, strict=True))
  return boxes, scores.astype(np.float32)


def candidates(boxes: np.ndarray, scores: np.ndarray,
               score_threshold: float, image_size: tuple[int, int]
              ) -> Detections:
  """What suppression starts from: the best boxes, at most 1000, best first.

  Of boxes [R, K, 4], empty where they are padding, and scores [R, K], those
  above the threshold.
  """
  solid = np.all(boxes[..., 2:] > boxes[..., :2], -1)
  rows, columns = np.nonzero(solid & (scores > score_threshold))
  found = Detections(boxes[rows, columns], scores[rows, columns],
                     (columns + 1).astype(np.int32), image_size)
  return found[np.argsort(-found.scores, kind='stable')[:_MAX_VOTERS]]


def soften(found: Detections, options: inference_config.Inference,
           iou_threshold: float, score_threshold: float
          ) -> tuple[np.ndarray, Detections]:
  """Soft-NMS: which are kept, and they with their new scores."""
  return voting.soft_nms(
      found, method=options.soft_nms, iou_threshold=iou_threshold,
      sigma=options.soft_nms_sigma, score_threshold=score_threshold)


def merge(sources: Sequence[Detections], voters: list[Detections],
          options: inference_config.Inference, *, iou_threshold: float,
          score_threshold: float, max_detections: int
         ) -> tuple[np.ndarray, Detections]:
  """Detections of an image, without masks.

  Args:
    sources: detections of each copy, or of each model on each copy, without
      duplicates of their own: a single one stays as it is.
    voters: for box voting.
    options: which way.
    iou_threshold: of suppression.
    score_threshold: of soft-NMS.
    max_detections: most of them.

  Returns:
    Which of all sources' detections are kept [N], and they: best score first.
  """
  found = Detections.concatenate(sources)
  kept = np.arange(len(found))
  if len(sources) > 1:
    distinct = _distinct(found)
    if options.soft_nms:
      chosen, found = soften(
          found[distinct], options, iou_threshold, score_threshold)
      kept = distinct[chosen]
    else:
      kept = distinct[voting.non_max_suppression(
          found[distinct], iou_threshold)]
      found = found[kept]
  kept, found = kept[:max_detections], found[:max_detections]
  if options.box_voting:
    found = voting.box_voting(
        found, Detections.concatenate(voters),
        iou_threshold=options.box_voting_iou,
        scoring=options.box_voting_scoring, beta=options.box_voting_beta)
    order = np.argsort(-found.scores, kind='stable')
    kept, found = kept[order], found[order]
  return kept, found


def _distinct(found):
  """The best of each box and class, in their order: [N] int.

  A box without area overlaps nothing, not even its like of another copy.
  """
  order = np.argsort(-found.scores, kind='stable')
  rows = np.column_stack([found.labels, found.boxes])[order]
  _, first = np.unique(rows, axis=0, return_index=True)
  return np.sort(order[first])
