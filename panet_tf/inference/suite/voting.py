"""Many detections of one object become one: suppression and votes.

Test-time suites (PANet 4.2) find each object many times over. What its
detections agree on is better than the best of them. NumPy only: candidates are
few, and their number varies.

Boxes are [N, 4], yxyx edges in pixels of the image, so that an IoU has no + 1;
a box without area overlaps nothing. Nothing crosses from class to class.
Results depend on the values and the order of what is given, on nothing else.
"""

from collections.abc import Iterator
import dataclasses

import numpy as np
from scipy import special

from panet_tf.structures import detections

Detections = detections.Detections


def intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Areas that boxes [A, 4] share with others [B, 4]: [A, B] float64."""
  low_y, low_x, high_y, high_x = _edges(boxes).T[..., np.newaxis]
  y1, x1, y2, x2 = _edges(others).T
  tall = np.minimum(high_y, y2) - np.maximum(low_y, y1)
  wide = np.minimum(high_x, x2) - np.maximum(low_x, x1)
  return np.maximum(tall, 0) * np.maximum(wide, 0)


def ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
  """IoU of boxes [A, 4] with others [B, 4]: [A, B] float64, 0 if empty."""
  shared = intersections(boxes, others)
  union = areas(_edges(boxes))[:, np.newaxis] + areas(_edges(others)) - shared
  return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def may_vote(iou: np.ndarray, iou_threshold: float) -> np.ndarray:
  """Who overlaps enough to vote; whatever the threshold, it must overlap."""
  return (iou >= iou_threshold) & (iou > 0)


def non_max_suppression(found: Detections, iou_threshold: float) -> np.ndarray:
  """Drops a box with a larger IoU with a better one of its class that is kept.

  Of equal scores the first is the better. Gives the boxes that are kept, best
  first, [K] int64.
  """
  boxes, scores = _edges(found.boxes), found.scores
  kept = np.zeros(len(boxes), bool)
  for left in _of_each_class(found.labels):
    left = left[np.argsort(-scores[left], kind='stable')]
    while left.size:
      best, left = left[0], left[1:]
      kept[best] = True
      left = left[ious(boxes[[best]], boxes[left])[0] <= iou_threshold]
  return _best_first(np.flatnonzero(kept), scores)


def soft_nms(found: Detections, *, method: str = 'linear',
             iou_threshold: float = 0.5, sigma: float = 0.5,
             score_threshold: float = 0.001) -> tuple[np.ndarray, Detections]:
  """Lowers the scores of boxes that overlap better ones of their class.

  Bodla et al., Soft-NMS (ICCV 2017), eq. 2 and 3: the best box left keeps its
  score s; each other one that is left gets s * (1 - IoU) where IoU >
  iou_threshold ('linear'), or s * exp(-IoU^2 / sigma) ('gaussian').

  Args:
    found: N detections; of equal scores the first is the better.
    method: of `configs.inference.SOFT_NMS_METHODS`.
    iou_threshold: of 'linear'.
    sigma: of 'gaussian'.
    score_threshold: a box is dropped once its score is below.

  Returns:
    [K] int64, the boxes that are kept, and they with their new scores; best
    first, the lower index first of equal ones.
  """
  boxes, final = _edges(found.boxes), np.full(len(found), -np.inf)
  for left in _of_each_class(found.labels):
    decayed = found.scores[left].astype(np.float64)
    while True:
      alive = decayed >= score_threshold
      left, decayed = left[alive], decayed[alive]
      if not left.size:
        break
      best = np.argmax(decayed)
      final[left[best]] = decayed[best]
      iou = ious(boxes[left[best:best + 1]], boxes[left])[0]
      decayed *= (np.where(iou > iou_threshold, 1 - iou, 1)
                  if method == 'linear' else np.exp(-iou ** 2 / sigma))
      decayed[best] = -np.inf
  kept = _best_first(np.flatnonzero(final > -np.inf), final)
  return kept, dataclasses.replace(
      found[kept], scores=_as_given(final[kept], found.scores))


def box_voting(found: Detections, voters: Detections, *,
               iou_threshold: float = 0.8, scoring: str = 'identity',
               beta: float = 1.0) -> Detections:
  """Moves each box to the mean of its voters, weighted by their scores.

  Gidaris and Komodakis, Multi-region CNN (ICCV 2015), 3.3. A voter has the
  box's class, overlaps it and has an IoU of at least iou_threshold. The new
  score, of n voters with scores p, as Detectron (utils/boxes.py) has it:

    identity             the box's own
    temperature_average  mean of p^(1/beta) / (p^(1/beta) + (1 - p)^(1/beta))
    average              mean of p
    iou_average          mean of p, weighted by the voters' IoU
    generalized_average  (mean of p^beta)^(1/beta)
    quasi_sum            sum of p / n^beta

  Args:
    found: those that non-maximum suppression kept.
    voters: all detections, also the kept ones; scores 0 to 1.
    iou_threshold: least IoU of a voter.
    scoring: of `configs.inference.BOX_SCORINGS`.
    beta: above 0; quasi_sum takes 0, too.

  Returns:
    `found` with new boxes and scores, in their order and dtypes. A box without
    voters, or only with such of score 0, keeps both.
  """
  boxes, scores = _edges(found.boxes), found.scores.astype(np.float64)
  for own in _of_each_class(found.labels):
    others = voters[voters.labels == found.labels[own[0]]]
    iou = ious(found.boxes[own], others.boxes)
    votes = may_vote(iou, iou_threshold)
    other_scores = others.scores.astype(np.float64)
    weights = votes * other_scores
    voted = np.flatnonzero(weights.sum(1) > 0)
    own, iou, votes, weights = (
        own[voted], iou[voted], votes[voted], weights[voted])
    boxes[own] = (weights @ _edges(others.boxes)
                  / weights.sum(1, keepdims=True))
    if scoring != 'identity':
      scores[own] = _voted_scores(other_scores, votes, iou, scoring, beta)
  return dataclasses.replace(
      found, boxes=_as_given(boxes, found.boxes),
      scores=_as_given(scores, found.scores))


def tighten(found: Detections) -> Detections:
  """Detections whose boxes bound their masks, now windows, unless empty."""
  windows = found.known_masks.windows()
  bounds = windows.bounds()
  boxes = np.where(areas(bounds)[:, np.newaxis] > 0, bounds, found.boxes)
  return dataclasses.replace(
      found, boxes=boxes.astype(found.boxes.dtype), masks=windows)


def _voted_scores(scores, votes, iou, scoring, beta):
  """Scores [N] by the voters' scores [V], votes [N, V] bool, IoU [N, V]."""
  count = votes.sum(1)
  if scoring == 'temperature_average':
    # The sigmoid of the tempered logit, which a small beta cannot make 0 / 0.
    tempered = special.expit(special.logit(np.clip(scores, 0, 1)) / beta)
    return votes @ tempered / count
  if scoring == 'iou_average':
    return (votes * iou) @ scores / (votes * iou).sum(1)
  if scoring == 'generalized_average':
    return (votes @ scores ** beta / count) ** (1 / beta)
  return votes @ scores / count ** (beta if scoring == 'quasi_sum' else 1)


def _edges(boxes):
  return np.array(boxes, np.float64).reshape(-1, 4)


def _as_given(values, like) -> np.ndarray:
  """In the dtype of an argument; whole numbers had no room for a mean."""
  return values.astype(np.result_type(like, np.float32))


def areas(boxes: np.ndarray) -> np.ndarray:
  """Areas [N] of boxes [N, 4], 0 of one that ends before it begins."""
  tall, wide = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).T
  return tall * wide


def _of_each_class(classes) -> Iterator[np.ndarray]:
  """Indices [n] of each class, ascending."""
  for label in np.unique(classes):
    yield np.flatnonzero(classes == label)


def _best_first(chosen, scores):
  """Indices [K], ascending, by score; the lower one first of equal ones."""
  return chosen[np.argsort(-scores[chosen], kind='stable')]
