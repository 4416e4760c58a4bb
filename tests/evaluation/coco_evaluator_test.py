"""The evaluator on the task's batches, whole and in parts."""

import functools
import json
import pickle
import tracemalloc

import numpy as np
from pycocotools import mask as mask_utils
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.evaluation import coco_evaluator
from panet_tf.evaluation import coco_instances

# Images of 40 x 60 (height, width).
_TRUTH = {
    'images': [{'id': 'a', 'height': 40, 'width': 60},
               {'id': 'b', 'height': 40, 'width': 60}],
    'categories': [{'id': 7, 'name': 'cat'}, {'id': 9, 'name': 'dog'}],
    'annotations': [
        {'image_id': 'a', 'category_id': 9, 'iscrowd': 0,
         'segmentation': [[20, 10, 50, 10, 50, 30, 20, 30]]}]}


def _batch(source_id, count=1):
  image_info = [[40, 60], [80, 120], [2, 2], [0, 0]]
  masks = np.zeros([1, 3, 4, 4])
  masks[0, 0] = 1
  return {
      'source_id': tf.constant([source_id]),
      'image_info': tf.constant([image_info], tf.float32),
      'detection_boxes': tf.constant(
          [[[10, 20, 30, 50], [50, 20, 70, 55], [5, 10, 9, 14]]], tf.float32),
      'detection_scores': tf.constant([[0.9, 0.8, 0.7]]),
      'detection_classes': tf.constant([[2, 1, 0]]),
      'num_detections': tf.constant([count]),
      'detection_masks': tf.constant(masks, tf.float32)}


def _evaluator(**options):
  return coco_evaluator.CocoEvaluator(_TRUTH, **{
      'include_mask': True, 'max_detections': 100, 'category_ids': [7, 9],
      **options})


def test_evaluator_clips_boxes_and_puts_masks_into_the_image():
  evaluator = _evaluator()
  evaluator.update_state(None, _batch(b'a', count=2))
  found = evaluator.instances()
  # The second one lies below the image: clipped.
  assert found.boxes.tolist() == [[20, 10, 30, 20], [20, 40, 35, 0]]
  # Places of 'a' and of category 9 in the ground truth.
  assert (found.images[0], found.categories[0]) == (0, 1)
  assert found.scores[0] == np.float32(0.9)
  mask = np.zeros((40, 60))
  mask[10:30, 20:50] = 1
  np.testing.assert_array_equal(mask_utils.decode(found.rles[0]), mask)


def test_evaluator_speaks_model_gardens_names():
  evaluator = _evaluator(max_detections=50, per_category=True)
  evaluator.update_state(None, _batch(b'a'))
  metrics = evaluator.result()
  names = ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'ARmax1', 'ARmax10',
           'ARmax50', 'ARs', 'ARm', 'ARl', 'AP/cat', 'AP/dog']
  assert set(metrics) == set(names) | {'mask_' + name for name in names}
  assert metrics['AP'] == metrics['mask_AP'] == pytest.approx(1)
  assert metrics['mask_AP/dog'] == pytest.approx(1)
  assert metrics['mask_AP/cat'] == metrics['APl'] == -1
  assert {value.dtype for value in metrics.values()} == {np.dtype('float32')}


def test_evaluator_takes_replicas_ordinals_and_counts_an_image_once():
  evaluator = _evaluator(include_mask=False, image_ids=['b', 'a'])
  batches = [_batch(2), _batch(2), _batch(1, count=0)]
  evaluator.update_state({}, {
      key: tuple(batch[key] for batch in batches)
      for key in batches[0] if key != 'detection_masks'})
  evaluator.update_state({}, _batch(2))
  assert evaluator.instances().images.tolist() == [0]  # The place of 'a'.
  assert not evaluator.instances().rles
  assert 'mask_AP' not in evaluator.result()
  evaluator.reset_states()
  assert not evaluator.instances().images.size


