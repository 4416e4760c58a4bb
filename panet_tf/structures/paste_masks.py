"""From a box's mask probabilities to image pixels, and to COCO RLE.

PANet 3.3 predicts a 28 x 28 mask in the frame of each box. Bilinear sampling
with half-pixel centres: cell i of M has its centre at
`y1 + (i + 0.5) / M * (y2 - y1)`, pixel p at `p + 0.5`.

Down a column of pixels the sampled mask is a straight line from each cell to
the next, so its runs of ones begin and end where such a line crosses the
threshold. Only M cells per column are computed, never the pixels, and those of
many masks at a time.
"""

from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

# Masks at a time. What their columns take then stays in a core's cache.
_CHUNK = 16


def paste_mask(mask, box, height, width, threshold=0.5):
  """Samples a box's mask at the image's pixels.

  Args:
    mask: [M, M] float, probabilities in the frame of the box; NaN is 0.
    box: [4], yxyx, original-image pixels, edges (pixel p covers [p, p + 1]).
    height: int, of the image, as the next.
    width: int.
    threshold: float, the least probability that counts as inside.

  Returns:
    [height, width] uint8, 0 or 1; all 0 for an empty box or one outside.
  """
  starts, ends, _ = _ones(*sampled([mask], [box]), height, width, threshold)
  canvas = np.zeros((height, width), np.uint8)
  if starts.size:
    left, right = starts[0] // height, -(-ends[-1] // height)
    steps = np.zeros((right - left) * height + 1, np.int8)
    steps[starts - left * height], steps[ends - left * height] = 1, -1
    pixels = np.cumsum(steps[:-1], dtype=np.int8)
    canvas[:, left:right] = pixels.reshape(-1, height).T
  return canvas


def encode_masks(masks, boxes, height, width, threshold=0.5):
  """`paste_mask` of masks [N, M, M] and boxes [N, 4], without the canvases.

  Returns:
    N COCO RLEs: {'size': [height, width], 'counts': compressed, a str}.
  """
  masks, boxes = sampled(masks, boxes)
  rles = []
  for i in range(0, len(masks), _CHUNK):
    chunk = masks[i:i + _CHUNK], boxes[i:i + _CHUNK]
    runs = _ones(*chunk, height, width, threshold)
    rles += encode_runs(*runs, len(chunk[0]), height, width)
  return rles


def encode_runs(starts, ends, owner, num_masks, height, width):
  """COCO RLEs of masks given by their runs of ones.

  Args:
    starts: [R] int, first pixel of each run, counted down the columns.
    ends: [R] int, the first pixel after it.
    owner: [R] int, its mask, ascending; the runs of a mask in order.
    num_masks: int, also of those without a run.
    height: int, of the image, as the next.
    width: int.
  """
  if not num_masks:
    return []
  starts, ends, owner = _joined(starts, ends, owner)
  size = [int(height), int(width)]
  runs: Any = [{'size': size, 'counts': counts} for counts in _counts(
      starts, ends, owner, num_masks, height * width)]
  rles: Any = mask_utils.frPyObjects(runs, *size)
  return [{'size': list(size), 'counts': rle['counts'].decode('ascii')}
          for rle in rles]


def sampled(masks, boxes):
  """What is sampled: float32 masks [N, M, M], float64 boxes [N, 4].

  NaN in a mask is 0; a box that is empty, or without end, becomes zeros.
  """
  masks = np.nan_to_num(np.asarray(masks, np.float32), posinf=1, neginf=0)
  boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
  if len(masks) != len(boxes):
    raise ValueError(f'{len(masks)} masks but {len(boxes)} boxes')
  with np.errstate(invalid='ignore', over='ignore'):
    extent = boxes[:, 2:] - boxes[:, :2]
  good = (np.isfinite(extent) & (extent > 0)).all(1, keepdims=True)
  return masks, np.where(good, boxes, 0)


