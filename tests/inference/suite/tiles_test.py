"""Tiles: an image in parts gives what it gives as a whole."""

import cv2
import numpy as np
import pytest

from panet_tf import errors
from panet_tf.inference import detector as detector_lib
from panet_tf.inference.suite import tiles
from panet_tf.structures import detections
from panet_tf.structures import mask_windows

_TILE, _OVERLAP = 64, 24


class _Painted(detector_lib.Detector):
  """Sees what `_paint` painted: pixels hold their object's id and class."""
  categories = [{'label': label, 'id': label, 'name': str(label)}
                for label in (1, 2)]

  def __init__(self, kind='windows'):
    self.kind, self.shapes = kind, []

  def _detect(self, image):
    self.shapes.append(image.shape)
    number = image[..., 0].astype(int) * 256 + image[..., 1]
    ids = np.unique(number[number > 0])
    # Few scores, so that many are equal.
    scores = np.float32([0.5 + i % 4 / 10 for i in ids])
    ids = ids[np.argsort(-scores, kind='stable')]
    masks = number == ids[:, np.newaxis, np.newaxis]
    windows = mask_windows.of_images(masks)
    whole = mask_windows.MaskWindows(
        np.zeros([len(masks), 2]), list(masks), image.shape[:2])
    classes = [image[mask][0, 2] for mask in masks]
    return detections.Detections(
        windows.bounds().astype(np.float32), -np.sort(-scores),
        np.array(classes, np.int32), image.shape[:2],
        {'windows': windows, 'images': whole, 'boxes': None}[self.kind])


