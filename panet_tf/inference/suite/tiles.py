"""Tiled inference, for images far larger than the input of a network.

Overlapping tiles are predicted one after the other and merged in `seams`: what
is in memory beside the image is a batch of tiles, and the objects found.
"""

import dataclasses

import numpy as np
import tqdm

from panet_tf import errors
from panet_tf.inference import detector as detector_lib
from panet_tf.inference.suite import seams
from panet_tf.structures import detections
from panet_tf.structures import mask_windows

_SHOW_PROGRESS_FROM = 32  # Tiles.


class TiledDetector(detector_lib.Detector):
  """A detector that sees a large image tile by tile.

  The detector resizes each tile to its input as it does any image: a tile as
  large as the images of its training has their scale, a larger one shows
  smaller objects. It gives up to its own count of detections (mostly 100) for
  each tile; the image has no such limit.

  An object smaller than the overlap (less 1/32 of the tile) lies whole in some
  tile and is taken from there. The pieces of a larger one are joined where they
  agree in the overlap; an overlap of 0 joins nothing.
  """

  def __init__(self, detector: detector_lib.Detector, tile: int, overlap: int,
               batch_size: int = 1):
    """Wraps a detector.

    Args:
      detector: any.
      tile: its height and width, pixels of the image.
      overlap: the least that neighbours have in common, pixels; InputError if
        it is above half a tile.
      batch_size: tiles at a time.
    """
    if tile < 1:
      raise errors.InputError(f'--tile is {tile}; it must be 1 or more')
    if not 0 <= overlap <= tile // 2:
      raise errors.InputError(
          f'--overlap is {overlap}; it must be 0 to {tile // 2}, half of '
          f'--tile {tile}')
    self.categories = detector.categories
    self._detector, self._tile = detector, tile
    self._overlap, self._batch_size = overlap, batch_size

  def _detect(self, image):
    height, width = image.shape[:2]
    if max(height, width) <= self._tile:
      return self._detector.detect(image)
    tiles = tile_boxes(height, width, self._tile, self._overlap)
    found = []
    with tqdm.tqdm(total=len(tiles), unit='tile', mininterval=1.0, leave=False,
                   disable=len(tiles) < _SHOW_PROGRESS_FROM) as progress:
      for i in range(0, len(tiles), self._batch_size):
        batch = tiles[i:i + self._batch_size]
        each = self._detector.detect_many(
            [image[y1:y2, x1:x2] for y1, x1, y2, x2 in batch])
        found += [in_image(one, tile, (height, width))
                  for one, tile in zip(each, batch, strict=True)]
        progress.update(len(batch))
    return seams.merge(found, tiles)


def tile_boxes(height: int, width: int, tile: int, overlap: int) -> np.ndarray:
  """Tiles that cover an image, all of one size.

  They are `tile - overlap` apart, the last of a row or column less: what is
  found in the overlaps agrees best where that is a multiple of the network's
  coarsest stride.

  Args:
    height: of the image, pixels, as the next three.
    width: of the image.
    tile: height and width of a tile; the image's own where that is less.
    overlap: the least that neighbours share, up to tile / 2.

  Returns:
    [T, 4] int64, yxyx, row by row.
  """
  y, x = (_starts(size, tile, overlap) for size in (height, width))
  corners = np.stack(np.meshgrid(y, x, indexing='ij'), -1).reshape(-1, 2)
  return np.concatenate(
      [corners, corners + np.minimum([height, width], tile)], 1)


def _starts(size, tile, overlap):
  """First pixels of the tiles along one side of an image."""
  last = max(size - tile, 0)
  return np.append(np.arange(0, last, tile - overlap), last)


def in_image(found: detections.Detections, tile: np.ndarray,
             image_size: tuple[int, int]) -> detections.Detections:
  """Detections of a tile, [4] int yxyx, in coordinates of the image.

  Masks become `MaskWindows`, those without a pixel are left out; boxes float64.
  """
  masks, corner = None, np.asarray(tile[:2])
  if found.masks is not None:
    windows = found.masks.windows().tightened()
    seen = windows.areas() > 0
    found, windows = found[seen], windows[seen]
    # Copies: a view would keep the tile's whole masks in memory.
    masks = mask_windows.MaskWindows(
        windows.corners + corner, [crop.copy() for crop in windows.crops],
        image_size)
  return dataclasses.replace(
      found, boxes=found.boxes.astype(np.float64) + np.tile(corner, 2),
      masks=masks, image_size=image_size)
