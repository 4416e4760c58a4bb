"""Ground truth as detections, and the pictures that are written."""

import dataclasses

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils
import pytest

from panet_tf import errors
from panet_tf.drawing import pictures
from panet_tf.prediction import outputs
from panet_tf.structures import box_masks
from panet_tf.structures import detections
from panet_tf.structures import mask_windows

_LABELS = {7: 1, 9: 2}


def _rle(mask):
  rle = mask_utils.encode(np.asfortranarray(mask, np.uint8))
  return {'size': rle['size'], 'counts': rle['counts'].decode()}


def test_annotations_of_all_kinds_become_detections():
  mask = np.zeros([60, 80], bool)
  mask[20:50, 33:41] = True
  mask[30, 35] = False
  truth = outputs.ground_truth([
      {'id': 1, 'category_id': 9, 'bbox': [33, 20, 8, 30],
       'segmentation': _rle(mask), 'iscrowd': 1},
      {'id': 2, 'category_id': 7,
       'segmentation': [[10, 10, 30, 10, 30, 20, 10, 20]]},
      {'id': 3, 'category_id': 7, 'bbox': [70, 50, 20, 20]},
      {'id': 4, 'category_id': 7, 'bbox': [90, 70, 5, 5]}], 60, 80, _LABELS)
  np.testing.assert_array_equal(truth.boxes, [
      [20, 33, 50, 41], [10, 10, 20, 30], [50, 70, 60, 80]])
  assert truth.labels.tolist() == [2, 1, 1]
  assert truth.scores.tolist() == [1, 1, 1]
  assert truth.iscrowd.tolist() == [True, False, False]
  masks = truth.masks.images()
  np.testing.assert_array_equal(masks[0], mask)
  assert masks[1, 10:20, 10:30].all() and masks[1].sum() == 200
  assert not masks[2].any()


def test_boxes_alone_have_no_masks_and_no_annotations_are_fine():
  boxes = outputs.ground_truth(
      [{'id': 3, 'category_id': 7, 'bbox': [7, 5, 20, 20]}], 60, 80, _LABELS)
  none = outputs.ground_truth([], 60, 80, _LABELS)
  assert boxes.masks is None and none.masks is None
  assert none.boxes.shape == (0, 4)


def test_a_category_that_the_model_does_not_know_is_left_out():
  truth = outputs.ground_truth([
      {'id': 5, 'category_id': 8, 'bbox': [1, 1, 9, 9]},
      {'id': 6, 'category_id': 9, 'bbox': [2, 2, 9, 9]}], 60, 80, _LABELS)
  assert truth.labels.tolist() == [2]


def test_what_cannot_be_drawn_is_named():
  with pytest.raises(errors.InputError, match='annotation 6: `segmentation` '
                     'polygon should be pairs'):
    outputs.ground_truth([{'id': 6, 'category_id': 7,
                           'segmentation': [[1, 2, 3]]}], 60, 80, _LABELS)


@pytest.mark.parametrize('with_truth', [False, True])
@pytest.mark.parametrize('kind', ['boxes', 'of boxes', 'images'])
def test_the_picture_is_that_of_the_detections(tmp_path, kind, with_truth):
  image = np.random.default_rng(0).integers(0, 256, (500, 600, 3), np.uint8)
  size = (500, 600)
  boxes = np.float32([[50, 60, 200, 250], [300, 300, 400, 380]])
  found = detections.Detections(
      boxes, np.float32([0.9, 0.4]), np.int32([1, 2]), size)
  pixels = np.zeros([2, *size], bool)
  pixels[0, 50:200, 60:250] = pixels[1, 300:400, 300:380] = True
  whole = dataclasses.replace(found, masks=mask_windows.of_images(pixels))
  if kind == 'boxes':
    whole = found
  elif kind == 'images':
    found = whole
  else:
    found.masks = box_masks.BoxMasks(np.ones([2, 28, 28]), boxes, size)
  truth = outputs.ground_truth(
      [{'id': 1, 'category_id': 7, 'bbox': [60, 50, 90, 90]}], 500, 600,
      _LABELS) if with_truth else None
  names, path = {1: 'cat', 2: 'dog'}, tmp_path / 'a.png'
  outputs.draw(image, found, names, 0.5, str(path), truth)
  expected = pictures.draw_detections(
      image, whole, names, ground_truth=truth)
  np.testing.assert_array_equal(Image.open(path), expected)
  assert not list(tmp_path.glob('*.tmp'))


def test_a_huge_image_is_drawn_reduced(tmp_path, monkeypatch):
  """12,000 pixels of a slide are no picture; its objects keep their places."""
  seen = []

  def draw_detections(image, found, *unused):
    seen.append((image, found))
    return image

  monkeypatch.setattr(pictures, 'draw_detections', draw_detections)
  image = np.zeros([8192, 64, 3], np.uint8)
  mask = np.zeros([1, 8192, 64], bool)
  mask[0, 4000:4200, 10:30] = True
  found = detections.Detections(
      np.float32([[4000, 10, 4200, 30]]), np.float32([0.9]), np.int32([1]),
      (8192, 64), mask_windows.of_images(mask))
  outputs.draw(image, found, {1: 'a'}, 0.5, str(tmp_path / 'a.png'))
  (drawn, small), = seen
  assert drawn.shape == (4096, 32, 3)
  assert small.image_size == (4096, 32)
  np.testing.assert_array_equal(small.boxes, [[2000, 5, 2100, 15]])
  np.testing.assert_array_equal(small.masks.images(), mask[:, ::2, ::2])
