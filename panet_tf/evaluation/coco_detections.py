"""Detections of images, small in memory and between worker processes."""

import io
import itertools
from typing import NamedTuple

import numpy as np


class Detections(NamedTuple):
  """One image's detections, in original pixels.

  Attributes:
    size: height and width.
    boxes: [N, 4] float64, yxyx.
    scores: [N] float64.
    labels: [N] int64, from 1.
    counts: N compressed RLE counts; none without masks.
  """
  size: tuple[int, int]
  boxes: np.ndarray
  scores: np.ndarray
  labels: np.ndarray
  counts: list[str]

  @property
  def rles(self):
    """N COCO RLEs; none without masks."""
    return [{'size': list(self.size), 'counts': counts}
            for counts in self.counts]


def columns(detections):
  """Arrays of several images' detections, one image after the other.

  Args:
    detections: list of Detections.

  Returns:
    sizes [I, 2], num_detections [I], boxes [N, 4], scores [N], labels [N].
  """
  join = lambda name, shape, dtype: np.concatenate(
      [np.empty(shape, dtype)] + [getattr(d, name) for d in detections])
  return {
      'sizes': np.array([d.size for d in detections], np.int64).reshape(-1, 2),
      'num_detections': np.array([len(d.boxes) for d in detections], np.int64),
      'boxes': join('boxes', (0, 4), np.float64),
      'scores': join('scores', 0, np.float64),
      'labels': join('labels', 0, np.int64)}


def pack(detections):
  """Writes detections as bytes.

  Args:
    detections: {image's place in the data set: Detections}.

  Returns:
    [S] uint8: an npz archive of plain arrays.
  """
  counts = list(itertools.chain.from_iterable(
      d.counts for d in detections.values()))
  file = io.BytesIO()
  np.savez(file, **columns(list(detections.values())),
           places=np.array(list(detections), np.int64),
           num_masks=[len(d.counts) for d in detections.values()],
           lengths=np.array([len(c) for c in counts], np.int64),
           text=np.frombuffer(''.join(counts).encode('ascii'), np.uint8))
  return np.frombuffer(file.getbuffer(), np.uint8)


def unpack(packed):
  """Reads what `pack` wrote; runs nothing that it finds there."""
  with np.load(io.BytesIO(packed), allow_pickle=False) as file:
    arrays = dict(file)
  ends = np.cumsum(arrays['lengths']).tolist()
  text = arrays['text'].tobytes().decode('ascii')
  counts = [text[i:j] for i, j in zip([0, *ends], ends)]
  masks = np.cumsum(arrays['num_masks'], dtype=int)
  split = lambda name: np.split(
      arrays[name], np.cumsum(arrays['num_detections'])[:-1])
  rows = zip(
      arrays['places'].tolist(), arrays['sizes'].tolist(), split('boxes'),
      split('scores'), split('labels'), [0, *masks.tolist()], masks.tolist())
  return {place: Detections(tuple(size), boxes, scores, labels, counts[i:j])
          for place, size, boxes, scores, labels, i, j in rows}
