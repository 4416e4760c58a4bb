"""Many detections of one object become one: suppression and votes.

Test-time suites (PANet 4.2: several scales, flips, several models) find each
object many times over. What the detections of one object agree on is better
than the best of them. NumPy only: candidates are few, and their number varies.

Boxes are [N, 4], yxyx edges in pixels of the image, so that an IoU has no + 1;
a box without area overlaps nothing. Nothing crosses from class to class.
Results depend on the values and the order of what is given, on nothing else.
"""

from collections.abc import Iterator

import numpy as np
from scipy import special

from panet_tf.configs import inference as inference_config
from panet_tf.structures import mask_windows


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
  union = _areas(boxes)[:, np.newaxis] + _areas(others) - shared
  return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def may_vote(iou: np.ndarray, iou_threshold: float) -> np.ndarray:
  """Who overlaps enough to vote; whatever the threshold, it must overlap."""
  return (iou >= iou_threshold) & (iou > 0)


def non_max_suppression(boxes: np.ndarray, scores: np.ndarray,
                        classes: np.ndarray,
                        iou_threshold: float) -> np.ndarray:
  """Drops a box that overlaps a better one of its class that is kept.

  Args:
    boxes: [N, 4], yxyx edges in pixels.
    scores: [N]; of equal ones the first is the better.
    classes: [N] int.
    iou_threshold: a box goes if its IoU is larger.

  Returns:
    [K] int64, the boxes that are kept, best first.
  """
  boxes, scores = _edges(boxes), np.asarray(scores)
  kept = np.zeros(len(boxes), bool)
  for left in _of_each_class(classes):
    left = left[np.argsort(-scores[left], kind='stable')]
    while left.size:
      best, left = left[0], left[1:]
      kept[best] = True
      left = left[ious(boxes[[best]], boxes[left])[0] <= iou_threshold]
  return _best_first(np.flatnonzero(kept), scores)


def soft_nms(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, *,
             method: str = 'linear', iou_threshold: float = 0.5,
             sigma: float = 0.5, score_threshold: float = 0.001
             ) -> tuple[np.ndarray, np.ndarray]:
  """Lowers the scores of boxes that overlap better ones of their class.

  Bodla et al., Soft-NMS (ICCV 2017), eq. 2 and 3: the best box left keeps its
  score s; each other one that is left gets s * (1 - IoU) where IoU >
  iou_threshold ('linear'), or s * exp(-IoU^2 / sigma) ('gaussian').

  Args:
    boxes: [N, 4], yxyx edges in pixels.
    scores: [N]; of equal ones the first is the better.
    classes: [N] int.
    method: of inference_config.SOFT_NMS_METHODS.
    iou_threshold: of 'linear'.
    sigma: of 'gaussian'.
    score_threshold: a box is dropped once its score is below.

  Returns:
    [K] int64, the boxes that are kept, and their new scores [K] in the dtype
    of scores; best first, the lower index first of equal ones.

  Raises:
    ValueError: no such method.
  """
  if method not in inference_config.SOFT_NMS_METHODS:
    raise ValueError(f'method {method!r} is none of {inference_config.SOFT_NMS_METHODS}')
  boxes, scores = _edges(boxes), np.asarray(scores)
  final = np.full(len(boxes), -np.inf)
  for left in _of_each_class(classes):
    decayed = scores[left].astype(np.float64)
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
  return kept, _as_given(final[kept], scores)


def box_voting(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray,
               voter_boxes: np.ndarray, voter_scores: np.ndarray,
               voter_classes: np.ndarray, *, iou_threshold: float = 0.8,
               scoring: str = 'identity', beta: float = 1.0
               ) -> tuple[np.ndarray, np.ndarray]:
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
    boxes: [N, 4], yxyx edges in pixels: those that non-maximum suppression
      kept.
    scores: [N].
    classes: [N] int.
    voter_boxes: [V, 4], all detections, also the kept ones.
    voter_scores: [V], 0 to 1.
    voter_classes: [V] int.
    iou_threshold: least IoU of a voter.
    scoring: of inference_config.BOX_SCORINGS.
    beta: above 0; quasi_sum takes 0, too.

  Returns:
    boxes [N, 4] and scores [N], in their order and dtypes. A box without
    voters, or only with such of score 0, keeps both.

  Raises:
    ValueError: no such scoring, or a beta that it cannot use.
  """
  if scoring not in inference_config.BOX_SCORINGS:
    raise ValueError(f'scoring {scoring!r} is none of {inference_config.BOX_SCORINGS}')
  if not (beta > 0 or beta == 0 and scoring == 'quasi_sum'):
    raise ValueError(f'beta is {beta}; {scoring} needs one above 0')
  boxes, scores = np.asarray(boxes).reshape(-1, 4), np.asarray(scores)
  classes, voter_classes = np.asarray(classes), np.asarray(voter_classes)
  voter_boxes = _edges(voter_boxes)
  voter_scores = np.asarray(voter_scores, np.float64)
  new_boxes, new_scores = boxes.astype(np.float64), scores.astype(np.float64)
  for own in _of_each_class(classes):
    voters = np.flatnonzero(voter_classes == classes[own[0]])
    iou = ious(boxes[own], voter_boxes[voters])
    votes = may_vote(iou, iou_threshold)
    weights = votes * voter_scores[voters]
    found = weights.sum(1) > 0
    own, iou, votes, weights = (x[found] for x in (own, iou, votes, weights))
    new_boxes[own] = (weights @ voter_boxes[voters]
                      / weights.sum(1, keepdims=True))
    if scoring != 'identity':
      new_scores[own] = _voted_scores(
          voter_scores[voters], votes, iou, scoring, beta)
  return _as_given(new_boxes, boxes), _as_given(new_scores, scores)


def tighten(boxes: np.ndarray,
            masks: mask_windows.MaskWindows) -> np.ndarray:
  """Boxes [N, 4] that bound their masks, in the dtype of boxes.

  A box of an empty mask stays.
  """
  boxes, bounds = np.asarray(boxes).reshape(-1, 4), masks.bounds()
  return np.where(
      _areas(bounds)[:, np.newaxis] > 0, bounds, boxes).astype(boxes.dtype)


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
  return np.asarray(boxes, np.float64).reshape(-1, 4)


def _as_given(values, like):
  """In the dtype of an argument; whole numbers had no room for a mean."""
  return values.astype(np.result_type(like, np.float32))


def _areas(boxes):
  extent = np.maximum(_edges(boxes)[:, 2:] - _edges(boxes)[:, :2], 0)
  return extent[:, 0] * extent[:, 1]


def _of_each_class(classes) -> Iterator[np.ndarray]:
  """Indices [n] of each class, ascending."""
  classes = np.asarray(classes)
  for label in np.unique(classes):
    yield np.flatnonzero(classes == label)


def _best_first(chosen, scores):
  """Indices [K], ascending, by score; the lower one first of equal ones."""
  return chosen[np.argsort(-scores[chosen], kind='stable')]
