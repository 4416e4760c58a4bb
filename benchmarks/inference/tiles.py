"""Tiled prediction of a large mosaic against prediction of each of its images.

  python -m benchmarks.inference.tiles --model=runs/nuclei --images=nuclei/val \
      --cell=256 --side=12000 --tile=256 --overlap=64

The mosaic is made of all images of cell x cell pixels: a block of each and its
mirror images, so that nuclei go on over the borders; what is left at its right
and its bottom is black. Each image on its own is the reference. A nucleus at
the border of an image ends there in the reference, but not in the mosaic: those
are counted apart. So are doubles: a model gives some in one tile.
"""

import argparse
import dataclasses
import re
import time

import numpy as np

from panet_tf.configs import overrides
from panet_tf.data import image_bytes
from panet_tf.inference import detector as detector_lib
from panet_tf.inference import open_model
from panet_tf.inference.suite import tiles
from panet_tf.prediction import image_files
from panet_tf.structures import detections
from panet_tf.structures import mask_windows

_NEAR_BORDER = 2  # Pixels.


def _peak_mib():
  with open('/proc/self/status', encoding='ascii') as status:
    return int(re.search(r'VmHWM:\s*(\d+)', status.read())[1]) / 1024


def _variants(folder, cell):
  """Each image of the size and its three mirror images, [N, cell, cell, 3]."""
  images = (image_bytes.read_rgb(path)
            for path in image_files.image_paths(folder))
  square = [image for image in images if image.shape == (cell, cell, 3)]
  return np.array([image[::y, ::x] for image in square
                   for y in (1, -1) for x in (1, -1)])


