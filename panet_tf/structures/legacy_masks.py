"""Masks in the image's pixels as the authors' release pastes them.

Detectron's `segm_results` of 2018: the mask gets a border of zeros, the box
grows with it and is truncated to whole pixels, and the mask is resized to that.
Boxes of a few pixels differ much from `paste_masks`, which truncates nothing.
"""

import numpy as np

# The release's "> 0.5" as a least probability, of float32.
THRESHOLD = np.nextafter(np.float32(0.5), np.float32(1))


def frames(masks: np.ndarray,
           boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Masks with a border of zeros, and the whole pixels that they cover.

  Args:
    masks: [N, M, M] float32, probabilities in the frames of their boxes.
    boxes: [N, 4], yxyx, pixels of the image, which end behind their last pixel.

  Returns:
    [N, M + 2, M + 2] float32 and boxes [N, 4] float32 as they came in, whole
    numbers: to be sampled at the centres of pixels, as `paste_masks` does,
    with THRESHOLD.
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
