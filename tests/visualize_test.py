"""Drawn images: what is coloured, where, and what is left alone."""

import time

import numpy as np
import pytest

from panet_tf import visualize

_NAMES = {1: 'cell', 2: 'dog'}


def _detections(boxes, labels=None, scores=None, size=None):
  """Boxes yxyx; masks that fill them if the image's size is given."""
  count = len(boxes)
  detections = {
      'detection_boxes': np.array(boxes, np.float32).reshape(-1, 4),
      'detection_scores': np.array(scores or [0.9] * count, np.float32),
      'detection_classes': np.array(labels or [1] * count)}
  if size:
    masks = np.zeros((count,) + size, bool)
    for mask, (y1, x1, y2, x2) in zip(masks, boxes):
      mask[y1:y2, x1:x2] = True
    detections['detection_masks'] = masks
  return detections


def _grey(height, width):
  return np.full((height, width, 3), 100, np.uint8)


def _colors_at(drawn, boxes):
  return [tuple(drawn[(y1 + y2) // 2, (x1 + x2) // 2].tolist())
          for y1, x1, y2, x2 in boxes]


def test_a_mask_tints_its_inside_and_nothing_far_away():
  image = _grey(400, 500)
  drawn = visualize.draw_detections(
      image, _detections([[100, 100, 200, 220]], size=(400, 500)), _NAMES)
  changed = (drawn != 100).any(axis=2)
  assert drawn.shape == image.shape and drawn.dtype == np.uint8
  assert changed[100:200, 100:220].all()
  changed[70:201, 100:221] = False  # the object, and its label above
  assert not changed.any()
  assert (image == 100).all()


def test_boxes_alone_leave_their_inside():
  drawn = visualize.draw_detections(
      _grey(400, 500), _detections([[100, 100, 200, 220]]), _NAMES)
  assert (drawn[105:195, 105:215] == 100).all()
  assert (drawn[150, 100] != 100).any() and (drawn[150, 220] != 100).any()


@pytest.mark.parametrize('threshold, drawn_objects', [(0.5, 1), (0.3, 2)])
def test_only_scores_from_the_threshold_on_are_drawn(threshold, drawn_objects):
  boxes = [[100, 100, 200, 200], [250, 250, 300, 350]]
  drawn = visualize.draw_detections(
      _grey(400, 500), _detections(boxes, scores=[0.5, 0.4], size=(400, 500)),
      _NAMES, threshold)
  inside = _colors_at(drawn, boxes)
  assert sum(color != (100, 100, 100) for color in inside) == drawn_objects


@pytest.mark.parametrize('size, zoom', [
    ((64, 96), 3), ((256, 256), 2), ((320, 200), 2), ((321, 200), 1)])
def test_small_images_come_back_enlarged(size, zoom):
  drawn = visualize.draw_detections(
      _grey(*size), _detections([[10, 10, 40, 60]], size=size), _NAMES)
  assert drawn.shape == (zoom * size[0], zoom * size[1], 3)
  assert (drawn[25 * zoom, 35 * zoom] != 100).any()
  assert (drawn[60 * zoom:, 80 * zoom:] == 100).all()


def test_touching_instances_differ_and_the_class_color_is_stable():
  boxes = [[100, 100 + 40 * i, 150, 140 + 40 * i] for i in range(8)]
  labels = [1] * 6 + [2] * 2
  scores = [0.9 - 0.01 * i for i in range(8)]
  drawn = visualize.draw_detections(
      _grey(400, 500), _detections(boxes, labels, scores, (400, 500)), _NAMES)
  colors = np.array(_colors_at(drawn, boxes), int)
  assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 15
  alone = visualize.draw_detections(
      _grey(400, 500),
      _detections(boxes[6:7], [2], size=(400, 500)), _NAMES)
  assert _colors_at(alone, boxes[6:7]) == [tuple(colors[6])]


def test_labels_stay_inside_the_frame_and_do_not_cover_each_other():
  boxes = [[0, 0, 30, 30], [0, 470, 30, 500], [370, 470, 400, 500],
           [200, 200, 250, 260], [200, 200, 252, 262]]
  places = []
  original = visualize._draw_text
  def record(pen, origin, place, *args):
    places.append(place)
    original(pen, origin, place, *args)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(visualize, '_draw_text', record)
    visualize.draw_detections(_grey(400, 500), _detections(boxes), _NAMES)
  assert len(places) == 5
  for x1, y1, x2, y2 in places:
    assert 0 <= x1 < x2 < 500 and 0 <= y1 < y2 < 400
  assert not any(visualize._overlap(a, b) for i, a in enumerate(places)
                 for b in places[:i])


@pytest.mark.parametrize('count, has_legend', [(25, False), (26, True)])
def test_many_objects_get_a_legend_in_place_of_labels(count, has_legend):
  boxes = [[100 + 50 * (i // 6), 150 + 50 * (i % 6), 130 + 50 * (i // 6),
            180 + 50 * (i % 6)] for i in range(count)]
  drawn = visualize.draw_detections(
      _grey(400, 500), _detections(boxes), _NAMES)
  assert (drawn[:15, :40] != 100).any() == has_legend
  assert (drawn[85:98, 150:400] == 100).all() == has_legend


def test_thirty_classes_fit_into_the_legend():
  boxes = [[200, 10 * i, 220, 10 * i + 9] for i in range(30)]
  drawn = visualize.draw_detections(
      _grey(400, 500), _detections(boxes, list(range(1, 31))), {})
  assert (drawn[230:] == 100).all() and (drawn[:200, 200:] == 100).all()


def test_nothing_detected_leaves_the_image():
  image = _grey(400, 500)
  for size in None, (400, 500):
    drawn = visualize.draw_detections(image, _detections([], size=size), _NAMES)
    np.testing.assert_array_equal(drawn, image)


def test_odd_boxes_and_empty_masks_are_survived():
  boxes = [[-20, -20, -5, -5], [50, 50, 50, 50], [390, 490, 900, 900]]
  detections = _detections(boxes)
  detections['detection_masks'] = np.zeros((3, 400, 500), np.uint8)
  drawn = visualize.draw_detections(_grey(400, 500), detections, _NAMES)
  assert drawn.shape == (400, 500, 3)


def test_wrong_images_and_masks_are_refused():
  with pytest.raises(ValueError, match='expected uint8'):
    visualize.draw_detections(_grey(9, 9) / 255, _detections([]), _NAMES)
  with pytest.raises(ValueError, match=r'mask is \(9, 9\)'):
    visualize.draw_detections(
        _grey(400, 500), _detections([[0, 0, 5, 5]], size=(9, 9)), _NAMES)


def test_a_hundred_instances_at_1080p_take_under_half_a_second():
  rng = np.random.default_rng(0)
  corners = rng.integers(0, [900, 1700], (100, 2))
  boxes = np.concatenate([corners, corners + [150, 200]], axis=1).tolist()
  detections = _detections(boxes, size=(1080, 1920))
  image = _grey(1080, 1920)
  seconds = []
  for _ in range(3):
    start = time.perf_counter()
    visualize.draw_detections(image, detections, _NAMES)
    seconds.append(time.perf_counter() - start)
  assert min(seconds) < 0.5
