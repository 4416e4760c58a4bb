"""The release's way from a mask to the image, written down again."""

import cv2
import numpy as np


def paste(mask, box, height, width):
  """One step of its `segm_results`: a mask [M, M] as an image of booleans.

  `box` is x1, y1, x2, y2, indices of pixels. OpenCV resizes, as there.
  """
  size = mask.shape[0]
  padded = np.zeros([size + 2, size + 2], np.float32)
  padded[1:-1, 1:-1] = mask
  scale = (size + 2.0) / size
  half_width, half_height = (
      np.float32(box[i + 2] - box[i]) * .5 * scale for i in range(2))
  x_centre, y_centre = ((box[i + 2] + box[i]) * .5 for i in range(2))
  x1, y1, x2, y2 = np.array([
      x_centre - half_width, y_centre - half_height, x_centre + half_width,
      y_centre + half_height]).astype(np.int32)
  w, h = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
  resized = cv2.resize(padded, (int(w), int(h))) > 0.5
  image = np.zeros([height, width], bool)
  left, right = max(x1, 0), min(x2 + 1, width)
  top, bottom = max(y1, 0), min(y2 + 1, height)
  image[top:bottom, left:right] = resized[
      top - y1:bottom - y1, left - x1:right - x1]
  return image
