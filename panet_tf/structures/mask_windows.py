"""Binary masks that know where they lie, without the image around them.

A hundred masks of a large image are mostly zeros. Voting, tiles and drawing
keep the window of each.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from panet_tf.structures import paste_masks


class MaskWindows:
  """N binary masks of one image, each in a window of its own.

  Attributes:
    corners: [N, 2] int64, y and x of each window's first pixel.
    crops: N arrays [h, w] bool.
  """

  def __init__(self, corners: np.ndarray, crops: Sequence[np.ndarray]):
    self.corners = np.asarray(corners, np.int64).reshape(-1, 2)
    self.crops = tuple(crops)
    if len(self.corners) != len(self.crops):
      raise ValueError(
          f'{len(self.corners)} corners but {len(self.crops)} crops')

  @classmethod
  def from_images(cls, masks: np.ndarray) -> 'MaskWindows':
    """Masks [N, H, W] bool, cut to what is set."""
    whole = cls(np.zeros([len(masks), 2]), list(masks))
    return whole.tightened()

  @classmethod
  def from_boxes(cls, masks: np.ndarray, boxes: np.ndarray, height: int,
                 width: int, threshold: float = 0.5) -> 'MaskWindows':
    """Masks [N, M, M] in the frames of their boxes, see `paste_mask`."""
    corners, crops = [], []
    for mask, box in zip(masks, np.asarray(boxes, np.float64)):
      y1, x1, y2, x2 = window_of(box, height, width)
      corners.append((y1, x1))
      # The same pixels, counted from the window's corner.
      crops.append(paste_masks.paste_mask(
          mask, box - [y1, x1, y1, x1], y2 - y1, x2 - x1,
          threshold).astype(bool))
    return cls(np.reshape(corners, [-1, 2]), crops)

  @classmethod
  def concatenate(cls, parts: Sequence['MaskWindows']) -> 'MaskWindows':
    """The masks of several, in their order."""
    return cls(
        np.concatenate([part.corners for part in parts] + [np.zeros([0, 2])]),
        [crop for part in parts for crop in part.crops])

  def __len__(self) -> int:
    return len(self.crops)

  def __getitem__(self, index: Any) -> 'MaskWindows':
    """Some of the masks: a slice, [K] bool or [K] int."""
    chosen = np.arange(len(self))[index]
    return MaskWindows(self.corners[chosen], [self.crops[i] for i in chosen])

  def areas(self) -> np.ndarray:
    """Pixels of each mask, [N] int64."""
    return np.array([np.count_nonzero(crop) for crop in self.crops], np.int64)

  def bounds(self) -> np.ndarray:
    """Tight boxes [N, 4] float64, yxyx edges; zeros for an empty mask."""
    return np.array(
        [_bounds(crop) + np.tile(corner, 2) * crop.any()
         for corner, crop in zip(self.corners, self.crops)],
        np.float64).reshape(-1, 4)

  def tightened(self) -> 'MaskWindows':
    """The same masks in the smallest windows."""
    bounds = [_bounds(crop) for crop in self.crops]
    return MaskWindows(
        self.corners + np.reshape(bounds, [-1, 4])[:, :2].astype(np.int64),
        [crop[y1:y2, x1:x2] for crop, (y1, x1, y2, x2) in zip(
            self.crops, bounds)])

  def scaled(self, factor: float) -> 'MaskWindows':
    """The masks of the image reduced, or enlarged: the nearest pixels."""
    corners, crops = [], []
    for corner, crop in zip(self.corners, self.crops):
      first = np.floor(corner * factor).astype(np.int64)
      end = np.ceil((corner + crop.shape) * factor).astype(np.int64)
      places = [
          np.floor((np.arange(a, b) + 0.5) / factor).astype(np.int64) - c
          for a, b, c in zip(first, end, corner)]
      seen = [(place >= 0) & (place < edge)
              for place, edge in zip(places, crop.shape)]
      corners.append([a + np.argmax(inside) for a, inside in zip(first, seen)
                      ] if crop.size else first)
      crops.append(crop[np.ix_(*(place[inside] for place, inside in zip(
          places, seen)))])
    return MaskWindows(np.reshape(corners, [-1, 2]), crops)

  def rles(self, height: int, width: int) -> list[dict[str, Any]]:
    """COCO RLEs in an image of this size; windows must lie inside."""
    starts, ends, owner = [], [], []
    for number, ((top, left), crop) in enumerate(zip(
        self.corners, self.crops)):
      # Down the columns, as COCO counts: +1 begins a run, -1 ends one.
      steps = np.diff(np.pad(crop.T.astype(np.int8), [(0, 0), (1, 1)]), axis=1)
      for found, sign in ((starts, 1), (ends, -1)):
        column, row = np.nonzero(steps == sign)
        found.append((column + left) * height + row + top)
      owner.append(np.full(len(starts[-1]), number))
    none = [np.zeros(0, np.int64)]
    return paste_masks.encode_runs(
        np.concatenate(starts + none), np.concatenate(ends + none),
        np.concatenate(owner + none), len(self), height, width)

  def images(self, height: int, width: int) -> np.ndarray:
    """Masks [N, height, width] bool."""
    masks = np.zeros([len(self), height, width], bool)
    for mask, (top, left), crop in zip(masks, self.corners, self.crops):
      mask[top:top + crop.shape[0], left:left + crop.shape[1]] = crop
    return masks


def window_of(box: np.ndarray, height: int, width: int) -> np.ndarray:
  """Pixels that a box touches: y1, x1, y2, x2 int, inside of the image.

  Args:
    box: [4], yxyx edges in pixels of the image; NaN or an empty box gives an
      empty window.
    height: of the image.
    width: of the image.
  """
  y1, x1, y2, x2 = np.nan_to_num(np.asarray(box, np.float64))
  low = np.clip(np.floor([y1, x1]), 0, [height, width])
  high = np.clip(np.ceil([y2, x2]), 0, [height, width])
  return np.concatenate([low, np.maximum(low, high)]).astype(np.int64)


def _bounds(crop):
  """First and last row and column that are set: [4] int64, zeros if none."""
  # Columns first: that reads whole rows of memory.
  columns = np.flatnonzero(crop.any(0))
  if not columns.size:
    return np.zeros(4, np.int64)
  rows = np.flatnonzero(crop[:, columns[0]:columns[-1] + 1].any(1))
  return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
