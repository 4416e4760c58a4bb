"""The benchmark's rules, each on one picture whose AP is worked out by hand.

That the numbers are those of the benchmark's own program stands in
cityscapes_submission_test.py.
"""

import json
import pathlib

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
import pytest

from panet_tf import errors
from panet_tf.data import coco_json
from panet_tf.data import coco_results
from panet_tf.data.sources import cityscapes as classes
from panet_tf.evaluation import cityscapes
from panet_tf.evaluation import cityscapes_results
from tests.support.datasets import mini_cityscapes

_HEIGHT, _WIDTH = 40, 120
_CATEGORIES = [{'id': label, 'name': name}
               for name, label in classes.INSTANCE_CLASSES.items()]
_NAME = 'leftImg8bit/val/ulm/ulm_000000_00000{}_leftImg8bit.png'
_ROAD, _PERSON, _CAR = 7, 24, 26
_CAR_BOX = 0, 0, 20, 20
_ELSEWHERE = 40, 0, 20, 20


def _dataset(count=1):
  return {'categories': _CATEGORIES, 'images': [
      {'id': i, 'file_name': _NAME.format(i), 'height': _HEIGHT,
       'width': _WIDTH} for i in range(1, count + 1)]}


def _write_truth(root, regions, number=1):
  """Regions are (pixel value, (x, y, width, height)), painted on road."""
  ids = np.full([_HEIGHT, _WIDTH], _ROAD, np.uint16)
  for value, (x, y, width, height) in regions:
    ids[y:y + height, x:x + width] = value
  path = pathlib.Path(cityscapes_results.truth_path(
      root, _dataset(number)['images'][-1]))
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(ids).save(path)
  return path


def _rle(mask):
  rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
  return {'size': rle['size'], 'counts': rle['counts'].decode('ascii')}


def _result(score, box=_CAR_BOX, category_id=_CAR, image_id=1):
  x, y, width, height = box
  mask = np.zeros([_HEIGHT, _WIDTH], bool)
  mask[y:y + height, x:x + width] = True
  return {'image_id': image_id, 'category_id': category_id, 'score': score,
          'segmentation': _rle(mask)}


def _car_score(root, results, regions=()):
  """AP of cars where there is one, in _CAR_BOX, and other regions."""
  _write_truth(root, [(26000, _CAR_BOX), *regions])
  metrics = cityscapes.cityscapes_metrics(root, _dataset(), results)
  return metrics['per_class']['car']['AP']


def test_predictions_made_from_the_truth_score_one(tmp_path):
  """All the way: converter, predictions file, metrics."""
  mini_cityscapes.build(tmp_path)
  classes.convert_cityscapes(
      str(tmp_path), str(tmp_path), ('val',), num_workers=1)
  dataset = coco_json.read(tmp_path / 'cityscapes_val.json')
  predictions = tmp_path / 'predictions.json'
  predictions.write_text(json.dumps([
      {'score': 1 / a['id'],
       **{key: a[key] for key in ('image_id', 'category_id', 'segmentation')}}
      for a in dataset['annotations'] if not a['iscrowd']]))
  metrics = cityscapes.cityscapes_metrics(
      tmp_path, dataset, coco_results.load_results(predictions))
  per_class = metrics.pop('per_class')
  assert set(per_class) == set(classes.INSTANCE_CLASSES)
  for values in (metrics, *per_class.values()):
    assert values == pytest.approx({'AP': 1, 'AP50': 1}, abs=1e-12)


@pytest.mark.parametrize('scores, expected', [
    ([0.9], 1), ([0.9, 0.8], 1), ([0.8, 0.9], 1), ([0.9, 0.9], 0.75), ([], 0)])
def test_of_many_predictions_of_a_car_the_best_is_right(
    tmp_path, scores, expected):
  """Where both have one score it stands for a precision of a half."""
  assert _car_score(tmp_path, list(map(_result, scores))) == expected


# A better-scored error: precision 1/2 at recall 1, 0 at 0, then 1 at 0.
_WRONG, _IGNORED = 0.25, 1