def _paint(image, number, centre, axes, angle=0):
  cv2.ellipse(image, centre, axes, angle, 0, 360,
              (number // 256, number % 256, number % 2 + 1), -1)


def _scene(seed, height=230, width=310, count=60):
  """Ellipses from 3 to 200 pixels long, the large ones over the others."""
  rng = np.random.default_rng(seed)
  image = np.zeros([height, width, 3], np.uint8)
  for number in range(3, 3 + count):
    _paint(image, number, tuple(rng.integers(0, [width, height]).tolist()),
           tuple(rng.integers(1, 9, 2).tolist()), int(rng.integers(180)))
  # Not hidden: the parts of one in two would be two objects of a tile.
  _paint(image, 1, (150, 120), (100, 14), 20)
  _paint(image, 2, (60, 60), (35, 30))
  return image


def _rows(found):
  """Detections that can be compared, in an order of their own."""
  rles = [{'counts': ''}] * len(found)
  if found.masks is not None:
    rles = found.masks.rles()
  return sorted(
      (float(score), int(label), box.tolist(), rle['counts'])
      for score, label, box, rle in zip(
          found.scores, found.labels, found.boxes, rles, strict=True))


@pytest.mark.parametrize('kind', ['windows', 'images'])
@pytest.mark.parametrize('seed', range(6))
def test_objects_of_any_size_are_those_of_the_whole_image(kind, seed):
  image = _scene(seed)
  whole = _Painted(kind).detect(image)
  found = tiles.TiledDetector(_Painted(kind), _TILE, _OVERLAP).detect(image)
  assert _rows(found) == _rows(whole)
  assert (np.diff(found.scores) <= 0).all()
  assert [found.boxes.dtype, found.scores.dtype, found.labels.dtype] == [
      np.float32, np.float32, np.int32]


@pytest.mark.parametrize('kind', ['windows', 'boxes'])
def test_every_offset_to_the_seams_gives_one_object(kind):
  # From corners of four tiles to the middle of one, two sizes, two that touch.
  for offset in range(0, 80, 3):
    image = np.zeros([200, 200, 3], np.uint8)
    place = slice(20 + offset, 30 + offset)
    image[place, place] = 0, 2, 1
    image[place, 30 + offset:40 + offset] = 0, 4, 1  # Of the same class.
    image[40 + offset:110 + offset, place] = 0, 6, 1  # Longer than a tile.
    whole = _Painted(kind).detect(image)
    found = tiles.TiledDetector(_Painted(kind), _TILE, _OVERLAP).detect(image)
    assert len(found) == 3
    assert _rows(found) == _rows(whole)


@pytest.mark.parametrize('kind', ['windows', 'boxes'])
def test_one_mostly_in_the_box_of_another_is_another(kind):
  # The long one is whole in the second tile only, the other in the first.
  for offset in (21, 22):
    image = np.zeros([200, 200, 3], np.uint8)
    cv2.line(image, (20 + offset, 20), (79 + offset, 39), (0, 2, 1))
    image[34:42, 18 + offset:26 + offset] = 0, 4, 1
    found = tiles.TiledDetector(_Painted(kind), _TILE, _OVERLAP).detect(image)
    assert _rows(found) == _rows(
        _Painted(kind).detect(image))
    assert len(found) == 2


def test_the_order_is_the_same_in_batches_and_again():
  image = _scene(7)
  first, *others = (
      tiles.TiledDetector(_Painted(), _TILE, _OVERLAP, size).detect(image)
      for size in (1, 1, 3, 100))
  for other in others:
    for name in ('scores', 'labels', 'boxes'):
      np.testing.assert_array_equal(
          getattr(other, name), getattr(first, name))
    assert other.masks.rles() == first.masks.rles()


@pytest.mark.parametrize('shape', [(64, 64), (10, 64), (1, 1)])
def test_an_image_no_larger_than_a_tile_is_the_detectors_own(shape):
  detector = _Painted('images')
  image = _scene(8)[:shape[0], :shape[1]]
  found = tiles.TiledDetector(detector, _TILE, _OVERLAP).detect(image)
  assert isinstance(found.masks, mask_windows.MaskWindows)
  assert found.image_size == shape
  assert _rows(found) == _rows(detector.detect(image))
  assert detector.shapes == [(*shape, 3)] * 2


def test_an_empty_image_has_no_detections():
  for kind in ('windows', 'boxes'):
    found = tiles.TiledDetector(_Painted(kind), _TILE, _OVERLAP).detect(
        np.zeros([100, 300, 3], np.uint8))
    assert found.boxes.shape == (0, 4)
    assert (found.masks is not None) == (kind == 'windows')


def test_memory_is_that_of_the_objects():
  # Masks as images of the tile must not be kept.
  image = np.zeros([400, 400, 3], np.uint8)
  for number, y in enumerate(range(10, 400, 40), 1):
    image[y:y + 4, 10:390] = 0, number, 1
    image[y + 20:y + 24, 10:14] = 1, number, 1
  found = tiles.TiledDetector(_Painted('images'), _TILE, _OVERLAP).detect(image)
  assert len(found) == 20
  for crop in found.masks.crops:
    assert crop.all() and (crop.base is None or crop.base.size == crop.size)


def test_categories_are_the_detectors():
  assert tiles.TiledDetector(_Painted(), 9, 2).categories == (
      _Painted.categories)


@pytest.mark.parametrize('tile, overlap, text', [
    (0, 0, '--tile is 0; it must be 1 or more'),
    (-5, 0, '--tile is -5'),
    (64, -1, '--overlap is -1; it must be 0 to 32, half of --tile 64'),
    (64, 33, '--overlap is 33; it must be 0 to 32'),
    (1, 1, '--overlap is 1; it must be 0 to 0')])
def test_numbers_out_of_range_are_named(tile, overlap, text):
  with pytest.raises(errors.InputError, match=text):
    tiles.TiledDetector(_Painted(), tile, overlap)


def test_tiles_cover_every_pixel_and_share_what_they_should():
  rng = np.random.default_rng(9)
  for _ in range(300):
    height, width, tile = rng.integers(1, 70, 3).tolist()
    overlap = int(rng.integers(0, tile // 2 + 1))
    boxes = tiles.tile_boxes(height, width, tile, overlap)
    seen = np.zeros([height, width], bool)
    for y1, x1, y2, x2 in boxes:
      assert 0 <= y1 and y2 <= height and 0 <= x1 and x2 <= width
      assert (y2 - y1, x2 - x1) == (min(tile, height), min(tile, width))
      seen[y1:y2, x1:x2] = True
    assert seen.all() and len(np.unique(boxes, axis=0)) == len(boxes)
    for axis, size in enumerate((height, width)):
      starts = np.unique(boxes[:, axis])
      assert (np.diff(starts) <= tile - overlap).all()
      # No more of them than it takes.
      assert len(starts) == 1 or (
          (len(starts) - 2) * (tile - overlap) + tile < size)
