"""Drawn images: what is coloured, where, and what is left alone."""

import colorsys

import numpy as np
import pytest

from panet_tf.drawing import colors
from panet_tf.drawing import labels as labels_lib
from panet_tf.drawing import pictures
from panet_tf.structures import box_masks
from panet_tf.structures import detections
from panet_tf.structures import mask_windows
from panet_tf.structures import rle_masks

_NAMES = {1: 'cell', 2: 'dog'}


def _detections(boxes, labels=None, scores=None, size=(400, 500), filled=False,
                **fields):
  """Boxes yxyx in an image of a size, if asked for with masks that fill them.
  """
  count = len(boxes)
  if filled:
    masks = np.zeros((count,) + size, bool)
    for mask, (y1, x1, y2, x2) in zip(masks, boxes, strict=True):
      mask[y1:y2, x1:x2] = True
    fields['masks'] = mask_windows.of_images(masks)
  return detections.Detections(
      np.array(boxes, np.float32).reshape(-1, 4),
      np.array(scores or [0.9] * count, np.float32),
      np.array(labels or [1] * count, np.int32), size, **fields)


def _grey(height, width):
  return np.full((height, width, 3), 100, np.uint8)


def _colors_at(drawn, boxes):
  return [tuple(drawn[(y1 + y2) // 2, (x1 + x2) // 2].tolist())
          for y1, x1, y2, x2 in boxes]


def test_a_mask_tints_its_inside_and_nothing_far_away():
  image = _grey(400, 500)
  drawn = pictures.draw_detections(
      image, _detections([[100, 100, 200, 220]], filled=True), _NAMES)
  changed = (drawn != 100).any(axis=2)
  assert drawn.shape == image.shape and drawn.dtype == np.uint8
  assert changed[100:200, 100:220].all()
  changed[70:201, 100:221] = False  # the object, and its label above
  assert not changed.any()
  assert (image == 100).all()


def test_boxes_alone_leave_their_inside():
  drawn = pictures.draw_detections(
      _grey(400, 500), _detections([[100, 100, 200, 220]]), _NAMES)
  assert (drawn[105:195, 105:215] == 100).all()
  assert (drawn[150, 100] != 100).any() and (drawn[150, 220] != 100).any()


@pytest.mark.parametrize('threshold, drawn_objects', [(0.5, 1), (0.3, 2)])
def test_only_scores_from_the_threshold_on_are_drawn(threshold, drawn_objects):
  boxes = [[100, 100, 200, 200], [250, 250, 300, 350]]
  drawn = pictures.draw_detections(
      _grey(400, 500), _detections(boxes, scores=[0.5, 0.4], filled=True),
      _NAMES, threshold)
  inside = _colors_at(drawn, boxes)
  assert sum(color != (100, 100, 100) for color in inside) == drawn_objects


@pytest.mark.parametrize('size, zoom', [
    ((64, 96), 3), ((240, 200), 3), ((256, 256), 2), ((480, 200), 2),
    ((481, 200), 1)])
def test_small_images_come_back_enlarged(size, zoom):
  drawn = pictures.draw_detections(
      _grey(*size), _detections([[10, 10, 40, 60]], size=size, filled=True),
      _NAMES)
  assert drawn.shape == (zoom * size[0], zoom * size[1], 3)
  assert (drawn[25 * zoom, 35 * zoom] != 100).any()
  assert (drawn[60 * zoom:, 80 * zoom:] == 100).all()


def test_touching_instances_differ_and_the_class_color_is_stable():
  boxes = [[100, 100 + 40 * i, 150, 140 + 40 * i] for i in range(8)]
  labels = [1] * 6 + [2] * 2
  scores = [0.9 - 0.01 * i for i in range(8)]
  drawn = pictures.draw_detections(
      _grey(400, 500), _detections(boxes, labels, scores, filled=True), _NAMES)
  colors = np.array(_colors_at(drawn, boxes), int)
  assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 15
  alone = pictures.draw_detections(
      _grey(400, 500),
      _detections(boxes[6:7], [2], filled=True), _NAMES)
  assert _colors_at(alone, boxes[6:7]) == [tuple(colors[6])]


@pytest.fixture(name='labels')
def _labels(monkeypatch):
  """(x1, y1, x2, y2, text) of each label drawn."""
  drawn = []
  original = labels_lib._draw_text
  def record(pen, place, text, *args):
    drawn.append((*place, text))
    original(pen, place, text, *args)
  monkeypatch.setattr(labels_lib, '_draw_text', record)
  return drawn


def _overlap(a, b):
  return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_labels_stay_inside_the_frame_and_do_not_cover_each_other(labels):
  corners = [[0, 0, 30, 30], [0, 570, 30, 600], [470, 570, 500, 600]]
  stacked = [[200, 200, 250 + i, 260 + i] for i in range(12)]
  pictures.draw_detections(
      _grey(500, 600), _detections(corners + stacked, size=(500, 600)), _NAMES)
  assert len(labels) == 15
  for x1, y1, x2, y2, _ in labels:
    assert 0 <= x1 < x2 <= 600 and 0 <= y1 < y2 <= 500
  assert not any(_overlap(a, b) for i, a in enumerate(labels)
                 for b in labels[:i])


def test_a_label_leaves_its_neighbour_uncovered_where_it_can(labels):
  boxes = [[200, 200, 250, 290], [150, 200, 199, 290]]  # One atop of the other.
  pictures.draw_detections(
      _grey(500, 600), _detections(boxes, size=(500, 600)), _NAMES)
  for label in labels:
    assert not any(_overlap(label, (x1, y1, x2, y2))
                   for y1, x1, y2, x2 in boxes)


@pytest.mark.parametrize('size, has_legend', [
    ((500, 600), True), ((1000, 1200), False)])
def test_a_legend_stands_for_labels_that_would_hide_too_much(
    labels, size, has_legend):
  boxes = [[100 + 50 * (i // 6), 150 + 50 * (i % 6), 130 + 50 * (i // 6),
            180 + 50 * (i % 6)] for i in range(48)]
  drawn = pictures.draw_detections(
      _grey(*size), _detections(boxes, size=size), _NAMES)
  assert (drawn[:15, :40] != 100).any() == has_legend
  assert len(labels) == (0 if has_legend else 48)


def test_thirty_classes_fit_into_the_legend():
  boxes = [[200, 10 * i, 220, 10 * i + 9] for i in range(30)]
  drawn = pictures.draw_detections(
      _grey(400, 500), _detections(boxes, list(range(1, 31))), {})
  assert (drawn[230:] == 100).all() and (drawn[:200, 200:] == 100).all()


def test_nothing_detected_leaves_the_image():
  image = _grey(400, 500)
  for filled in False, True:
    drawn = pictures.draw_detections(
        image, _detections([], filled=filled), _NAMES)
    np.testing.assert_array_equal(drawn, image)


def test_odd_boxes_and_empty_masks_are_survived():
  boxes = [[-20, -20, -5, -5], [50, 50, 50, 50], [390, 490, 900, 900]]
  found = _detections(boxes, masks=mask_windows.of_images(
      np.zeros((3, 400, 500), np.uint8)))
  drawn = pictures.draw_detections(_grey(400, 500), found, _NAMES)
  assert drawn.shape == (400, 500, 3)


def test_wrong_images_and_masks_are_refused():
  with pytest.raises(ValueError, match='expected uint8'):
    pictures.draw_detections(_grey(9, 9) / 255, _detections([]), _NAMES)
  with pytest.raises(ValueError, match=r'of an image of \(9, 9\), expected'):
    pictures.draw_detections(
        _grey(400, 500), _detections([[0, 0, 5, 5]], size=(9, 9)), _NAMES)


def _disks(boxes):
  y, x = np.mgrid[:28, :28]
  return np.array([np.hypot(y - 13.5, x - 13.5) < 13] * len(boxes), np.float32)


def test_all_kinds_of_masks_are_drawn_alike():
  boxes = [[30, 100, 200, 220], [150, 350, 390, 480]]
  cells = box_masks.BoxMasks(_disks(boxes), boxes, (400, 500))
  drawn = [pictures.draw_detections(
      _grey(400, 500), _detections(boxes, masks=masks), _NAMES)
           for masks in (cells, cells.windows(),
                         mask_windows.of_images(cells.images()),
                         rle_masks.RleMasks.from_rles(
                             cells.rles(), (400, 500)))]
  for other in drawn[1:]:
    np.testing.assert_array_equal(drawn[0], other)


def test_masks_belong_to_their_detections_in_any_order():
  boxes = [[50, 50, 120, 120], [200, 200, 300, 300], [320, 30, 390, 90]]
  found = _detections(
      boxes, [1, 2, 1], [0.6, 0.9, 0.3], (500, 600),
      masks=box_masks.BoxMasks(_disks(boxes), boxes, (500, 600)))
  drawn = pictures.draw_detections(_grey(500, 600), found, _NAMES)
  cell, dog, none = np.array(_colors_at(drawn, boxes), int)
  assert cell[0] > cell[2] + 30 and dog[2] > dog[0] + 30  # Orange and blue.
  assert none.tolist() == [100, 100, 100]


def test_a_contour_in_the_color_of_the_class_runs_inside_of_the_mask():
  drawn = pictures.draw_detections(
      _grey(500, 600),
      _detections([[200, 300, 260, 380]], size=(500, 600), filled=True), _NAMES)
  contour = (drawn == colors.class_color(1)).all(axis=2)
  assert contour[215:245, [300, 379]].all() and contour[259, 310:370].all()
  assert not contour[205:255, 305:375].any()


def test_all_shades_of_a_class_have_its_hue():
  for label in range(1, 40):
    hues = [colorsys.rgb_to_hsv(*colors.class_color(label, shade))[0]
            for shade in range(6)]
    assert np.ptp(hues) < 0.01 or np.ptp(hues) > 0.99  # The circle's ends.
    assert len({colors.class_color(label, shade) for shade in range(6)}) == 6


def test_the_color_of_an_instance_does_not_depend_on_other_classes():
  boxes = np.array([[i, 10 * i, i + 40, 10 * i + 30] for i in range(9)])
  labels = np.array([1, 2, 3] * 3)
  together = colors.instance_colors(boxes, labels)
  alone = colors.instance_colors(boxes[labels == 2], labels[labels == 2])
  assert together[1::3] == alone
  assert len(set(alone)) == 3


def test_the_first_classes_differ():
  found = np.array([colors.class_color(label) for label in range(1, 9)], int)
  distances = np.abs(found[:, None] - found).max(axis=2)
  assert distances[~np.eye(8, dtype=bool)].min() > 60


def test_truth_is_left_and_detections_right_as_each_is_drawn_alone():
  image = _grey(500, 600)
  truth = _detections([[100, 100, 200, 220]], [2], [1], (500, 600), True)
  found = _detections([[300, 400, 380, 500]], [1], [0.7], (500, 600), True)
  both = pictures.draw_detections(image, found, _NAMES, ground_truth=truth)
  header = both.shape[0] - 500
  assert 10 < header < 40 and both.shape[1:] == (2 * 600 + 8, 3)
  np.testing.assert_array_equal(
      both[header:, 608:], pictures.draw_detections(image, found, _NAMES))
  left = both[header:, :600]
  assert (left[300:380, 400:500] == 100).all()
  assert (left[100:200, 100:220] != 100).any(axis=2).all()
  assert (both[:header, :100] > 200).any() and (
      both[:header, 608:700] > 200).any()


def test_both_sides_of_a_small_image_are_enlarged():
  both = pictures.draw_detections(
      _grey(100, 150), _detections([], size=(100, 150)), _NAMES,
      ground_truth=_detections([[9, 9, 50, 50]], size=(100, 150)))
  assert both.shape[0] > 300 and both.shape[1] == 2 * 450 + 8


def test_labels_of_the_truth_have_no_score(labels):
  pictures.draw_detections(
      _grey(400, 500), _detections([[100, 100, 200, 220]], [2]), _NAMES,
      ground_truth=_detections(
          [[100, 100, 200, 220], [300, 300, 390, 400]], [2, 1],
          iscrowd=[False, True]))
  assert [text for *_, text in labels] == ['dog  0.90', 'dog', 'cell (crowd)']


def test_a_crowd_is_hatched():
  box = [100, 100, 300, 300]
  plain, hatched = (
      pictures.draw_detections(_grey(400, 500), _detections(
          [box], filled=True, iscrowd=[crowd]), _NAMES)[110:290, 110:290]
      for crowd in (False, True))
  assert (plain != 100).any(axis=2).all()
  assert 0.1 < (hatched != 100).any(axis=2).mean() < 0.5
