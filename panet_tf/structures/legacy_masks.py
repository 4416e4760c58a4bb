"""Masks in the image's pixels as the authors' release pastes them.

Detectron's `segm_results` of 2018: the mask gets a border of zeros, the box
grows with it and is truncated to whole pixels, and the mask is resized to that.
Boxes of a few pixels differ much from `paste_masks`, which truncates nothing.
"""


import numpy as np

from panet_tf.structures import mask_windows

# The release's "> 0.5" as a least probability, of float32.
_THRESHOLD = np.nextafter(np.float32(0.5), np.float32(1))


def paste(masks: np.ndarray, boxes: np.ndarray, height: int,
          width: int) -> mask_windows.MaskWindows:
  """Masks of an image.

  Args:
    masks: [N, M, M] float32, probabilities in the frames of their boxes.
    boxes: [N, 4], yxyx, pixels of the image, which end behind their last pixel.
    height: of the image.
    width: of the image.
  """
  return mask_windows.MaskWindows.from_boxes(
      *frames(masks, boxes), height, width, _THRESHOLD)


def frames(masks: np.ndarray,
           boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Masks with a border of zeros, and the whole pixels that they cover.

  Args:
    masks: see `paste`, as the next.
    boxes: their boxes.

  Returns:
    [N, M + 2, M + 2] float32 and boxes [N, 4] float32 as they came in, whole
    numbers: to be sampled at the centres of pixels, as `paste_masks` does.
  """
  pixels = np.asarray(boxes, np.float32).reshape(-1, 4) - np.float32(
      [0, 0, 1, 1])
  size = masks.shape[-1]
  centre = (pixels[:, :2] + pixels[:, 2:]) * np.float32(0.5)
  half = (pixels[:, 2:] - pixels[:, :2]) * np.float32(0.5) * np.float32(
      (size + 2) / size)
  start, last = np.trunc(centre - half), np.trunc(centre + half)
  return (np.pad(np.asarray(masks, np.float32), [(0, 0), (1, 1), (1, 1)]),
          np.concatenate([start, np.maximum(last, start) + 1], 1))