@pytest.mark.parametrize('value, box, expected', [
    pytest.param(_ROAD, _ELSEWHERE, _WRONG, id='road'),
    pytest.param(24000, _ELSEWHERE, _WRONG, id='a person'),
    pytest.param(3, _ELSEWHERE, _IGNORED, id='out of roi'),
    pytest.param(_CAR, _ELSEWHERE, _IGNORED, id='a group of cars'),
    pytest.param(_PERSON, _ELSEWHERE, _WRONG, id='a group of persons'),
    pytest.param(29, _ELSEWHERE, _IGNORED, id='a group of caravans'),
    pytest.param(29000, _ELSEWHERE, _WRONG, id='a caravan'),
    # 200 of 400 pixels: not above 0.5, the least overlap.
    pytest.param(3, (40, 0, 10, 20), _WRONG, id='half on void'),
    # 280 of 400: above 0.5, 0.55, 0.6 and 0.65 of the ten overlaps.
    pytest.param(3, (40, 0, 14, 20), 0.4 * _IGNORED + 0.6 * _WRONG, id='0.7'),
    pytest.param(26001, (40, 0, 10, 9), _WRONG, id='90 of 400 on a car')])
def test_an_error_counts_unless_most_of_it_is_to_be_ignored(
    tmp_path, value, box, expected):
  results = [_result(0.9), _result(0.95, _ELSEWHERE)]
  assert _car_score(tmp_path, results, [(value, box)]) == pytest.approx(
      expected, abs=1e-12)


@pytest.mark.parametrize('value, box, expected', [
    pytest.param(26001, (40, 0, 10, 10), 1, id='a car of 100 pixels: found'),
    # 90 of its 100 pixels are on a car of 99: ignored up to 0.85.
    pytest.param(26001, (40, 0, 11, 9), 0.8 * _IGNORED + 0.2 * _WRONG,
                 id='one of 99'),
    # 2 x 40 of 100 pixels: above the six overlaps from 0.5 to 0.75.
    pytest.param(_CAR, (40, 0, 4, 10), 0.6 * _IGNORED + 0.4 * _WRONG,
                 id='a small group counts twice')])
def test_cars_under_100_pixels_are_ignored(tmp_path, value, box, expected):
  results = [_result(0.9), _result(0.95, (40, 0, 10, 10))]
  assert _car_score(tmp_path, results, [(value, box)]) == pytest.approx(
      expected, abs=1e-12)


def test_an_overlap_of_just_a_half_is_no_match(tmp_path):
  half = _car_score(tmp_path, [_result(0.9, (0, 0, 10, 20))])
  more = _car_score(tmp_path, [_result(0.9, (0, 0, 11, 20))])
  assert (half, more) == (0, pytest.approx(0.1, abs=1e-12))  # 0.55 of 1.


def test_a_class_whose_predictions_are_all_ignored_scores_zero(tmp_path):
  """The benchmark's program stops with an IndexError here."""
  assert _car_score(
      tmp_path, [_result(0.9, _ELSEWHERE)], [(3, _ELSEWHERE)]) == 0


def test_images_without_results_and_classes_without_instances(tmp_path):
  """The former count, the latter are left out of the mean."""
  for number in (1, 2):
    _write_truth(tmp_path, [(26000, _CAR_BOX), (24000, _ELSEWHERE)], number)
  results = [_result(0.9), _result(0.8, _ELSEWHERE, _PERSON),
             _result(0.8, _ELSEWHERE, _PERSON, image_id=2)]
  metrics = cityscapes.cityscapes_metrics(tmp_path, _dataset(2), results)
  # Half the cars: precision 1 at recall 1/2, and at 0.
  none = {'AP': -1, 'AP50': -1}
  assert metrics == {
      'AP': 0.75, 'AP50': 0.75, 'per_class': {
          **dict.fromkeys(classes.INSTANCE_CLASSES, none),
          'car': {'AP': 0.5, 'AP50': 0.5}, 'person': {'AP': 1, 'AP50': 1}}}
  assert cityscapes.table(metrics).splitlines() == [
      '               AP   AP50',
      'person      100.0  100.0',
      'rider           -      -',
      'car          50.0   50.0',
      'truck           -      -',
      'bus             -      -',
      'train           -      -',
      'motorcycle      -      -',
      'bicycle         -      -',
      'mean         75.0   75.0']


