"""Mask probabilities, each in the frame of its box, as PANet 3.3 gives them."""

import dataclasses
from typing import Any

import numpy as np

from panet_tf.structures import mask_windows
from panet_tf.structures import masks
from panet_tf.structures import paste_masks

# The release's "> 0.5" as a least probability, of float32.
_LEGACY_THRESHOLD = np.nextafter(np.float32(0.5), np.float32(1))


@dataclasses.dataclass(eq=False)
class BoxMasks(masks.Masks):
  """N masks of one image as probabilities.

  Attributes:
    probabilities: [N, M, M] float, in the frames of the boxes.
    boxes: [N, 4], yxyx edges in pixels of the image.
    image_size: height and width of the image, pixels.
    legacy: how they come into the image: as the authors' release does it, see
      `legacy_frames`, and not as `paste_masks` does.
  """
  probabilities: np.ndarray
  boxes: np.ndarray
  image_size: tuple[int, int]
  legacy: bool = False

  def __post_init__(self):
    """Raises ValueError for arrays that do not fit."""
    self.probabilities = np.asarray(self.probabilities)
    self.boxes = np.asarray(self.boxes).reshape(-1, 4)
    if self.probabilities.ndim != 3:
      raise ValueError(f'masks are {self.probabilities.shape}, not [N, M, M]')
    if len(self) != len(self.boxes):
      raise ValueError(f'{len(self)} masks but {len(self.boxes)} boxes')

  def __len__(self) -> int:
    return len(self.probabilities)

  def _chosen(self, rows):
    return dataclasses.replace(
        self, probabilities=self.probabilities[rows], boxes=self.boxes[rows])

  def windows(self) -> mask_windows.MaskWindows:
    """Each pasted into the window of its box."""
    probabilities, boxes, threshold = self.probabilities, self.boxes, 0.5
    if self.legacy:
      probabilities, boxes = legacy_frames(probabilities, boxes)
      threshold = _LEGACY_THRESHOLD
    corners, crops = [], []
    for mask, box in zip(
        probabilities, np.asarray(boxes, np.float64), strict=True):
      y1, x1, y2, x2 = _window_of(box, *self.image_size)
      corners.append((y1, x1))
      # The same pixels, counted from the window's corner.
      crops.append(paste_masks.paste_mask(
          mask, box - [y1, x1, y1, x1], y2 - y1, x2 - x1,
          threshold).astype(bool))
    return mask_windows.MaskWindows(
        np.reshape(corners, [-1, 2]), crops, self.image_size)

  def rles(self) -> list[dict[str, Any]]:
    """See `Masks`; without the pixels where `paste_masks` can do it."""
    if self.legacy:
      return self.windows().rles()
    return paste_masks.encode_masks(
        self.probabilities, self.boxes, *self.image_size)


def _window_of(box, height, width):
  """Pixels that a box [4] touches: y1, x1, y2, x2 int, inside of the image.

  NaN or an empty box gives an empty window.
  """
  y1, x1, y2, x2 = np.nan_to_num(box)
  low = np.clip(np.floor([y1, x1]), 0, [height, width])
  high = np.clip(np.ceil([y2, x2]), 0, [height, width])
  return np.concatenate([low, np.maximum(low, high)]).astype(np.int64)


def legacy_frames(masks: np.ndarray,
                  boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """What the authors' release pastes: masks and the whole pixels they cover.

  Detectron's `segm_results` of 2018: the mask gets a border of zeros, the box
  grows with it and is truncated to whole pixels, and the mask is resized to
  that. Boxes of a few pixels differ much from `paste_masks`, which truncates
  nothing.

  Args:
    masks: [N, M, M] float32, probabilities in the frames of their boxes.
    boxes: [N, 4], yxyx, pixels of the image, which end behind their last pixel.

  Returns:
    [N, M + 2, M + 2] float32 and boxes [N, 4] float32, whole numbers: to be
    sampled as `paste_masks` does, for what is above 0.5.
  """
  pixels = np.asarray(boxes, np.float32).reshape(-1, 4) - np.array(
      [0, 0, 1, 1], np.float32)
  size = masks.shape[-1]
  centre = (pixels[:, :2] + pixels[:, 2:]) * np.float32(0.5)
  half = (pixels[:, 2:] - pixels[:, :2]) * np.float32(0.5) * np.float32(
      (size + 2) / size)
  start, last = np.trunc(centre - half), np.trunc(centre + half)
  return (np.pad(np.asarray(masks, np.float32), [(0, 0), (1, 1), (1, 1)]),
          np.concatenate([start, np.maximum(last, start) + 1], 1))