def _mosaic(variants, side, block):
  """The mosaic, and which variant lies at each place [rows, columns]."""
  cell = variants.shape[1]
  row, column = np.indices([side // cell] * 2)
  number = row // block * -(-len(row) // block) + column // block
  layout = number % (len(variants) // 4) * 4 + row % 2 * 2 + column % 2
  mosaic = np.zeros([side, side, 3], np.uint8)
  for (row, column), variant in np.ndenumerate(layout):
    mosaic[row * cell:(row + 1) * cell,
           column * cell:(column + 1) * cell] = variants[variant]
  return mosaic, layout


def _reference(detector, variants, layout, score):
  """Predicts each image on its own: detections of the mosaic, which are inner.
  """
  cell = variants.shape[1]
  size = tuple(cell * edge for edge in layout.shape)
  each = {variant: detector.detect(variants[variant], score)
          for variant in np.unique(layout)}
  parts, inner = [], []
  for (row, column), variant in np.ndenumerate(layout):
    # Also those whose mask has no pixel, which `tiles.in_image` leaves out.
    masks = each[variant].masks.windows().tightened()
    bounds, corner = masks.bounds(), np.array([row, column]) * cell
    inner.append((bounds[:, :2].min(1, initial=cell) >= _NEAR_BORDER)
                 & (bounds[:, 2:].max(1, initial=0) <= cell - _NEAR_BORDER))
    parts.append(dataclasses.replace(
        each[variant], image_size=size, masks=mask_windows.MaskWindows(
            masks.corners + corner, masks.crops, size)))
  return detections.Detections.concatenate(parts), np.concatenate(inner)


def _pairs(one, other, cell):
  """(IoU, share of the smaller, i, j) of masks of one class that meet."""
  areas = one.masks.areas(), other.masks.areas()
  bounds = [found.masks.bounds().astype(int) for found in (one, other)]
  places = {}
  for j, (y1, x1, y2, x2) in enumerate(bounds[1]):
    for row in range(y1 // cell, -(-y2 // cell)):
      for column in range(x1 // cell, -(-x2 // cell)):
        places.setdefault((row, column), []).append(j)
  pairs = []
  for i, (y1, x1, y2, x2) in enumerate(bounds[0]):
    near = {j for row in range(y1 // cell, -(-y2 // cell))
            for column in range(x1 // cell, -(-x2 // cell))
            for j in places.get((row, column), ())}
    near = np.array(sorted(near), int)
    theirs = bounds[1][near]
    near = near[(np.minimum(theirs[:, 2:], [y2, x2])
                 > np.maximum(theirs[:, :2], [y1, x1])).all(1)]
    for j in near:
      if one.labels[i] != other.labels[j]:
        continue
      both = np.concatenate([
          np.maximum(bounds[0][i, :2], bounds[1][j, :2]),
          np.minimum(bounds[0][i, 2:], bounds[1][j, 2:])])
      shared = np.count_nonzero(
          one.masks.cut(i, both) & other.masks.cut(j, both))
      if shared:
        mine, yours = areas[0][i], areas[1][j]
        pairs.append((shared / (mine + yours - shared),
                      shared / min(mine, yours), i, j))
  return pairs


def _found(reference, tiled, cell):
  """Which of the reference [N] has a tiled one to itself, mask IoU >= 0.5."""
  taken, found = set(), np.zeros(len(reference), bool)
  for iou, _, i, j in sorted(_pairs(reference, tiled, cell), reverse=True):
    if iou >= 0.5 and not found[i] and j not in taken:
      taken.add(j)
      found[i] = True
  return found


def _doubles(found, cell, sources=None):
  """Counts pairs above IoU 0.5, and above 0.7 of the smaller of the two.

  With the tiles that each is of, also those of no common one.
  """
  pairs = [pair for pair in _pairs(found, found, cell) if pair[2] < pair[3]]
  counts = []
  for column, least in ((0, 0.5), (1, 0.7)):
    chosen = [pair[2:] for pair in pairs if pair[column] > least]
    counts.append(str(len(chosen)))
    if sources:
      over = sum(sources[i].isdisjoint(sources[j]) for i, j in chosen)
      counts[-1] += f' ({over} not of one tile)'
  return ', '.join(counts)


class _Recorder(detector_lib.Detector):
  """Remembers the boxes of each tile."""

  def __init__(self, detector):
    self.categories, self._detector, self.boxes = (
        detector.categories, detector, [])

  def _detect(self, image):
    return self._detect_many([image])[0]

  def _detect_many(self, images):
    found = self._detector.detect_many(images)
    self.boxes += [one.boxes for one in found]
    return found

  def tiles_of(self, corners):
    """Tiles that gave a box: the box in the image -> numbers."""
    numbers = {}
    for number, (boxes, corner) in enumerate(
        zip(self.boxes, corners, strict=True)):
      shifted = boxes.astype(np.float64) + np.tile(corner, 2)
      for box in shifted.astype(np.float32).tolist():
        numbers.setdefault(tuple(box), set()).add(number)
    return numbers


def main():
  """Prints what was found."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', required=True)
  parser.add_argument('--images', required=True)
  parser.add_argument('--params_override', default='')
  parser.add_argument('--cell', type=int, default=256)
  parser.add_argument('--side', type=int, default=12000)
  parser.add_argument('--block', type=int, default=7,
                      help='rows and columns of images of one kind')
  parser.add_argument('--tile', type=int, default=256)
  parser.add_argument('--overlap', type=int, default=64)
  parser.add_argument('--batch_size', type=int, default=1)
  parser.add_argument('--score', type=float, default=0.5)
  args = parser.parse_args()
  detector = _Recorder(open_model.open_model(
      args.model,
      overrides.Overrides(params_override=args.params_override)))
  variants = _variants(args.images, args.cell)
  mosaic, layout = _mosaic(variants, args.side, args.block)
  print(f'{len(variants)} images; before: {_peak_mib():.0f} MiB', flush=True)
  start = time.perf_counter()
  found = tiles.TiledDetector(
      detector, args.tile, args.overlap, args.batch_size).detect(mosaic)
  print(f'{len(detector.boxes)} tiles: {len(found)} '
        f'detections, {time.perf_counter() - start:.0f} s, '
        f'peak {_peak_mib():.0f} MiB', flush=True)
  numbers = detector.tiles_of(tiles.tile_boxes(
      args.side, args.side, args.tile, args.overlap)[:, :2])
  del mosaic
  reference, inner = _reference(detector, variants, layout, args.score)
  print(f'reference: {len(inner)}, {inner.sum()} of them off the borders; '
        'pairs above IoU 0.5, above 0.7 of the smaller: '
        f'{_doubles(reference, args.cell)}', flush=True)
  for score in (args.score, 0.3, 0.0):
    tiled = found[found.scores >= score]
    tiled.masks = tiled.masks.tightened()
    # Empty for a joined one.
    sources = [numbers.get(tuple(box), set()) for box in tiled.boxes.tolist()]
    seen = _found(reference, tiled, args.cell)
    print(f'score >= {score}: {len(tiled)} tiled; of the reference '
          f'{seen[inner].mean():.4f} off the borders, {seen.mean():.4f} of '
          f'all; pairs {_doubles(tiled, args.cell, sources)}; '
          f'{sum(not source for source in sources)} joined',
          flush=True)


if __name__ == '__main__':
  main()
