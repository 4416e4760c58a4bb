"""From detections of overlapping tiles to those of the image, each once.

A piece is one detection of one tile. Two of one tile are two objects: the model
has suppressed what it found twice. Of two tiles, the pieces of one object agree
where both tiles see it, which is all that is compared here.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from panet_tf.structures import detections
from panet_tf.structures import mask_windows

Detections = detections.Detections

# Of a tile's side: a model's boxes end this near to an edge that cuts them.
_MARGIN = 1 / 64
# IoU of two pieces in the overlap of their tiles that makes them one object.
_JOIN_IOU = 0.5
# From here on two pieces are one object: shared part of the smaller of two
# masks; IoU of boxes.
_MAX_SHARED = 0.5


def merge(found: Sequence[Detections], tiles: np.ndarray) -> Detections:
  """Detections of an image from those of its tiles.

  1. A piece that an inner edge of its tile may have cut is dropped where
     another tile has it away from its edges.
  2. Of those still cut, ones of a class that agree in the overlap of their
     tiles (IoU) are joined, best agreement first, never two of one tile.
  3. Best score first, what shares half of the smaller of two with a better one
     of its class from another tile is dropped.

  Args:
    found: of each tile, best score first; boxes float64 and in coordinates of
      the image, as masks, which are `MaskWindows`.
    tiles: [T, 4] int, yxyx in the image: all pairs of some rows and columns.

  Returns:
    Detections, best score first, with `MaskWindows` for masks. A joined one has
    the union of the masks and boxes and the best of the scores. Of one score,
    the one of the earlier tile comes first.
  """
  pieces = Detections.concatenate(found)
  of_tile = np.repeat(np.arange(len(found)), [len(one) for one in found])
  cut, elsewhere = _cut(pieces, of_tile, tiles)
  keep = ~(cut & elsewhere)
  pieces, of_tile, cut = pieces[keep], of_tile[keep], cut[keep]
  joins, doubles = _compare(pieces, of_tile, cut, tiles)
  groups = _suppress(_join(joins, of_tile), doubles, pieces.scores)
  return _united(groups, pieces)


def _cut(pieces, of_tile, tiles):
  """Which pieces [N] touch an inner edge, and which some tile has uncut."""
  own, anywhere = [], []
  for axis, size in enumerate(pieces.image_size):
    ranges, index = np.unique(tiles[:, axis::2], axis=0, return_inverse=True)
    low, high = ranges.T
    margin = max(1, (high[0] - low[0]) * _MARGIN)
    low = np.where(low > 0, low + margin, -np.inf)
    high = np.where(high < size, high - margin, np.inf)
    inside = ((pieces.boxes[:, axis, np.newaxis] >= low)
              & (pieces.boxes[:, axis + 2, np.newaxis] <= high))
    own.append(inside[np.arange(len(inside)), index[of_tile]])
    anywhere.append(inside.any(1))
  return ~(own[0] & own[1]), anywhere[0] & anywhere[1]


def _overlapping(tiles) -> Iterator[tuple[int, np.intp]]:
  """Pairs of tiles that have pixels in common."""
  for first, tile in enumerate(tiles):
    rest = tiles[first + 1:]
    touch = (np.minimum(rest[:, 2:], tile[2:])
             > np.maximum(rest[:, :2], tile[:2])).all(1)
    for second in np.flatnonzero(touch) + first + 1:
      yield first, second


def _compare(pieces, of_tile, cut, tiles):
  """Looks at all pairs of pieces of one class that meet in two tiles.

  Gives (-IoU in the overlap of the tiles, i, j) of cut pieces that agree, and
  (i, j) of pieces of which one has much of the other.
  """
  windows = pieces.boxes if pieces.masks is None else pieces.masks.extents()
  ends = np.searchsorted(of_tile, np.arange(len(tiles) + 1))
  joins, doubles = [], []
  for pair in _overlapping(tiles):
    first, second = (np.arange(ends[t], ends[t + 1]) for t in pair)
    low = np.maximum(windows[first][:, np.newaxis, :2], windows[second][:, :2])
    high = np.minimum(windows[first][:, np.newaxis, 2:], windows[second][:, 2:])
    meet = (low < high).all(2) & (
        pieces.labels[first][:, np.newaxis] == pieces.labels[second])
    overlap = _intersection(*tiles[list(pair)])
    for row, column in zip(*np.nonzero(meet), strict=True):
      i, j = first[row], second[column]
      shared = _area(pieces, [i, j], windows, overlap)
      if not shared:
        continue
      areas = [_area(pieces, [k], windows) for k in (i, j)]
      # A box may well lie in one of another object, a mask may not.
      if shared >= _MAX_SHARED * (
          min(areas) if pieces.masks is not None else sum(areas) - shared):
        doubles.append((i, j))
      if cut[i] and cut[j]:
        seen = sum(_area(pieces, [k], windows, overlap) for k in (i, j))
        if shared >= _JOIN_IOU * (seen - shared):
          joins.append((-shared / (seen - shared), i, j))
  return joins, doubles


def _intersection(*windows):
  """What windows [4] have in common; low above high for nothing."""
  windows = np.asarray(windows)
  return np.concatenate([windows[:, :2].max(0), windows[:, 2:].min(0)])


def _area(pieces, indices, windows, *limits):
  """Pixels that all pieces have in common, within all limits [4]."""
  window = _intersection(*windows[indices], *limits)
  if (window[:2] >= window[2:]).any():
    return 0
  if pieces.masks is None:
    return (window[2:] - window[:2]).prod()
  return np.count_nonzero(np.logical_and.reduce(
      [pieces.masks.cut(index, window) for index in indices]))


def _join(joins, tiles) -> list[list[int]]:
  """Groups of pieces, at most one of each tile."""
  group_of = {i: [i] for i in range(len(tiles))}
  for _, i, j in sorted(joins):
    one, other = group_of[i], group_of[j]
    if not {tiles[k] for k in one} & {tiles[k] for k in other}:
      one += other
      group_of.update((k, one) for k in other)
  return [sorted(group) for i, group in group_of.items() if i == min(group)]


def _suppress(groups, doubles, scores) -> list[list[int]]:
  """Groups without the worse of doubles, best score first."""
  rivals = {}
  for i, j in doubles:
    rivals.setdefault(i, []).append(j)
    rivals.setdefault(j, []).append(i)
  best = [-max(scores[group]) for group in groups]
  kept, order = set(), []
  for number in np.argsort(best, kind='stable'):
    group = groups[number]
    if kept.isdisjoint(rival for i in group for rival in rivals.get(i, ())):
      kept.update(group)
      order.append(group)
  return order


def _united(groups, pieces) -> Detections:
  first = [group[0] for group in groups]
  boxes = [[*pieces.boxes[group, :2].min(0), *pieces.boxes[group, 2:].max(0)]
           for group in groups]
  masks = pieces.masks and mask_windows.MaskWindows.concatenate(
      [pieces.masks[:0], *(_union(pieces.masks[group]) for group in groups)])
  return Detections(
      np.reshape(boxes, [-1, 4]).astype(np.float32),
      np.array([pieces.scores[group].max() for group in groups], np.float32),
      pieces.labels[first].astype(np.int32), pieces.image_size, masks)


def _union(masks):
  """One mask of several."""
  if len(masks) == 1:
    return masks
  extents = masks.extents()
  low = extents[:, :2].min(0)
  crop = np.zeros(extents[:, 2:].max(0) - low, bool)
  for (y1, x1, y2, x2), one in zip(
      extents - np.tile(low, 2), masks.crops, strict=True):
    crop[y1:y2, x1:x2] |= one
  return mask_windows.MaskWindows([low], [crop], masks.image_size)
