"""Detections: what fits together, and what is written of them."""

import dataclasses
import json

import numpy as np
import pytest

from panet_tf import errors
from panet_tf.structures import box_masks
from panet_tf.structures import detections
from panet_tf.structures import mask_windows

_SIZE = (30, 40)


def _found(count=4, **fields):
  rng = np.random.default_rng(count)
  low = rng.uniform(0, 15, [count, 2])
  boxes = np.float32(np.concatenate([low, low + rng.uniform(3, 9, [count, 2])],
                                    1))
  return detections.Detections(**{
      'boxes': boxes, 'scores': np.float32(rng.random(count)),
      'labels': np.arange(count, dtype=np.int32) % 3 + 1, 'image_size': _SIZE,
      'masks': box_masks.BoxMasks(
          rng.random([count, 7, 7]).astype(np.float32), boxes, _SIZE),
      **fields})


def _assert_rows(found, whole, rows):
  assert found.image_size == whole.image_size
  for name in ('boxes', 'scores', 'labels', 'iscrowd'):
    value, wanted = getattr(found, name), getattr(whole, name)
    if wanted is None:
      assert value is None
    else:
      np.testing.assert_array_equal(value, wanted[rows])
      assert value.dtype == wanted.dtype
  if whole.masks is None:
    assert found.masks is None
  else:
    np.testing.assert_array_equal(
        found.masks.images(), whole.masks.images()[rows])


@pytest.mark.parametrize('index, rows', [
    (slice(1, 3), [1, 2]), (slice(None, None, -1), [3, 2, 1, 0]),
    (np.array([3, 0, 3]), [3, 0, 3]), ([], []), (-1, [3]), (np.int64(2), [2]),
    (np.array([False, True, True, False]), [1, 2])], ids=str)
@pytest.mark.parametrize('fields', [
    {}, {'masks': None}, {'iscrowd': [True, False, False, True]}], ids=str)
def test_an_index_chooses_whole_detections(index, rows, fields):
  found = _found(**fields)
  assert len(found) == 4 and len(found[index]) == len(rows)
  _assert_rows(found[index], found, np.array(rows, int))


def test_one_after_the_other_they_are_all():
  found = _found()
  ones = list(found)
  assert [len(one) for one in ones] == [1] * 4
  _assert_rows(detections.Detections.concatenate(ones), found, slice(None))


def test_a_mask_of_another_length_is_no_index():
  with pytest.raises(IndexError):
    _found()[np.ones(3, bool)]


def test_parts_are_joined_whatever_their_masks():
  found = _found()
  crowds = dataclasses.replace(found, iscrowd=[1, 0, 1, 0])
  _assert_rows(detections.Detections.concatenate([crowds[2:], crowds[:2]]),
               crowds, [2, 3, 0, 1])
  images = dataclasses.replace(
      found[2:], masks=mask_windows.of_images(found.masks.images()[2:]))
  joined = detections.Detections.concatenate([found[:2], images])
  assert isinstance(joined.masks, mask_windows.MaskWindows)
  _assert_rows(joined, found, slice(None))
  none = detections.Detections.concatenate([found[:0]] * 2)
  assert len(none) == 0 and none.boxes.shape == (0, 4)


@pytest.mark.parametrize('parts, message', [
    (lambda: [], 'they must be of one image'),
    (lambda: [_found(masks=None), _found(masks=None, image_size=(9, 9))],
     r'images of \[\(9, 9\), \(30, 40\)\]; they must be of one'),
    (lambda: [_found(), _found(masks=None)], '1 of 2 parts have no masks'),
    (lambda: [_found(), _found(iscrowd=[0] * 4)], '1 of 2 parts have no iscrow')
])
def test_parts_that_do_not_go_together_are_refused(parts, message):
  with pytest.raises(ValueError, match=message):
    detections.Detections.concatenate(parts())


