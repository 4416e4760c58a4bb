"""Mask voting: the masks of one object become one.

Dai et al., Instance-aware Semantic Segmentation via Multi-task Network Cascades
(CVPR 2016), 3.4: an object's mask is the mean of all masks that overlap the
best one, weighted by their scores.

The mean is of image pixels, but no canvas is ever made: what is sampled or
added is the window that a cluster's masks cover. Nor does BLAS take part, whose
threads wait for each other on a busy machine.
"""

from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from scipy import sparse

from panet_tf.inference.suite import voting
from panet_tf.structures import detections
from panet_tf.structures import mask_windows
from panet_tf.structures import paste_masks

# A mean so little below 0.5 has reached it: weights are rounded, and a tie, say
# of two masks with one score, must not hang on that.
_ROUNDING = 1e-6


def mask_voting(found: detections.Detections, kept: np.ndarray, *,
                iou_threshold: float = 0.5) -> mask_windows.MaskWindows:
  """Replaces masks by the mean of those that overlap them.

  The voters of a detection are itself and all of its class whose binary mask
  has an IoU of at least iou_threshold with its own, in pixels of the image.

  Args:
    found: N detections with `BoxMasks`, probabilities at the pixels what
      `paste_masks.paste_mask` defines. Their scores are the weights: voters
      that all have 0 leave a mask as it is.
    kept: [K] int, the detections to vote for: K masks, in their order.
    iou_threshold: least IoU of a voter.
  """
  scores, kept = found.scores.astype(np.float64), np.asarray(kept, np.int64)
  candidates = _Candidates(found.known_masks)
  corners, crops = np.zeros([len(kept), 2], np.int64), []
  for number, voters in enumerate(
      _voters(candidates, found.labels, kept, iou_threshold)):
    if not candidates.areas[kept[number]]:
      crops.append(np.zeros([0, 0], bool))
      continue
    weights = scores[voters]
    if not weights.any():
      voters, weights = kept[[number]], np.ones(1)
    corners[number], mean = candidates.mean(voters, weights / weights.sum())
    crops.append(mean >= 0.5 - _ROUNDING)
  return mask_windows.MaskWindows(corners, crops, found.image_size)


class _Candidates:
  """Probabilities in the frames of their boxes, sampled where they vote.

  Attributes:
    areas: [N] int64, pixels of the binary masks.
    windows: [N, 4] int64, the pixels that a mask may have: y1, x1, y2, x2.
  """

  def __init__(self, masks):
    # What neither has pixels nor can be sampled: `paste_mask` has none either.
    cells, self._boxes = paste_masks.sampled(masks.probabilities, masks.boxes)
    height, width = masks.image_size
    self._rles: Any = paste_masks.encode_masks(
        cells, self._boxes, height, width)
    # Cells of a column side by side: they are gathered by column.
    self._columns = np.ascontiguousarray(cells.transpose(0, 2, 1))
    # Pixels with their centre in [low, high).
    self.windows = np.clip(np.ceil(self._boxes - 0.5), 0,
                           [height, width] * 2).astype(np.int64)
    # pycocotools 2.0.11 fails on a list of more than 255.
    self.areas = np.concatenate([
        mask_utils.area(self._rles[i:i + 255])
        for i in range(0, len(cells), 255)] + [[]]).astype(np.int64)

  def ious(self, own, others):
    """IoU of one mask with others [n]: [n]."""
    if not len(others):
      return np.zeros(0)
    return mask_utils.iou([self._rles[own]], [self._rles[i] for i in others],
                          [0] * len(others))[0]

  def mean(self, voters, weights):
    """Weighted mean over the voters' windows: its corner [2], and [h, w]."""
    windows = self.windows[voters]
    (y1, x1), (y2, x2) = windows[:, :2].min(0), windows[:, 2:].max(0)
    count, num_columns, num_rows = self._columns[voters].shape
    cell, after, share = self._cells(voters, 1, np.arange(x1, x2), num_columns)
    share *= weights.astype(np.float32)[:, np.newaxis, np.newaxis]
    voter = voters[:, np.newaxis]
    columns = (self._columns[voter, cell] * share[..., :1]
               + self._columns[voter, after] * share[..., 1:])
    columns = columns.transpose(0, 2, 1).reshape(count * num_rows, x2 - x1)
    # Rows of pixels: a matrix with two cells of each voter in each.
    cell, after, share = self._cells(voters, 0, np.arange(y1, y2), num_rows)
    first = num_rows * np.arange(count)[:, np.newaxis]
    index = np.stack([cell + first, after + first], -1)
    rows = sparse.csr_array(
        (share.swapaxes(0, 1).ravel(), index.swapaxes(0, 1).ravel(),
         2 * count * np.arange(y2 - y1 + 1)), (y2 - y1, count * num_rows))
    return (y1, x1), rows @ columns

  def _cells(self, voters, axis, pixels, size):
    """The cells around pixels [P] and their shares, 0 outside of the boxes.

    [K, P] int, the one before each pixel, and the one after it; [K, P, 2]
    float32, how much of each.
    """
    low, high = self._boxes[voters][:, axis::2].T[..., np.newaxis]
    first, end = self.windows[voters][:, axis::2].T[..., np.newaxis]
    position = np.clip(
        (pixels + 0.5 - low) / (high - low) * size - 0.5, 0, size - 1)
    cell = position.astype(np.int32)
    share = np.empty([*cell.shape, 2], np.float32)
    share[..., 1] = position - cell
    share[..., 0] = 1 - share[..., 1]
    share[(pixels < first) | (pixels >= end)] = 0
    return cell, np.minimum(cell + 1, size - 1), share


def _voters(candidates, classes, kept, iou_threshold):
  """Voters of each kept detection, ascending: K arrays [n]."""
  windows, areas = candidates.windows, candidates.areas
  for own in kept:
    others = np.flatnonzero(classes == classes[own])
    # Masks share at most what their windows share, nor more than they have.
    shared = np.minimum(
        voting.intersections(windows[[own]], windows[others])[0],
        np.minimum(areas[own], areas[others]))
    at_most = shared / np.maximum(areas[own] + areas[others] - shared, 1)
    others = others[voting.may_vote(at_most, iou_threshold) & (others != own)]
    ious = candidates.ious(own, others)
    yield np.union1d(others[voting.may_vote(ious, iou_threshold)], own)

