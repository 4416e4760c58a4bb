"""From a box's mask probabilities to image pixels, and to COCO RLE.

PANet 3.3 predicts a 28 x 28 mask in the frame of each box. Evaluation and
drawing need it in image pixels. Bilinear sampling with half-pixel centres: cell
i of M has its centre at `y1 + (i + 0.5) / M * (y2 - y1)`, pixel p at `p + 0.5`.
Only the pixels inside the box are ever computed, and an RLE is written from
that window: thousands of nuclei cost no full-size canvas.
"""

import numpy as np
from pycocotools import mask as mask_utils


def paste_mask(mask, box, height, width, threshold=0.5):
  """Samples a box's mask at the image's pixels.

  Args:
    mask: [M, M] float, probabilities in the frame of the box.
    box: [4], yxyx, original-image pixels, edges (pixel p covers [p, p + 1]).
    height: int, of the image.
    width: int, of the image.
    threshold: float, the least probability that counts as inside.

  Returns:
    [height, width] uint8, 0 or 1; all 0 for an empty box or one outside.
  """
  canvas = np.zeros((height, width), np.uint8)
  window, top, left = _window(mask, box, height, width, threshold)
  rows, columns = window.shape
  canvas[top:top + rows, left:left + columns] = window
  return canvas


def encode_masks(masks, boxes, height, width, threshold=0.5):
  """Run-length encodes `paste_mask` of each mask, without the canvases.

  Args:
    masks: [N, M, M] float, probabilities in the frame of their boxes.
    boxes: [N, 4], yxyx, original-image pixels.
    height: int, of the image.
    width: int, of the image.
    threshold: float, the least probability that counts as inside.

  Returns:
    N COCO RLEs: {'size': [height, width], 'counts': compressed, a str}.
  """
  size = [int(height), int(width)]
  runs = [
      {'size': size,
       'counts': _runs(*_window(mask, box, height, width, threshold), *size)}
      for mask, box in zip(masks, boxes, strict=True)]
  rles = mask_utils.frPyObjects(runs, *size) if runs else []
  return [{'size': list(size), 'counts': rle['counts'].decode('ascii')}
          for rle in rles]


def _window(mask, box, height, width, threshold):
  """The pasted pixels inside the box, [h, w] bool, and their top and left."""
  mask = np.asarray(mask, np.float32)
  y1, x1, y2, x2 = np.asarray(box, np.float64).tolist()
  top, y = _axis(y1, y2, height, mask.shape[0])
  left, x = _axis(x1, x2, width, mask.shape[1])
  if not y.size or not x.size:
    return np.zeros((0, 0), bool), 0, 0
  return _interpolate(_interpolate(mask, y).T, x).T >= threshold, top, left


def _axis(low, high, size, cells):
  """First pixel with its centre in [low, high), and the cells' coordinates."""
  if not (np.isfinite(high - low) and high > low):
    return 0, np.zeros(0)
  first, end = np.clip(np.ceil(np.array([low, high]) - 0.5), 0, size)
  centres = np.arange(first, end) + 0.5
  coordinates = (centres - low) / (high - low) * cells - 0.5
  return int(first), np.clip(coordinates, 0, cells - 1)


def _interpolate(values, coordinates):
  """Linear interpolation of values [n, k] at rows `coordinates` [m]: [m, k]."""
  below = coordinates.astype(np.intp)
  above = np.minimum(below + 1, len(values) - 1)
  weight = (coordinates - below).astype(np.float32)[:, None]
  return values[below] * (1 - weight) + values[above] * weight


def _runs(window, top, left, height, width):
  """Column-major run lengths of the image that holds `window`: 0s, 1s, 0s.."""
  rows, columns = window.shape
  padded = np.zeros((columns, rows + 2), bool)
  padded[:, 1:-1] = window.T
  # Where a run starts, ends, starts, ..
  column, row = np.nonzero(padded[:, 1:] != padded[:, :-1])
  edges = (left + column) * height + top + row
  # A run that reaches the bottom and goes on at the top of the next column.
  goes_on = np.flatnonzero(edges[1:] == edges[:-1])
  edges = np.delete(edges, np.concatenate([goes_on, goes_on + 1]))
  runs = np.diff(edges, prepend=0, append=height * width)
  return runs[:-1] if runs[-1] == 0 and runs.size > 1 else runs