@pytest.mark.parametrize('fields, message', [
    ({'boxes': np.zeros([3, 4])},
     r'boxes are \[3, 4\]; they must be \[4, 4\], as there are 4 scores'),
    ({'boxes': np.zeros([4, 5])}, r'boxes are \[4, 5\]'),
    ({'scores': np.zeros([4, 1])}, r'scores are \[4, 1\]; they must be \[4\]'),
    ({'labels': np.ones(4)}, 'labels are float64; they must be integers'),
    ({'labels': [1]}, r'labels are \[1\]; they must be \[4\]'),
    ({'iscrowd': [True]}, r'iscrowd are \[1\]'),
    ({'masks': _found(3).masks}, 'there are 3 masks; there must be 4'),
    ({'image_size': (30, 41)},
     r'masks are of an image of \[30, 40\]; they must be of \[30, 41\]')])
def test_arrays_that_do_not_fit_say_what_would(fields, message):
  with pytest.raises(ValueError, match=message):
    _found(**fields)


def _outputs(found):
  """Rows of a graph, two of them padding."""

  def pad(array):
    return np.concatenate([array, np.zeros_like(array[:2])])

  return {'detection_boxes': pad(found.boxes),
          'detection_scores': pad(found.scores),
          'detection_classes': pad(found.labels),
          'detection_boxes_normalized': None}


def test_a_graphs_rows_are_read_up_to_their_number():
  found = _found()
  outputs = _outputs(found)
  read = detections.Detections.from_outputs(
      {**outputs, 'num_detections': np.int32(4)}, _SIZE)
  _assert_rows(read, dataclasses.replace(found, masks=None), slice(None))
  assert len(detections.Detections.from_outputs(outputs, _SIZE)) == 6


@pytest.mark.parametrize('legacy', [False, True])
def test_a_graphs_masks_become_their_form(legacy):
  found = _found()
  outputs = {**_outputs(found), 'num_detections': 4}
  cells = np.pad(found.masks.probabilities, [(0, 2), (0, 0), (0, 0)])
  read = detections.Detections.from_outputs(
      {**outputs, 'detection_masks': cells}, _SIZE, legacy)
  np.testing.assert_array_equal(
      read.masks.images(), dataclasses.replace(
          found.masks, legacy=legacy).images())
  pixels = np.pad(found.masks.images(), [(0, 2), (0, 0), (0, 0)])
  read = detections.Detections.from_outputs(
      {**outputs, 'detection_masks': pixels}, _SIZE, legacy)
  assert isinstance(read.masks, mask_windows.MaskWindows)
  _assert_rows(read, found, slice(None))


def test_an_output_that_is_missing_is_named():
  outputs = _outputs(_found())
  del outputs['detection_scores']
  with pytest.raises(KeyError, match='detection_scores'):
    detections.Detections.from_outputs(outputs, _SIZE)


@pytest.mark.parametrize('form', ['none', 'cells', 'images', 'windows'])
def test_coco_results_are_rounded_and_xywh(form):
  boxes = np.float32([[1.23456, 2, 11.5, 12.00049], [0, 0, 30, 40]])
  cells = box_masks.BoxMasks(np.ones([2, 5, 5]), boxes, _SIZE)
  masks = {'none': None, 'cells': cells, 'windows': cells.windows(),
           'images': mask_windows.of_images(cells.images())}[form]
  results = detections.Detections(
      boxes, np.float32([0.87654321, 0.5]), np.int32([2, 1]), _SIZE, masks
  ).to_coco('a.png', [7, 'x'])
  assert json.loads(json.dumps(results)) == results
  segmentations = [result.pop('segmentation', None) for result in results]
  assert results == [
      {'image_id': 'a.png', 'category_id': 'x',
       'bbox': [2.0, 1.235, 10.0, 10.265], 'score': 0.876543},
      {'image_id': 'a.png', 'category_id': 7, 'bbox': [0.0, 0.0, 40.0, 30.0],
       'score': 0.5}]
  assert segmentations == (cells.rles() if masks else [None] * 2)


def test_no_detections_are_no_results():
  assert _found()[:0].to_coco(3, [5]) == []


@pytest.mark.parametrize('label', [0, -1, 4])
def test_a_label_without_a_category_is_named(label):
  found = _found(labels=np.array([1, 2, label, 3]))
  with pytest.raises(errors.InputError, match=(
      f'image 8: label {label} has no category; there are 3')):
    found.to_coco(8, [5, 6, 7])
