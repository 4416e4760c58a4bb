"""COCO metrics against plain pycocotools, real data, and the task's batches."""

import copy
import json
import os

import numpy as np
from pycocotools import coco as pycoco
from pycocotools import cocoeval
from pycocotools import mask as mask_utils
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.evaluation import coco
from panet_tf.evaluation import coco_evaluator
from panet_tf.evaluation import coco_results

_DATA = os.path.join(
    os.path.dirname(__file__), '..', '..', '..', 'shared', 'data')
_HEIGHT, _WIDTH = 60, 80


def _rle(box):
  """The RLE of a rectangle, xywh."""
  canvas = np.zeros((_HEIGHT, _WIDTH), np.uint8, order='F')
  x, y, w, h = [int(value) for value in box]
  canvas[y:y + h, x:x + w] = 1
  rle = mask_utils.encode(canvas)
  return {'size': rle['size'], 'counts': rle['counts'].decode()}


def _random_boxes(rng, count):
  corners = rng.uniform(0, [_WIDTH - 9, _HEIGHT - 9], (count, 2))
  sizes = np.minimum(rng.uniform(2, 60, (count, 2)),
                     [_WIDTH, _HEIGHT] - corners)
  return np.concatenate([corners, sizes], axis=1).round().tolist()


def _random_dataset(rng, images=4, objects=30):
  ground_truth = {
      'images': [{'id': 3 * i, 'height': _HEIGHT, 'width': _WIDTH}
                 for i in range(images)],
      'categories': [{'id': 2, 'name': 'two'}, {'id': 5, 'name': 'five'}],
      'annotations': []}
  for image in ground_truth['images'][:-1]:
    for box in _random_boxes(rng, objects):
      ground_truth['annotations'].append({
          'id': len(ground_truth['annotations']) + 1, 'image_id': image['id'],
          'category_id': int(rng.choice([2, 5])), 'bbox': box,
          'area': box[2] * box[3] * 0.9, 'segmentation': _rle(box),
          'iscrowd': int(rng.uniform() < 0.15)})
  return ground_truth


def _random_results(rng, ground_truth, extra=130):
  """Shaken annotations, and `extra` boxes of category 2 in the first image."""
  results = []
  for item in ground_truth['annotations']:
    box = np.array(item['bbox']) + rng.integers(-2, 3, 4)
    box = np.clip(box, 1, [_WIDTH - 2, _HEIGHT - 2, _WIDTH, _HEIGHT])
    results.append({'image_id': item['image_id'], 'bbox': box.tolist(),
                    'category_id': item['category_id']})
  results += [{'image_id': 0, 'bbox': box, 'category_id': 2}
              for box in _random_boxes(rng, extra)]
  for result in results:
    result.update(score=float(rng.uniform()),
                  segmentation=_rle(result['bbox']))
  return results


def _plain(ground_truth, results, iou_type):
  """COCOeval as its authors use it: 100 detections, all 12 numbers."""
  dataset = pycoco.COCO()
  dataset.dataset = copy.deepcopy(ground_truth)
  dataset.createIndex()
  results = copy.deepcopy(results)
  if iou_type == 'segm':  # as in the COCO challenge: a mask has its own area
    for result in results:
      del result['bbox']
  evaluation = cocoeval.COCOeval(dataset, dataset.loadRes(results), iou_type)
  evaluation.evaluate()
  evaluation.accumulate()
  evaluation.summarize()
  return evaluation.stats


@pytest.fixture(name='random_case')
def _random_case():
  rng = np.random.default_rng(0)
  ground_truth = _random_dataset(rng)
  return ground_truth, _random_results(rng, ground_truth)


def test_metrics_equal_plain_pycocotools_and_inputs_stay(random_case):
  before = copy.deepcopy(random_case)
  metrics = coco.coco_metrics(*random_case)
  assert random_case == before
  for kind, iou_type in (('box', 'bbox'), ('mask', 'segm')):
    assert list(metrics[kind]) == [
        'AP', 'AP50', 'AP75', 'APS', 'APM', 'APL',
        'AR1', 'AR10', 'AR100', 'ARS', 'ARM', 'ARL']
    np.testing.assert_allclose(
        list(metrics[kind].values()), _plain(*random_case, iou_type),
        rtol=0, atol=1e-12)
  assert 0.1 < metrics['mask']['AP'] < 0.9


def test_string_ids_score_like_numbers(random_case):
  expected = coco.coco_metrics(*random_case)
  renamed = copy.deepcopy(random_case)
  for item in renamed[0]['images']:
    item['id'] = f'image {item["id"]}'
  for item in renamed[0]['annotations'] + renamed[1]:
    item['image_id'] = f'image {item["image_id"]}'
  assert coco.coco_metrics(*renamed) == expected


