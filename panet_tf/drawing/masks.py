"""Masks drawn into a picture, each within its window only."""

import cv2
import numpy as np

_OPACITY = 0.42
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_LARGE = 1200  # pixels on the longer side, where a thin line is lost
_STRIPE = 8  # pixels from one stripe of a hatching to the next


def draw_mask(canvas, corner, crop, zoom, color, contour, hatched=False):
  """Tints a mask's pixels and draws its contour inside of it, in RGB.

  Args:
    canvas: [zoom * H, zoom * W, 3] uint8, changed in place.
    corner: y and x of the window's first pixel in the image.
    crop: [h, w] bool, the mask in its window.
    zoom: int, pixels of the canvas per pixel of the image.
    color: of the tint.
    contour: its color.
    hatched: stripes in place of the tint, as for a crowd.
  """
  if not crop.size:
    return
  window = np.ascontiguousarray(crop).view(np.uint8)
  if zoom > 1:
    window = (cv2.resize(window * 255, None, fx=zoom, fy=zoom,
                         interpolation=cv2.INTER_LINEAR) > 127).view(np.uint8)
  top, left = (zoom * int(value) for value in corner)
  height, width = window.shape
  target = canvas[top:top + height, left:left + width]
  tint = cv2.addWeighted(target, 1 - _OPACITY, np.full_like(target, color),
                         _OPACITY, 0)
  cv2.copyTo(tint, window & _stripes(top, left, *window.shape)
             if hatched else window, target)
  thickness = 2 if zoom > 1 or max(canvas.shape[:2]) > _LARGE else 1
  inner = cv2.erode(window, _CROSS, iterations=thickness,
                    borderType=cv2.BORDER_CONSTANT, borderValue=0)
  cv2.copyTo(np.full_like(target, contour), window - inner, target)


def _stripes(top, left, height, width):
  """Diagonal stripes [height, width] uint8 that go on in every window."""
  diagonal = np.add.outer(np.arange(height) + top, np.arange(width) + left)
  return (diagonal % _STRIPE < _STRIPE // 3).astype(np.uint8)
