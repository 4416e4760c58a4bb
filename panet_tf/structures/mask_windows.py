"""Binary masks that know where they lie, without the image around them.

A hundred masks of a large image are mostly zeros. Voting, tiles and drawing
keep the window of each; so becomes what an export has pasted into the image.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from panet_tf.structures import masks
from panet_tf.structures import paste_masks


class MaskWindows(masks.Masks):
  """N binary masks of one image, each in a window of its own.

  Attributes:
    corners: [N, 2] int64, y and x of each window's first pixel.
    crops: N arrays [h, w] bool.
    image_size: height and width of the image, pixels; windows lie inside.
  """

  def __init__(self, corners: Any, crops: Sequence[np.ndarray],
               image_size: tuple[int, int]):
    """Raises ValueError unless there are as many corners as crops."""
    self.corners = np.asarray(corners, np.int64).reshape(-1, 2)
    self.crops = tuple(crops)
    self.image_size = image_size
    if len(self.corners) != len(self.crops):
      raise ValueError(
          f'{len(self.corners)} corners but {len(self.crops)} crops')

  @classmethod
  def concatenate(cls, parts: Sequence[masks.Masks]) -> Self:
    """Masks of one image, one or several parts in any form, in their order."""
    size, windows = masks.common_size(parts), [p.windows() for p in parts]
    return cls(np.concatenate([part.corners for part in windows]),
               [crop for part in windows for crop in part.crops], size)

  def __len__(self) -> int:
    return len(self.crops)

  def _chosen(self, rows):
    return MaskWindows(
        self.corners[rows], [self.crops[i] for i in rows], self.image_size)

  def windows(self) -> 'MaskWindows':
    """These."""
    return self

  def extents(self) -> np.ndarray:
    """The windows, [N, 4] int64: y1, x1, y2, x2, the last two exclusive."""
    sizes = np.reshape([crop.shape for crop in self.crops], [-1, 2])
    return np.concatenate(
        [self.corners, self.corners + sizes], 1).astype(np.int64)

  def cut(self, number: int, window: np.ndarray) -> np.ndarray:
    """One mask's pixels in a window [4] that lies in its own, [h, w] bool."""
    y1, x1, y2, x2 = window - np.tile(self.corners[number], 2)
    return self.crops[number][y1:y2, x1:x2]

  def areas(self) -> np.ndarray:
    """Pixels of each mask, [N] int64."""
    return np.array([np.count_nonzero(crop) for crop in self.crops], np.int64)

  def bounds(self) -> np.ndarray:
    """Tight boxes [N, 4] float64, yxyx edges; zeros for an empty mask."""
    return np.array(
        [_bounds(crop) + np.tile(corner, 2) * crop.any()
         for corner, crop in zip(self.corners, self.crops, strict=True)],
        np.float64).reshape(-1, 4)

  def tightened(self) -> 'MaskWindows':
    """The same masks in the smallest windows."""
    bounds = [_bounds(crop) for crop in self.crops]
    return MaskWindows(
        self.corners + np.reshape(bounds, [-1, 4])[:, :2].astype(np.int64),
        [crop[y1:y2, x1:x2] for crop, (y1, x1, y2, x2) in zip(
            self.crops, bounds, strict=True)], self.image_size)

  def scaled(self, factor: float) -> 'MaskWindows':
    """The masks of the image reduced, or enlarged: the nearest pixels.

    The image's edges are rounded, as OpenCV does it.
    """
    corners, crops = [], []
    for corner, crop in zip(self.corners, self.crops, strict=True):
      first = np.floor(corner * factor).astype(np.int64)
      end = np.ceil((corner + crop.shape) * factor).astype(np.int64)
      places = [
          np.floor((np.arange(a, b) + 0.5) / factor).astype(np.int64) - c
          for a, b, c in zip(first, end, corner, strict=True)]
      seen = [(place >= 0) & (place < edge)
              for place, edge in zip(places, crop.shape, strict=True)]
      corners.append([a + np.argmax(inside) for a, inside in zip(
          first, seen, strict=True)] if crop.size else first)
      crops.append(crop[np.ix_(*(place[inside] for place, inside in zip(
          places, seen, strict=True)))])
    height, width = self.image_size
    return MaskWindows(np.reshape(corners, [-1, 2]), crops,
                       (round(height * factor), round(width * factor)))

  def rles(self) -> list[dict[str, Any]]:
    """See `Masks`."""
    height, width = self.image_size
    starts, ends, owner = [], [], []
    for number, ((top, left), crop) in enumerate(zip(
        self.corners, self.crops, strict=True)):
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

  def images(self) -> np.ndarray:
    """See `Masks`."""
    images = np.zeros([len(self), *self.image_size], bool)
    for image, (y1, x1, y2, x2), crop in zip(
        images, self.extents(), self.crops, strict=True):
      image[y1:y2, x1:x2] = crop
    return images


def of_images(pixels: Any) -> MaskWindows:
  """Masks [N, height, width], as large as the image, cut to what is set."""
  pixels = np.asarray(pixels).astype(bool, copy=False)
  if pixels.ndim != 3:
    raise ValueError(f'masks are {pixels.shape}, not [N, height, width]')
  return MaskWindows(np.zeros([len(pixels), 2]), list(pixels),
                     (pixels.shape[1], pixels.shape[2])).tightened()


def _bounds(crop):
  """First and last row and column that are set: [4] int64, zeros if none."""
  # Columns first: that reads whole rows of memory.
  columns = np.flatnonzero(crop.any(0))
  if not columns.size:
    return np.zeros(4, np.int64)
  rows = np.flatnonzero(crop[:, columns[0]:columns[-1] + 1].any(1))
  return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