def test_missing_fields_are_derived(random_case):
  ground_truth, results = copy.deepcopy(random_case)
  for item in ground_truth['annotations']:
    item['area'] = int(item['bbox'][2] * item['bbox'][3])
    item['iscrowd'] = 0
  for result in results:
    result['bbox'] = mask_utils.toBbox(result['segmentation']).tolist()
  expected = coco.coco_metrics(ground_truth, results)
  for index, item in enumerate(ground_truth['annotations']):
    x, y, w, h = item['bbox']
    item.pop('area'), item.pop('iscrowd')
    if index % 3 == 0:  # polygons
      item['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    elif index % 3 == 1:  # runs: 0s, 1s, 0s, ..
      canvas = mask_utils.decode(item['segmentation']).T.reshape(-1)
      edges = np.flatnonzero(np.diff(canvas, prepend=0)).tolist()
      item['segmentation'] = {
          'size': [_HEIGHT, _WIDTH],
          'counts': np.diff([0] + edges + [canvas.size]).tolist()}
      del item['bbox']
  for result in results:
    del result['bbox']
  assert coco.coco_metrics(ground_truth, results) == expected


def test_box_metrics_need_no_masks(random_case):
  expected = coco.coco_metrics(*random_case)['box']
  ground_truth, results = copy.deepcopy(random_case)
  for item in ground_truth['annotations'] + results:
    del item['segmentation']
  metrics = coco.coco_metrics(ground_truth, results, include_mask=False)
  assert metrics == {'box': expected}


def test_no_results_at_all_score_zero(random_case):
  metrics = coco.coco_metrics(random_case[0], [])
  assert metrics['box']['AP'] == metrics['mask']['AP'] == 0
  assert metrics['mask']['AR100'] == 0


def test_no_ground_truth_scores_minus_one(random_case):
  ground_truth = {**random_case[0], 'annotations': []}
  assert coco.coco_metrics(ground_truth, random_case[1])['mask']['AP'] == -1


def test_categories_average_to_the_whole(random_case):
  metrics = coco.coco_metrics(*random_case, per_category=True)
  assert set(metrics['per_category']) == {'two', 'five'}
  for kind in 'box', 'mask':
    rows = [metrics['per_category'][name][kind] for name in ('two', 'five')]
    assert rows[0]['AP'] != rows[1]['AP']
    for name, value in metrics[kind].items():
      np.testing.assert_allclose(np.mean([row[name] for row in rows]), value)


@pytest.mark.parametrize('limit', [1, 5])
def test_a_limit_below_ten_counts_that_many(random_case, limit):
  metrics = coco.coco_metrics(*random_case, max_detections=limit)['box']
  full = coco.coco_metrics(*random_case)['box']
  assert metrics['AR1'] == full['AR1']
  assert metrics['AR10'] == metrics[f'AR{limit}'] < full['AR10']


@pytest.mark.parametrize('change, words', [
    ({'image_id': 'dog.jpg'}, "result 7: image_id 'dog.jpg'"),
    ({'category_id': 80}, 'result 7: category_id 80'),
    ({'segmentation': None}, 'result 7 has no segmentation'),
    ({'segmentation': {'size': [9, 9], 'counts': 'a'}}, r'\[9, 9\].*\[60, 80'),
    ({'segmentation': {'size': [60, 80], 'counts': '0'}}, 'result 7: .*4800')])
def test_a_foreign_result_is_named(random_case, change, words):
  random_case[1][7].update(change)
  with pytest.raises(errors.InputError, match=words):
    coco.coco_metrics(*random_case)


def test_masks_need_the_sizes_of_their_images(random_case):
  expected = coco.coco_metrics(*random_case)['box']
  for image in random_case[0]['images']:
    del image['height']
  with pytest.raises(errors.InputError, match='image 0 has no height'):
    coco.coco_metrics(*random_case)
  assert coco.coco_metrics(*random_case, include_mask=False)['box'] == expected


_GOOD = {'image_id': 1, 'category_id': 1, 'score': 0.5, 'bbox': [0, 0, 2, 2]}


@pytest.mark.parametrize('text, words', [
    ('', 'not JSON'), ('{', 'not JSON'),
    ('{"a": 1}', 'a dict, expected a list'),
    ('[3]', 'result 0: not an object'),
    (json.dumps([_GOOD, {'image_id': 1, 'score': 1}]),
     'result 1: no category_id'),
    (json.dumps([{**_GOOD, 'score': float('nan')}]), 'result 0: score nan'),
    (json.dumps([{**_GOOD, 'bbox': [1, 2, 3]}]), 'result 0: bbox'),
    (json.dumps([{**_GOOD, 'image_id': [1]}]), 'result 0: image_id'),
    (json.dumps([{**_GOOD, 'segmentation': [[1, 2]]}]), 'not an RLE'),
    ('[{"image_id": 1, "category_id": 1, "score": 1}]', 'neither bbox')])
def test_a_bad_results_file_is_explained_in_one_line(tmp_path, text, words):
  path = tmp_path / 'results.json'
  path.write_text(text)
  with pytest.raises(errors.InputError, match=words) as info:
    coco_results.load_results(str(path))
  assert str(path) in str(info.value) and '\n' not in str(info.value)


def test_a_missing_results_file_is_named(tmp_path):
  with pytest.raises(errors.InputError, match='nothing.json: No such file'):
    coco_results.load_results(str(tmp_path / 'nothing.json'))


def test_a_good_results_file_reads_back(tmp_path):
  path = tmp_path / 'results.json'
  path.write_text(json.dumps([_GOOD]))
  assert coco_results.load_results(str(path)) == [_GOOD]


def _read_shared(*names):
  path = os.path.join(_DATA, *names)
  if not os.path.exists(path):
    pytest.skip('needs the data sets shared beside the repository')
  with open(path, encoding='utf-8') as file:
    return json.load(file)


def _as_results(ground_truth):
  """The ground truth as perfect predictions; crowds are not predictions."""
  sizes = {image['id']: (image['height'], image['width'])
           for image in ground_truth['images']}
  results = []
  for item in ground_truth['annotations']:
    if item['iscrowd']:
      continue
    mask = item['segmentation']
    if isinstance(mask, list):
      size = sizes[item['image_id']]
      mask = mask_utils.merge(mask_utils.frPyObjects(mask, *size))
    results.append({
        'image_id': item['image_id'], 'category_id': item['category_id'],
        'bbox': item['bbox'], 'segmentation': mask, 'score': 0.9})
  return results


def test_ground_truth_as_prediction_is_perfect_on_coco():
  ground_truth = _read_shared(
      'coco_tiny', 'annotations', 'instances_val2017.json')
  metrics = coco.coco_metrics(ground_truth, _as_results(ground_truth))
  for kind in 'box', 'mask':
    for name in 'AP', 'AP50', 'AP75', 'APS', 'APM', 'APL', 'AR100':
      assert metrics[kind][name] == pytest.approx(1)


def test_nuclei_are_perfect_at_400_detections_and_not_at_100():
  ground_truth = _read_shared('nuclei', 'annotations', 'instances_val.json')
  kept = {image['id'] for image in ground_truth['images'][:25]}
  for name, field in ('images', 'id'), ('annotations', 'image_id'):
    ground_truth[name] = [
        item for item in ground_truth[name] if item[field] in kept]
  results = _as_results(ground_truth)
  full = coco.coco_metrics(ground_truth, results, max_detections=400)
  cut = coco.coco_metrics(ground_truth, results)
  for kind in 'box', 'mask':
    assert full[kind]['AP'] == full[kind]['AR400'] == pytest.approx(1)
    assert cut[kind]['AP'] < 0.999
    assert cut[kind]['AR100'] < 0.999


# One image of 40 x 60 (height, width) seen at twice the size, moved by
# (10, 20): a box of the original is 2 * box - offset in the network's frame.
_TRUTH = {
    'images': [{'id': 'a', 'height': 40, 'width': 60},
               {'id': 'b', 'height': 40, 'width': 60}],
    'categories': [{'id': 7, 'name': 'cat'}, {'id': 9, 'name': 'dog'}],
    'annotations': [
        {'image_id': 'a', 'category_id': 9, 'iscrowd': 0,
         'segmentation': [[20, 10, 50, 10, 50, 30, 20, 30]]}]}


def _batch(source_id, count=1):
  image_info = [[40, 60], [80, 120], [2, 2], [10, 20]]
  masks = np.zeros([1, 3, 4, 4])
  masks[0, 0] = 1
  return {
      'source_id': tf.constant([source_id]),
      'image_info': tf.constant([image_info], tf.float32),
      'detection_boxes': tf.constant(
          [[[10, 20, 50, 80], [90, 20, 130, 90], [0, 0, 9, 9]]], tf.float32),
      'detection_scores': tf.constant([[0.9, 0.8, 0.7]]),
      'detection_classes': tf.constant([[2, 1, 0]]),
      'num_detections': tf.constant([count]),
      'detection_masks': tf.constant(masks, tf.float32)}


def _evaluator(**options):
  return coco_evaluator.CocoEvaluator(_TRUTH, **{
      'include_mask': True, 'max_detections': 100, 'category_ids': [7, 9],
      **options})


def test_evaluator_returns_boxes_and_masks_to_the_original_image():
  evaluator = _evaluator()
  evaluator.update_state(None, _batch(b'a', count=2))
  first, second = evaluator.results
  assert first['bbox'] == [20, 10, 30, 20]
  assert (first['image_id'], first['category_id']) == ('a', 9)
  assert first['score'] == 0.9
  mask = np.zeros((40, 60))
  mask[10:30, 20:50] = 1
  np.testing.assert_array_equal(mask_utils.decode(first['segmentation']), mask)
  assert second['bbox'] == [20, 40, 35, 0]  # below the image: clipped
  json.dumps(evaluator.results)


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
  assert [result['image_id'] for result in evaluator.results] == ['a']
  assert 'segmentation' not in evaluator.results[0]
  assert 'mask_AP' not in evaluator.result()
  evaluator.reset_states()
  assert not evaluator.results


def test_evaluator_refuses_a_foreign_image_or_label():
  with pytest.raises(errors.InputError, match="source id 'c'"):
    _evaluator().update_state(None, _batch(b'c'))
  with pytest.raises(errors.InputError, match='source id -1'):
    _evaluator(image_ids=['a', 'b']).update_state(None, _batch(-1))
  with pytest.raises(errors.InputError, match='label 0 has no category'):
    _evaluator().update_state(None, _batch(b'a', count=3))