def _ones(masks, boxes, height, width, threshold):
  """Runs of ones: starts [R] and ends [R], column-major, and their mask [R]."""
  y1, x1, y2, x2 = boxes.T
  threshold = np.float32(threshold)
  # Every column is outside beyond its first and its last cell.
  outside = threshold - 1
  owner, column, cells = _columns(masks, x1, x2, width, outside)
  num_rows = cells.shape[1] - 2
  cells = cells.reshape(-1)
  inside = cells >= threshold
  edges = np.flatnonzero(inside[1:] != inside[:-1])
  # Where the line between two cells crosses: in cells, then in rows of pixels.
  index, cell = np.divmod(edges, num_rows + 2)
  before, after = cells[edges].astype(np.float64), cells[edges + 1]
  crossing = cell - 1 + (threshold - before) / (after - before)
  owner, column = owner[index], column[index]
  row = (crossing + 0.5) * ((y2 - y1) / num_rows)[owner] + (y1 - 0.5)[owner]
  # A run has the rows from one crossing to the next, both included; rows beyond
  # the centre of an outer cell are as that cell.
  row[::2] = np.where(crossing[::2] > 0, np.ceil(row[::2]), 0)
  row[1::2] = np.where(
      crossing[1::2] < num_rows - 1, np.floor(row[1::2]) + 1, height)
  first, end = _inside(y1, y2, height)
  row = np.clip(row, first[owner], end[owner]).astype(int) + column * height
  return _joined(row[::2], row[1::2], owner[::2])


def _columns(masks, low, high, width, outside):
  """Interpolates masks [N, M, M] at the columns of pixels in their boxes.

  These reach from `low` to `high` [N] in x; the value `outside` comes before
  the first row of cells and after the last.

  Returns:
    mask of each column [C], its x [C] and its cells [C, M + 2] float32, one
    box after the other.
  """
  num_rows, num_columns = masks.shape[1:]
  first, end = _inside(low, high, width)
  count = end - first
  owner = np.repeat(np.arange(len(masks)), count)
  column = np.arange(owner.size) + (first - np.cumsum(count) + count)[owner]
  x = (column + 0.5 - low[owner]) / (high - low)[owner] * num_columns - 0.5
  x = np.clip(x, 0, num_columns - 1)
  left = x.astype(int)
  right = np.minimum(left + 1, num_columns - 1)
  weight = (x - left).astype(np.float32)[:, None]
  cells = np.pad(masks.transpose(0, 2, 1), [(0, 0), (0, 0), (1, 1)],
                 constant_values=outside).reshape(-1, num_rows + 2)
  left, right = (cells[owner * num_columns + side] for side in (left, right))
  right -= left
  right *= weight
  right += left
  return owner, column, right


def _inside(low, high, size):
  """First pixel with its centre in [low, high), and the first one after."""
  return np.clip(np.ceil([low - 0.5, high - 0.5]), 0, size).astype(int)


def _joined(starts, ends, owner):
  """Runs without the empty ones, those that touch as one."""
  seen = ends > starts
  starts, ends, owner = starts[seen], ends[seen], owner[seen]
  # From the bottom of a column to the top of the next one.
  apart = np.ones(len(owner) + 1, bool)
  apart[1:-1] = (starts[1:] != ends[:-1]) | (owner[1:] != owner[:-1])
  return starts[apart[:-1]], ends[apart[1:]], owner[apart[:-1]]


def _counts(starts, ends, owner, num_masks, size):
  """Run lengths of each mask, zeros first: a list of [C]."""
  # The edges of each mask, then the end of the image.
  num_edges = 2 * np.bincount(owner, minlength=num_masks)
  last = np.cumsum(num_edges + 1) - 1
  edges = np.full(last[-1] + 1, size)
  edges[np.arange(2 * owner.size) + np.repeat(owner, 2)] = np.stack(
      [starts, ends], axis=1).reshape(-1)
  counts = np.diff(edges, prepend=0)
  counts[last[:-1] + 1] = edges[last[:-1] + 1]
  counts = np.split(counts, last[:-1] + 1)
  return [runs if runs[-1] else runs[:-1] for runs in counts]