def test_no_instance_at_all_has_no_mean(tmp_path):
  _write_truth(tmp_path, [])
  metrics = cityscapes.cityscapes_metrics(
      tmp_path, _dataset(), [_result(0.9)])
  assert metrics['AP'] == metrics['AP50'] == -1


@pytest.mark.parametrize('change, message', [
    ({'image_id': 7}, "result 0: image_id 7 .* ids are like 1"),
    ({'category_id': 29}, 'result 0: category_id 29 .*: 24 person, 25 rider'),
    ({'segmentation': None}, r'result 0: image 1 \(leftImg8bit/.*: no segm'),
    ({'segmentation': {'size': [120, 40], 'counts': [4800]}},
     r'result 0: image 1 \(.*size \[120, 40\], its .* \[40, 120\]'),
    ({'segmentation': {'size': [40, 120], 'counts': [4799]}},
     'result 0: image 1 .* sum to 4799')])
def test_a_result_that_does_not_fit_is_named(tmp_path, change, message):
  with pytest.raises(errors.InputError, match=message) as caught:
    _car_score(tmp_path, [{**_result(0.9), **change}])
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('image, message', [
    ({'file_name': 'ulm.jpg'}, "image 1: .*'ulm.jpg' should be like leftImg8"),
    ({'file_name': 'leftImg8bit/val/../ulm_000000_000001_leftImg8bit.png'},
     'should be like leftImg8bit/val/aachen/'),
    ({'file_name': _NAME.format(2)}, 'image 1: .*000002_gtFine_instanceIds.png:'
     ' No such file'),
    ({'height': 41}, 'image 1: .*_instanceIds.png: .* 120x40, .* 120x41'),
    ({'width': None}, 'image 1 .*.png.: has no height and width')])
def test_an_image_that_does_not_fit_is_named(tmp_path, image, message):
  _write_truth(tmp_path, [])
  dataset = _dataset()
  dataset['images'][0].update(image)
  with pytest.raises(errors.InputError, match=message):
    cityscapes.cityscapes_metrics(tmp_path, dataset, [])


def test_a_frame_that_is_there_twice_and_categories_of_coco_are_refused():
  twice = _dataset(2)
  twice['images'][1]['file_name'] = _NAME.format(1)
  with pytest.raises(errors.InputError, match='images 1 and 2 .*_000001; each'):
    cityscapes_results.results_per_image(twice, [])
  coco = {**_dataset(), 'categories': [{'id': 3, 'name': 'car'}]}
  with pytest.raises(errors.InputError, match="category 3 'car' .* 26 car"):
    cityscapes_results.results_per_image(coco, [])


@pytest.mark.parametrize('size', [0, 60])
def test_a_damaged_instance_image_is_named(tmp_path, size):
  path = _write_truth(tmp_path, [])
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(errors.InputError, match='image 1: .*_instanceIds.png: '):
    cityscapes.cityscapes_metrics(tmp_path, _dataset(), [])


@pytest.mark.parametrize('pixels, message', [
    (np.full([_HEIGHT, _WIDTH], 65535, np.uint16), 'value 65535 is no inst'),
    (np.full([_HEIGHT, _WIDTH], 34, np.uint16), 'value 34 is no instance'),
    (np.zeros([_HEIGHT, _WIDTH, 3], np.uint8), 'mode RGB, should be 16-bit')])
def test_pixels_that_are_no_instances_are_named(tmp_path, pixels, message):
  Image.fromarray(pixels).save(_write_truth(tmp_path, []))
  with pytest.raises(errors.InputError, match=f'_instanceIds.png: .*{message}'):
    cityscapes.cityscapes_metrics(tmp_path, _dataset(), [])
