"""AP50 and errors of each image: known answers, a slow twin, pycocotools."""

import copy

import numpy as np
from pycocotools import coco as pycoco
from pycocotools import cocoeval
from pycocotools import mask as mask_utils
import pytest

from panet_tf import errors
from panet_tf.evaluation import per_image

_SIZE = 100
_BOX = [10, 10, 20, 20]  # xywh, as all here.
_SHIFTED = [13, 10, 20, 20]  # IoU 17 / 23 with it.
_FAR = [60, 60, 20, 20]


def _truth(*rows):
  """Ground truth of image 7 from (category, box) or (category, box, 1)."""
  return {
      'images': [{'id': 7, 'height': _SIZE, 'width': _SIZE}],
      'categories': [{'id': 3, 'name': 'cat'}, {'id': 8, 'name': 'dog'}],
      'annotations': [
          {'id': i, 'image_id': 7, 'category_id': row[0], 'bbox': row[1],
           'area': row[1][2] * row[1][3], 'iscrowd': int(len(row) > 2)}
          for i, row in enumerate(rows, 1)]}


def _results(*rows):
  """Results of image 7 from (category, box, score)."""
  return [{'image_id': 7, 'category_id': category, 'bbox': box, 'score': score}
          for category, box, score in rows]


def _score(truth, results, threshold=0.5):
  return per_image.image_scores(truth, results, threshold)[7]


def _errors(score):
  return (score.false_positives, score.missed, score.wrong_class,
          score.duplicates)


@pytest.mark.parametrize('results, expected, ap50', [
    ([(3, _SHIFTED, 0.9)], (0, 0, 0, 0), 1),
    ([], (0, 1, 0, 0), 0),
    ([(3, _SHIFTED, 0.4)], (0, 1, 0, 0), 1),  # Not drawn, but counts for AP.
    ([(3, _FAR, 0.9)], (1, 1, 0, 0), 0),
    ([(8, _SHIFTED, 0.9)], (0, 0, 1, 0), 0),
    ([(8, _SHIFTED, 0.9), (8, _BOX, 0.8)], (1, 0, 1, 0), 0),
    ([(3, _BOX, 0.9), (3, _SHIFTED, 0.8)], (0, 0, 0, 1), 1),
    ([(3, _BOX, 0.9), (8, _SHIFTED, 0.8)], (1, 0, 0, 0), 1),
    ([(3, _FAR, 0.9), (3, _BOX, 0.8)], (1, 0, 0, 0), 0.5),
])
def test_one_object(results, expected, ap50):
  score = _score(_truth((3, _BOX)), _results(*results))
  assert _errors(score) == expected
  assert score.errors == sum(expected) and score.truths == 1
  assert score.ap50 == pytest.approx(ap50)


def test_ap50_is_the_mean_over_the_classes_in_the_truth():
  truth = _truth((3, _BOX), (8, _FAR))
  assert _score(truth, _results((3, _BOX, 0.9))).ap50 == 0.5
  only_cats = _truth((3, _BOX))
  assert _score(only_cats, _results(
      (3, _BOX, 0.9), (8, _FAR, 0.99))).ap50 == 1


def test_half_of_the_objects_give_51_of_101_points_of_recall():
  score = _score(_truth((3, _BOX), (3, _FAR)), _results((3, _BOX, 0.9)))
  assert score.ap50 == pytest.approx(51 / 101)


def test_what_lies_in_a_crowd_of_its_class_is_ignored():
  crowd = (3, [0, 0, 100, 100], 1)
  found = _results((3, _FAR, 0.9), (3, _SHIFTED, 0.8), (8, _FAR, 0.7))
  score = _score(_truth(crowd, (3, _BOX)), found)
  assert _errors(score) == (1, 0, 0, 0)  # The dog.
  assert score.ap50 == 1 and score.truths == 1


def test_an_image_without_objects_has_no_ap_but_errors():
  for truth in _truth(), _truth((8, _BOX, 1)):
    score = _score(truth, _results((3, _FAR, 0.9)))
    assert score.ap50 is None and _errors(score) == (1, 0, 0, 0)


