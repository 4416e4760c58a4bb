"""Seams: one detection per object, whatever a model makes of its parts."""

import cv2
import numpy as np
import pytest

from panet_tf.inference.suite import seams
from panet_tf.inference.suite import tiles
from panet_tf.structures import box_masks
from panet_tf.structures import detections
from panet_tf.structures import mask_windows

_SIZE = (180, 260)
_TILES = tiles.tile_boxes(*_SIZE, 64, 24)  # 1 pixel is near an edge.


def _found(masks, scores, classes):
  """Detections of a tile from masks [N, H, W] bool."""
  order = np.argsort(-np.asarray(scores), kind='stable')
  windows = mask_windows.of_images(masks[order]).windows()
  return detections.Detections(
      windows.bounds().astype(np.float32), np.float32(scores)[order],
      np.int32(classes)[order], masks.shape[1:], windows)


def _merged(of_tile):
  """Merges what `of_tile` gives for each tile."""
  return seams.merge(
      [tiles.in_image(of_tile(tile), tile, _SIZE) for tile in _TILES], _TILES)


def _iou(masks, others):
  """[N, M] of masks [N, H, W] and [M, H, W], in all pixels."""
  a, b = (m.reshape(len(m), -1).astype(np.float32) for m in (masks, others))
  shared = a @ b.T
  return shared / (a.sum(1)[:, None] + b.sum(1) - shared)


def _nuclei(rng):
  """Masks [N, H, W] on a grid, some touching, and one longer than two tiles."""
  masks = []
  for y in range(8, 150, 17):
    for x in range(8, 250, 17):
      mask = np.zeros(_SIZE, np.uint8)
      cv2.ellipse(mask, (x, y), tuple(rng.integers(5, 9, 2).tolist()),
                  0, 0, 360, 1, -1)
      masks.append(mask > 0)
  masks.append(np.zeros(_SIZE, bool))
  masks[-1][160:176, 10:250] = True
  return np.array(masks)


def _errs(objects, classes, rng):
  """`of_tile` of a model that misses slivers and draws masks badly."""
  def of_tile(tile):
    y1, x1, y2, x2 = tile
    masks = objects[:, y1:y2, x1:x2]
    shares = masks.sum((1, 2)) / objects.sum((1, 2))
    seen = (shares > 0) & ((shares > 0.6) | (rng.random(len(masks)) < 0.5))
    seen[-1] = shares[-1] > 0
    changes = cv2.dilate, cv2.erode, lambda mask, _: mask
    masks = [rng.choice(changes)(mask, np.ones([3, 3], np.uint8)) > 0
             for mask in masks[seen].astype(np.uint8)]
    return _found(np.reshape(masks, [-1, y2 - y1, x2 - x1]),
                  rng.integers(1, 20, len(masks)) / 20, classes[seen])
  return of_tile


@pytest.mark.parametrize('seed', range(3))
def test_a_model_that_errs_gives_every_object_once(seed):
  rng = np.random.default_rng(seed)
  objects = _nuclei(rng)
  classes = rng.integers(1, 3, len(objects))
  found = _merged(_errs(objects, classes, rng))
  iou = _iou(objects, found.masks.images())
  assert len(found) == len(objects)
  np.testing.assert_array_equal((iou > 0.5).sum(1), 1)
  np.testing.assert_array_equal(found.labels[iou.argmax(1)], classes)


def _slow_merge(of_tile):
  """The three rules of `merge` on whole images: scores, boxes and masks."""
  pieces = []
  for number, (y1, x1, y2, x2) in enumerate(_TILES):
    found = of_tile(_TILES[number])
    for i, box in enumerate(found.boxes):
      mask = np.zeros(_SIZE, bool)
      mask[y1:y2, x1:x2] = found.masks[[i]].images()[0]
      pieces.append((number, box + [y1, x1, y1, x1], mask, found.scores[i],
                     found.labels[i]))
  pieces = [piece for piece in pieces if piece[2].any()]

  def uncut(box, tile):
    return all(
        (tile[a] == 0 or box[a] >= tile[a] + 1)
        and (tile[a + 2] == _SIZE[a] or box[a + 2] <= tile[a + 2] - 1)
        for a in (0, 1))

  cut = [not uncut(piece[1], _TILES[piece[0]]) for piece in pieces]
  keep = [not (c and any(uncut(piece[1], tile) for tile in _TILES))
          for c, piece in zip(cut, pieces, strict=False)]
  cut = [c for c, k in zip(cut, keep, strict=False) if k]
  pieces = [piece for piece, k in zip(pieces, keep, strict=False) if k]
  agree, same = {}, set()
  for i, (tile, _, mask, _, label) in enumerate(pieces):
    for j, (other, _, theirs, _, their_label) in enumerate(pieces[:i]):
      if tile == other or label != their_label:
        continue
      both = np.ones(_SIZE, bool)
      for y1, x1, y2, x2 in _TILES[[tile, other]]:
        inside = np.zeros(_SIZE, bool)
        inside[y1:y2, x1:x2] = True
        both &= inside
      shared = (mask & theirs).sum()
      if shared and shared >= min(mask.sum(), theirs.sum()) / 2:
        same |= {(i, j), (j, i)}
      if shared and cut[i] and cut[j]:
        agree[j, i] = shared / ((mask | theirs) & both).sum()
  groups = [{i} for i in range(len(pieces))]
  for i, j in sorted(agree, key=lambda pair: (-agree[pair], pair)):
    one, = (group for group in groups if i in group)
    two, = (group for group in groups if j in group)
    of = [{pieces[k][0] for k in group} for group in (one, two)]
    if agree[i, j] >= 0.5 and one is not two and not of[0] & of[1]:
      groups = [g for g in groups if g not in (one, two)] + [one | two]

  def best(group):
    return max(pieces[k][3] for k in group)

  kept = []
  for group in sorted(groups, key=lambda group: (-best(group), min(group))):
    if not any((i, j) in same for i in group for other in kept for j in other):
      kept.append(group)
  masks = [np.any([pieces[k][2] for k in group], 0) for group in kept]
  return [best(group) for group in kept], np.reshape(masks, [-1, *_SIZE])


