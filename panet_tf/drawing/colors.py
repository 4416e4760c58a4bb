"""The colours of classes and of their instances.

A class has one hue in every image. Its instances take shades of it, so that two
touching nuclei can be told apart.
"""

import colorsys

import numpy as np

_GOLDEN = 0.618034  # multiples of it, modulo 1, stay far apart
# Part of white, and value. The first one stands for the class.
_SHADES = ((0, 1), (0.55, 1), (0, 0.68), (0.3, 1), (0.45, 0.75), (0.15, 0.85))
_LUMINANCE = (0.299, 0.587, 0.114)
_DARKEST = 0.4  # pure blue, 0.11, is lost on a dark image
_NEAR = 2  # pixels, around a box


def class_color(label: int, shade: int = 0):
  """RGB, each 0..255, of a class; of its instances with shades 1 to 5."""
  base = np.array(colorsys.hsv_to_rgb((0.08 + (label - 1) * _GOLDEN) % 1, 1, 1))
  luminance = base @ _LUMINANCE
  base += (1 - base) * max(0, (_DARKEST - luminance) / (1 - luminance))
  whiteness, value = _SHADES[shade]
  rgb = value * (base + (1 - base) * whiteness)
  return tuple(round(255 * channel) for channel in rgb.tolist())


def instance_colors(boxes, labels):
  """N RGB colours of objects with boxes [N, 4], yxyx, and labels [N] int.

  Takes the shades of each class in turn, but none of a touching neighbour. What
  is found of other classes changes nothing.
  """
  low, high = boxes[:, :2] - _NEAR, boxes[:, 2:] + _NEAR
  shades = np.zeros(len(boxes), int)
  for i in range(len(boxes)):
    same = labels[:i] == labels[i]
    near = same & np.all((low[:i] < high[i]) & (low[i] < high[:i]), axis=1)
    turns = (same.sum() + np.arange(len(_SHADES))) % len(_SHADES)
    free = turns[~np.isin(turns, shades[:i][near])]
    shades[i] = free[0] if free.size else turns[0]
  return [class_color(int(label), shade)
          for label, shade in zip(labels, shades, strict=True)]


def text_color(color):
  """Black or white, whichever reads better on an RGB colour."""
  luminance = np.dot(color, _LUMINANCE)
  return (0, 0, 0) if luminance > 130 else (255, 255, 255)