def test_all_objects_of_a_crowded_image_can_be_found():
  boxes = [[5 * (i % 20), 5 * (i // 20), 4, 4] for i in range(300)]
  score = _score(_truth(*((3, box) for box in boxes)),
                 _results(*((3, box, 0.9) for box in boxes)))
  assert score.ap50 == 1 and score.errors == 0


def test_masks_are_compared_if_all_have_one_else_boxes():
  halves = np.zeros([2, _SIZE, _SIZE], np.uint8)
  halves[0, 10:30, 10:20], halves[1, 10:30, 20:30] = 1, 1
  rles = [mask_utils.encode(np.asfortranarray(half)) for half in halves]
  truth, results = _truth((3, _BOX)), _results((3, _BOX, 0.9))
  truth['annotations'][0]['segmentation'] = rles[0]
  assert _score(truth, results).errors == 0
  results[0]['segmentation'] = rles[1]
  assert _errors(_score(truth, results)) == (1, 1, 0, 0)


def test_a_result_of_an_unknown_category_is_named():
  with pytest.raises(errors.InputError, match='category_id 4 is not in'):
    _score(_truth((3, _BOX)), _results((4, _BOX, 0.9)))


def _random_case(seed):
  """Three images of 12 objects, some crowds, and twice as many detections."""
  rng = np.random.default_rng(seed)
  truth, results = _truth(), []
  truth['images'] = [{'id': i, 'height': _SIZE, 'width': _SIZE}
                     for i in ('b', 'a', 4)]
  for image in truth['images']:
    corners = rng.integers(0, 60, (12, 2))
    for box in np.concatenate([corners, rng.integers(10, 40, (12, 2))], 1):
      category = int(rng.choice([3, 8]))
      truth['annotations'].append({
          'id': len(truth['annotations']) + 1, 'image_id': image['id'],
          'category_id': category, 'bbox': box.tolist(),
          'area': int(box[2] * box[3]), 'iscrowd': int(rng.uniform() < 0.2)})
      for _ in range(2):
        results.append({
            'image_id': image['id'],
            'category_id': int(rng.choice([category, 3, 8])),
            'bbox': (box + rng.integers(-4, 5, 4)).tolist(),
            'score': round(float(rng.uniform()), 1 if seed % 2 else 9)})
  return truth, results


def _slow_errors(truth, results, image, threshold):
  """The definitions, pair by pair."""
  def iou(found, wanted):
    return mask_utils.iou(np.array([found['bbox']], float),
                          np.array([wanted['bbox']], float),
                          [wanted['iscrowd']])[0, 0]
  wanted = [a for a in truth['annotations'] if a['image_id'] == image]
  found = sorted((r for r in results
                  if r['image_id'] == image and r['score'] >= threshold),
                 key=lambda r: -r['score'])
  taken, unmatched = {}, []
  for one in found:
    best = None
    for crowd in 0, 1:
      if best is None:
        for w in wanted:
          if (w['category_id'] == one['category_id'] and w['iscrowd'] == crowd
              and (crowd or w['id'] not in taken) and iou(one, w) >= 0.5
              and (best is None or iou(one, w) >= iou(one, best))):
            best = w
    if best is None:
      unmatched.append(one)
    else:
      taken[best['id']] = True
  left = [w for w in wanted if not w['iscrowd'] and w['id'] not in taken]
  wrong = twice = false = 0
  for one in unmatched:
    others = [w for w in left if w['category_id'] != one['category_id']
              and iou(one, w) >= 0.5]
    if others:
      left.remove(max(others, key=lambda w: iou(one, w)))
      wrong += 1
    elif any(w['category_id'] == one['category_id'] and iou(one, w) >= 0.5
             for w in wanted):
      twice += 1
    else:
      false += 1
  return false, len(left), wrong, twice


@pytest.mark.parametrize('seed', range(6))
def test_errors_are_those_of_a_slow_twin(seed):
  truth, results = _random_case(seed)
  scores = per_image.image_scores(truth, results, 0.3)
  expected = {image['id']: _slow_errors(truth, results, image['id'], 0.3)
              for image in truth['images']}
  assert {image: _errors(score) for image, score in scores.items()} == expected
  assert all(sum(each[i] for each in expected.values()) for i in range(3))


@pytest.mark.parametrize('of_masks', [False, True])
@pytest.mark.parametrize('seed', range(6))
def test_ap50_is_pycocotools_of_the_image_alone(seed, of_masks):
  truth, results = _random_case(seed)
  if of_masks:
    for item in (*truth['annotations'], *results):
      canvas = np.zeros([_SIZE, _SIZE], np.uint8, order='F')
      x, y, w, h = item['bbox']
      canvas[max(y, 0):y + h, max(x, 0):x + w] = 1
      canvas[max(y, 0):y + h // 2, max(x, 0):x + w // 3] = 0
      item['segmentation'] = mask_utils.encode(canvas)
  scores = per_image.image_scores(truth, results, 0.3)
  dataset = pycoco.COCO()
  dataset.dataset = copy.deepcopy(truth)
  for number, image in enumerate(dataset.dataset['images']):
    for items in (dataset.dataset['annotations'],):
      for item in items:
        if item['image_id'] == image['id']:
          item['image_id'] = number
    image['old'], image['id'] = image['id'], number
  numbers = {image['old']: image['id'] for image in dataset.dataset['images']}
  dataset.createIndex()
  found = dataset.loadRes([
      {**result, 'image_id': numbers[result['image_id']]}
      for result in copy.deepcopy(results)])
  for image_id, number in numbers.items():
    evaluation = cocoeval.COCOeval(
        dataset, found, 'segm' if of_masks else 'bbox')
    evaluation.params.imgIds = [number]
    evaluation.params.maxDets = [1, 10, 1000]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval['precision'][0, :, :, 0, 2]
    assert scores[image_id].ap50 == pytest.approx(
        precision[precision > -1].mean(), abs=1e-12)