def test_evaluator_refuses_a_foreign_image_or_label():
  with pytest.raises(errors.InputError, match="source id 'c'"):
    _evaluator().update_state(None, _batch(b'c'))
  with pytest.raises(errors.InputError, match='source id -1'):
    _evaluator(image_ids=['a', 'b']).update_state(None, _batch(-1))
  with pytest.raises(errors.InputError, match='label 0 has no category'):
    _evaluator().update_state(None, _batch(b'a', count=3))


@pytest.mark.parametrize('change, words', [
    ({'segmentation': []}, 'annotation 0 has no segmentation'),
    ({'segmentation': [[1, 2, 3]]}, 'annotation 0: .*pairs'),
    ({'category_id': 8}, 'annotation 0: category_id 8')])
def test_a_bad_annotation_is_found_before_the_first_step(change, words):
  truth = {**_TRUTH, 'annotations': [{**_TRUTH['annotations'][0], **change}]}
  with pytest.raises(errors.InputError, match=words):
    coco_evaluator.CocoEvaluator(truth, include_mask=True, max_detections=100,
                                 category_ids=[7, 9])


def test_a_category_of_another_file_is_found_before_the_first_step():
  with pytest.raises(errors.InputError, match='category id 8 of the records'):
    _evaluator(category_ids=[7, 8, 9])


def test_image_ids_that_are_one_text_need_records_with_ordinals():
  truth = {**_TRUTH, 'images': [
      {'id': i, 'height': 40, 'width': 60} for i in (1, 'a', '1')]}
  new = functools.partial(
      coco_evaluator.CocoEvaluator, truth, include_mask=True,
      max_detections=100, category_ids=[7])
  with pytest.raises(errors.InputError, match="image ids 1 and '1' are the"):
    new()
  evaluator = new(image_ids=[1, '1', 'a'])
  evaluator.update_state(None, {
      **_batch(2), 'detection_classes': tf.constant([[1, 1, 1]])})
  assert evaluator.instances().images.tolist() == [1]  # Of 1, '1' and 'a'.


def test_categories_of_one_name_keep_a_number_each():
  truth = {**_TRUTH, 'categories': [
      {'id': 7, 'name': 'cat'}, {'id': 8, 'name': 'dog'},
      {'id': 9, 'name': 'cat'}]}
  evaluator = coco_evaluator.CocoEvaluator(
      truth, include_mask=True, max_detections=100, category_ids=[7, 9],
      per_category=True)
  evaluator.update_state(None, _batch(b'a'))
  metrics = evaluator.result()
  assert metrics['AP/cat (9)'] == pytest.approx(1)
  assert metrics['AP/cat (7)'] == metrics['AP/dog'] == -1
  assert 'AP/cat' not in metrics


def test_the_ground_truth_is_converted_once(monkeypatch):
  evaluator = _evaluator()
  expected = evaluator.result()
  monkeypatch.setattr(coco_instances, 'from_items', None)
  assert evaluator.result() == expected


def test_evaluator_refuses_images_of_another_size():
  batch = _batch(b'a')
  batch['image_info'] = tf.constant(
      [[[41, 60], [80, 120], [2, 2], [10, 20]]], tf.float32)
  with pytest.raises(errors.InputError, match=r"'a' .*\(40, 60\).*\(41, 60"):
    _evaluator().update_state(None, batch)
  _evaluator(include_mask=False).update_state(None, batch)


def test_evaluator_scores_without_the_rounding_of_results():
  evaluator = _evaluator()
  batch = _batch(b'a', count=2)
  batch['detection_scores'] = tf.constant([[0.12345678, 0.12345671, 0]])
  evaluator.update_state(None, batch)
  np.testing.assert_array_equal(
      evaluator.instances().scores, np.float32([0.12345678, 0.12345671]))