@pytest.mark.parametrize('seed', range(3))
def test_merging_is_its_three_rules(seed):
  rng = np.random.default_rng(seed)
  # Overlapping one another, of any size.
  low = rng.integers(0, [150, 220], [45, 2])
  high = low + rng.integers(4, 70, [45, 2])
  objects = np.array([_at(slice(a, c), slice(b, d))
                      for (a, b), (c, d) in zip(low, high, strict=False)])
  of_tile = _errs(objects, np.ones(45, int), rng)
  given = {tuple(tile): of_tile(tile) for tile in _TILES}
  found = _merged(lambda tile: given[tuple(tile)])
  scores, masks = _slow_merge(lambda tile: given[tuple(tile)])
  np.testing.assert_array_equal(found.scores, scores)
  np.testing.assert_array_equal(found.masks.images(), masks)


def _at(*slices):
  mask = np.zeros(_SIZE, bool)
  mask[slices] = True
  return mask


def _sees(objects, scores=None):
  """`of_tile` of a model that sees all parts of the objects."""
  def of_tile(tile):
    y1, x1, y2, x2 = tile
    masks = objects[:, y1:y2, x1:x2]
    seen = masks.any((1, 2))
    given = np.full(len(masks), 0.9) if scores is None else scores(tile)
    return _found(masks[seen], given[seen], np.ones(seen.sum(), int))
  return of_tile


def test_two_that_touch_along_all_tiles_stay_two():
  objects = np.array([_at(slice(80, 96), slice(5, 255)),
                      _at(slice(96, 120), slice(5, 255))])
  found = _merged(_sees(objects))
  np.testing.assert_array_equal(found.masks.images(), objects)


def test_a_joined_object_has_the_best_score_and_all_of_the_box():
  objects = _at(slice(20, 150), slice(30, 230))[np.newaxis]
  best = _TILES[7, 0] + _TILES[7, 1]
  found = _merged(_sees(objects, lambda tile: np.float32(
      [0.8 if tile[0] + tile[1] == best else 0.3])))
  np.testing.assert_array_equal(found.masks.images(), objects)
  np.testing.assert_array_equal(found.boxes, [[20, 30, 150, 230]])
  np.testing.assert_array_equal(found.scores, np.float32([0.8]))


def test_two_of_one_tile_are_not_joined_through_a_third():
  # The second tile takes for one what the first and the third see as two.
  two = np.array([_at(slice(70, 90), slice(0, 260)),
                  _at(slice(90, 100), slice(0, 260))])
  columns = np.unique(_TILES[:, 1])
  found = _merged(lambda tile: _sees(
      two.any(0, keepdims=True) if tile[1] == columns[1] else two)(tile))
  images = found.masks.images()
  for row in (75, 95):
    assert (images[:, row, 5].sum(), images[:, row, 250].sum()) == (1, 1)
  assert not (images[:, 75, 5] & images[:, 95, 5]).any()


def test_what_only_one_tile_finds_is_kept():
  mask = _at(slice(45, 55), slice(45, 55))[np.newaxis]
  for chosen in range(len(_TILES)):
    y1, x1, y2, x2 = _TILES[chosen]
    whole = mask[0, y1:y2, x1:x2].sum() == mask.sum()
    margin = min(y2 - 55, x2 - 55) >= 1
    found = _merged(lambda tile, own=_TILES[chosen]: _sees(
        mask if (tile == own).all() else mask[:0])(tile))
    assert len(found) == (whole and margin)


def test_masks_without_pixels_are_left_out():
  boxes = np.float32([[1, 2, 3, 4], [5, 5, 8, 8]])
  found = tiles.in_image(detections.Detections(
      boxes, np.float32([0.9, 0.8]), np.int32([1, 2]), (64, 64),
      box_masks.BoxMasks([np.zeros([7, 7]), np.ones([7, 7])], boxes, (64, 64))),
                         np.array([100, 200, 164, 264]), (300, 400))
  assert found.labels.tolist() == [2] and found.image_size == (300, 400)
  for box in (found.boxes, found.masks.bounds()):
    np.testing.assert_array_equal(box, [[105, 205, 108, 208]])
