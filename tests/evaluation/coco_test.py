"""COCO metrics against plain pycocotools, and on real data."""

import copy
import json
import os

import numpy as np
from pycocotools import coco as pycoco
from pycocotools import cocoeval
from pycocotools import mask as mask_utils
import pytest

from panet_tf import errors
from panet_tf.evaluation import coco
from panet_tf.evaluation import coco_instances

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


def _plain(ground_truth, results, iou_type, max_detections=100):
  """pycocotools as its authors use it; a COCOeval, accumulated."""
  dataset = pycoco.COCO()
  dataset.dataset = copy.deepcopy(ground_truth)
  dataset.createIndex()
  results = copy.deepcopy(results)
  if iou_type == 'segm':  # as in the COCO challenge: a mask has its own area
    for result in results:
      del result['bbox']
  found = dataset.loadRes(results)
  evaluation = cocoeval.COCOeval(dataset, found, iou_type)
  evaluation.params.maxDets = [1, min(10, max_detections), max_detections]
  evaluation.evaluate()
  evaluation.accumulate()
  return evaluation


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
    plain = _plain(*random_case, iou_type)
    plain.summarize()
    np.testing.assert_allclose(
        list(metrics[kind].values()), plain.stats, rtol=0, atol=1e-12)
  assert 0.1 < metrics['mask']['AP'] < 0.9


def _mixed_case(seed):
  """Everything at once; images 200 x 300, ids from 1.

  Some images without annotations or without results, crowds, categories without
  ground truth or with crowds only, up to 250 results of an image, in any order,
  more than one per object; odd seeds: boxes and scores with many ties.
  """
  rng = np.random.default_rng(seed)
  height, width, num_categories = 200, 300, int(rng.integers(2, 7))
  numbers = [np.array, np.round][seed % 2]

  def item(image_id, category, box):
    x, y, w, h = np.array(box).astype(int)
    canvas = np.zeros((height, width), np.uint8, order='F')
    canvas[y:y + h, x:x + w] = 1
    canvas[y + h // 2:y + h, x:x + w // 3] = 0
    return {'image_id': image_id, 'category_id': int(category),
            'bbox': numbers(box).tolist(),
            'segmentation': mask_utils.encode(canvas)}

  def boxes(count):
    sizes = np.exp(rng.normal(3.3, 1.1, (count, 2))).clip(1, [width, height])
    corners = rng.uniform(0, 1, (count, 2)) * ([width, height] - sizes)
    return np.concatenate([corners, sizes], axis=1)

  annotations, results = [], []
  for image_id in range(1, int(rng.integers(6, 9))):
    if rng.uniform() < 0.8:
      for box in boxes(rng.integers(0, 25)):
        category = rng.integers(1, num_categories)
        annotations.append({
            **item(image_id, category, box), 'id': len(annotations) + 1,
            'area': float(box[2] * box[3] * rng.uniform(0.5, 1)),
            'iscrowd': int(category == 1 and seed % 3 == 0
                           or rng.uniform() < 0.15)})
    if rng.uniform() < 0.8:
      for found in annotations:
        if found['image_id'] == image_id:
          for _ in range(rng.integers(0, 4)):
            box = found['bbox'] + rng.normal(0, 2, 4) * (
                0.03 * np.tile(found['bbox'][2:], 2))
            results.append(item(image_id, found['category_id'],
                                np.maximum(box, [0, 0, 1, 1])))
      results += [item(image_id, rng.integers(1, num_categories + 1), box)
                  for box in boxes(rng.integers(0, 200))]
  rng.shuffle(results)
  for result in results:
    result['score'] = round(float(rng.uniform()), 1 if seed % 2 else 12)
  return {'annotations': annotations,
          'images': [{'id': i, 'height': height, 'width': width}
                     for i in range(1, 10)],
          'categories': [{'id': i, 'name': str(i)}
                         for i in range(1, num_categories + 1)]}, results


@pytest.mark.parametrize('seed', range(8))
def test_all_arrays_equal_those_of_pycocotools(seed):
  ground_truth, results = _mixed_case(seed)
  truth, found = [
      coco_instances.from_items(items, noun, ground_truth, True) for items, noun
      in ((ground_truth['annotations'], 'annotation'), (results, 'result'))]
  for iou_type, limit in (
      ('bbox', 100), ('segm', 100), ('bbox', 3), ('segm', 250)):
    arrays = coco.evaluate(
        truth, found, len(ground_truth['categories']), iou_type, limit)
    plain = _plain(ground_truth, results, iou_type, limit).eval
    for name in 'precision', 'recall':
      np.testing.assert_allclose(
          arrays[name], plain[name], rtol=0, atol=1e-9,
          err_msg=f'{iou_type} {limit} {name}')
    assert (plain['precision'] > 0).any()


def test_boxes_of_masks_are_as_large_as_the_masks():
  """So COCO.loadRes has it: of a crooked mask that is not its box's area."""
  ground_truth, results = _mixed_case(0)
  found = []
  for result in results:
    result = {key: result[key] for key in result if key != 'bbox'}
    if mask_utils.area(result['segmentation']):
      found.append(result)
  metrics = coco.coco_metrics(ground_truth, found)
  for kind, iou_type in (('box', 'bbox'), ('mask', 'segm')):
    dataset = pycoco.COCO()
    dataset.dataset = copy.deepcopy(ground_truth)
    dataset.createIndex()
    plain = cocoeval.COCOeval(
        dataset, dataset.loadRes(copy.deepcopy(found)), iou_type)
    plain.evaluate()
    plain.accumulate()
    plain.summarize()
    np.testing.assert_allclose(
        list(metrics[kind].values()), plain.stats, rtol=0, atol=1e-9)
  boxed = [{**result, 'bbox': mask_utils.toBbox(
      result['segmentation']).tolist()} for result in found]
  assert coco.coco_metrics(ground_truth, boxed)['box'] != metrics['box']


def test_null_says_no_more_than_a_missing_field(random_case):
  ground_truth, results = random_case
  fields = 'bbox', 'area', 'iscrowd'
  missing, null = [{**ground_truth, 'annotations': [
      {**{key: item[key] for key in item if key not in fields}, **extra}
      for item in ground_truth['annotations']]}
                   for extra in ({}, dict.fromkeys(fields))]
  assert coco.coco_metrics(null, results) == coco.coco_metrics(missing, results)


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


def test_masks_of_an_image_beyond_run_lengths_are_refused(random_case):
  ground_truth, results = random_case
  ground_truth['images'][0].update(height=10**6, width=10**6)
  ground_truth['annotations'] = []
  results[-1]['segmentation'] = {'size': [10**6] * 2, 'counts': [0, 10**12]}
  with pytest.raises(errors.InputError, match='image 0: its size is 1000000x1'):
    coco.coco_metrics(ground_truth, results[-1:])


def test_a_message_does_not_repeat_numbers_of_thousands_of_digits(random_case):
  ground_truth, results = random_case
  results[0]['segmentation'] = {
      'size': [_HEIGHT, _WIDTH], 'counts': [10**4000, 1]}
  with pytest.raises(errors.InputError, match='result 0: segm') as info:
    coco.coco_metrics(ground_truth, results)
  assert len(str(info.value)) < 300


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