def _world(include_mask=True):
  """A ground truth of 12 images, batches of all of them, and an evaluator."""
  rng = np.random.default_rng(0)
  images = [{'id': f'image {i}', 'height': 40, 'width': 60} for i in range(12)]
  corner = rng.uniform(0, 1, (12, 5, 2)) * [20, 30]
  boxes = np.concatenate([corner, corner + rng.uniform(5, 20, (12, 5, 2))], 2)
  truth = {
      'images': images, 'categories': _TRUTH['categories'], 'annotations': [
          {'image_id': image['id'], 'category_id': int(rng.choice([7, 9])),
           'iscrowd': 0, 'segmentation': [[x1, y1, x2, y1, x2, y2, x1, y2]]}
          for image, image_boxes in zip(images, boxes.tolist(), strict=True)
          for y1, x1, y2, x2 in image_boxes[:3]]}
  batches = [{
      'source_id': np.array([i + 1]),
      'image_info': np.float32([[[40, 60], [40, 60], [1, 1], [0, 0]]]),
      'detection_boxes': np.float32(
          boxes[i:i + 1] + rng.normal(0, 0.5, (1, 5, 4))),
      'detection_scores': np.float32(rng.uniform(size=(1, 5))).round(1),
      'detection_classes': rng.integers(1, 3, (1, 5)),
      'num_detections': np.array([i % 6]),
      'detection_masks': np.float32(rng.uniform(0.3, 1, (1, 5, 4, 4)))}
             for i in range(12)]
  return batches, lambda: coco_evaluator.CocoEvaluator(
      truth, include_mask=include_mask, max_detections=100,
      category_ids=[7, 9], image_ids=[image['id'] for image in images])


@pytest.mark.parametrize('include_mask', [True, False])
def test_merged_shards_equal_one_worker_in_any_order(include_mask):
  batches, new = _world(include_mask)
  alone, *workers = [new() for _ in range(5)]
  for number, batch in enumerate(batches):
    alone.update_state(None, batch)
    workers[number % 3].update_state(None, batch)
  workers[2].update_state(None, batches[0])  # Seen by two; the fourth has none.
  states = [worker.state() for worker in workers]
  assert all(state.dtype == np.uint8 for state in states)
  expected = alone.result()
  assert 0.05 < expected['AP'] < 0.95
  assert workers[0].result() != expected
  for order in (0, 1, 2, 3), (3, 2, 0, 1), (1, 3, 2, 0):
    merged = new()
    merged.merge(states[i] for i in order)
    assert merged.num_images == 12
    assert merged.result() == expected
    assert sorted(json.loads(merged.state().tobytes())) == sorted(
        json.loads(alone.state().tobytes()))
  workers[1].merge(states)  # Its own state is among them.
  assert workers[1].result() == expected


def test_a_state_is_plain_text_and_another_is_refused():
  batches, new = _world()
  evaluator = new()
  evaluator.update_state(None, batches[1])
  (place, size, boxes, *_), = json.loads(evaluator.state().tobytes())
  assert (place, size, len(boxes)) == (1, [40, 60], 1)
  for other in pickle.dumps({1: size}), b'':
    with pytest.raises(ValueError, match='.'):
      new().merge([np.frombuffer(other, np.uint8)])


def test_masks_are_small_in_memory_however_large_the_image():
  """A full-size mask of each detection would be 100 x 16 megabytes."""
  truth = {'images': [{'id': 1, 'height': 4000, 'width': 4000}],
           'categories': [{'id': 1, 'name': 'cat'}], 'annotations': []}
  evaluator = coco_evaluator.CocoEvaluator(
      truth, include_mask=True, max_detections=100, category_ids=[1])
  batch = {
      'source_id': np.array([1]),
      'image_info': np.float32([[[4000, 4000], [1, 1], [1, 1], [0, 0]]]),
      'detection_boxes': np.float32([[[0, 0, 4000, 4000]] * 100]),
      'detection_scores': np.full((1, 100), 0.5, np.float32),
      'detection_classes': np.ones((1, 100), int),
      'num_detections': np.array([100]),
      'detection_masks': np.random.default_rng(0).uniform(
          size=(1, 100, 28, 28)).astype(np.float32)}
  tracemalloc.start()
  evaluator.update_state(None, batch)
  kept, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert kept < 2**25
  assert peak < 2**28
