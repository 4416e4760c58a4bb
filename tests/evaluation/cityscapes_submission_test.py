"""The benchmark's own program reads the folder, and agrees with our numbers."""

import copy
import math
import os
import random

from cityscapesscripts.evaluation import (
  evalInstanceLevelSemanticLabeling as benchmark,
)
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
import pytest

from panet_tf import errors
from panet_tf.data.sources import cityscapes as classes
from panet_tf.evaluation import cityscapes
from panet_tf.evaluation import cityscapes_results
from panet_tf.evaluation import cityscapes_submission

_HEIGHT, _WIDTH = 90, 150
_CLASS_IDS = list(classes.INSTANCE_CLASSES.values())
_IMAGES = [
    {'id': i, 'height': _HEIGHT, 'width': _WIDTH, 'file_name':
     f'leftImg8bit/val/{city}/{city}_00000{i}_000019_leftImg8bit.png'}
    for i, city in enumerate(('ulm', 'ulm', 'bonn', 'bonn', 'bonn'), 1)]
_DATASET = {'images': _IMAGES, 'categories': [
    {'id': i, 'name': name} for name, i in classes.INSTANCE_CLASSES.items()]}


def _random_box(rng, least, most):
  height, width = rng.integers(least, most, 2)
  y, x = rng.integers(0, _HEIGHT - height), rng.integers(0, _WIDTH - width)
  return slice(y, y + height), slice(x, x + width)


def _random_ids(rng):
  """Labels of all kinds, groups, instances large and small, over each other."""
  ids = np.zeros([_HEIGHT, _WIDTH], np.uint16)
  for label in rng.permutation(24):
    ids[_random_box(rng, 10, 60)] = label
  for number in range(30):
    # Caravans and trailers too, in one image in two.
    label = rng.choice([*_CLASS_IDS, 24, 26, 29, 30])
    is_group = rng.random() < 0.2
    ids[_random_box(rng, 5, 30)] = label if is_group else label * 1000 + number
  return ids


def _write_truth(root, seed):
  """Instance images of all but the last frame, which is road only."""
  rng = np.random.default_rng(seed)
  all_ids = [_random_ids(rng) for _ in _IMAGES[1:]]
  all_ids.append(np.full([_HEIGHT, _WIDTH], 7, np.uint16))
  for image, ids in zip(_IMAGES, all_ids, strict=True):
    path = cityscapes_results.truth_path(root, image)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(ids).save(path)
  return all_ids


def _perturbed(rng, ids, value):
  """Masks that a detector might give for one region of an instance image."""
  mask = ids == value
  yield mask
  yield np.roll(mask, rng.integers(-6, 7, 2), (0, 1))
  yield mask & (rng.random(mask.shape) < rng.uniform(0.4, 1))
  box = np.zeros_like(mask)
  box[_random_box(rng, 1, 12)] = True
  yield box
  yield mask | box
  yield np.zeros_like(mask)


def _random_results(rng, all_ids):
  """Shifted, thinned, doubled, misnamed, tied, stray, empty predictions."""
  results = []
  for image, ids in zip(_IMAGES[1:], all_ids[1:], strict=True):  # One has none.
    for value in np.unique(ids):
      label = int(value // 1000 or value)
      for mask in _perturbed(rng, ids, value):
        if rng.random() < 0.5:
          continue
        is_wrong = label not in _CLASS_IDS or rng.random() < 0.15
        score = rng.random()
        results.append({
            'image_id': image['id'],
            'category_id': int(rng.choice(_CLASS_IDS)) if is_wrong else label,
            'score': round(score, 1) if rng.random() < 0.5 else score,
            'segmentation': _rle(mask)})
  random.Random(0).shuffle(results)
  return results


def _rle(mask):
  rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
  return {'size': rle['size'], 'counts': rle['counts'].decode('ascii')}


@pytest.fixture(name='score')
def fixture_score(tmp_path, monkeypatch):
  """(root, folder) -> what the benchmark's program says of a submission."""
  # What cityscapesscripts 2.3.0 cannot do with NumPy 2.4: it has no `in1d`, and
  # its counts are no Python integers, which go to a JSON file nobody reads.
  monkeypatch.setattr(np, 'in1d', np.isin, raising=False)
  monkeypatch.setattr(benchmark, 'writeDict2JSON', lambda *_: None)

  def run(root, folder):
    args = copy.copy(benchmark.args)
    args.predictionPath, args.predictionWalk = str(folder), None
    args.gtInstancesFile = str(tmp_path / 'absent.json')  # A cache.
    args.quiet, args.JSONOutput = True, False
    truths = [cityscapes_results.truth_path(root, i) for i in _IMAGES]
    predictions = [benchmark.getPrediction(truth, args) for truth in truths]
    return benchmark.evaluateImgLists(predictions, truths, args)['averages']

  return run


def _same(ours, theirs):
  """Whether a number is the benchmark's; its NaN is our -1."""
  return ours == -1 if math.isnan(theirs) else ours == pytest.approx(
      theirs, rel=0, abs=1e-12)


def _agrees(metrics, averages):
  assert _same(metrics['AP'], averages['allAp'])
  assert _same(metrics['AP50'], averages['allAp50%'])
  assert set(metrics['per_class']) == set(averages['classes'])
  for name, values in metrics['per_class'].items():
    assert _same(values['AP'], averages['classes'][name]['ap']), name
    assert _same(values['AP50'], averages['classes'][name]['ap50%']), name
  return True


@pytest.mark.parametrize('seed', range(6))
def test_the_benchmark_says_the_same_of_perturbed_predictions(
    tmp_path, score, seed):
  all_ids = _write_truth(tmp_path, seed)
  results = _random_results(np.random.default_rng(seed), all_ids)
  folder = tmp_path / 'submission'
  assert cityscapes_submission.write_submission(
      _DATASET, results, folder) == len(results)
  metrics = cityscapes.cityscapes_metrics(tmp_path, _DATASET, results)
  assert 0.05 < metrics['AP'] < metrics['AP50'] < 0.95
  assert _agrees(metrics, score(tmp_path, folder))


def test_the_benchmark_says_the_same_where_there_is_nothing(tmp_path, score):
  """No predictions at all, and classes without instances."""
  _write_truth(tmp_path, 0)
  for image in _IMAGES[1:]:
    ids = np.full([_HEIGHT, _WIDTH], 7, np.uint16)
    ids[:20, :20] = 26000
    Image.fromarray(ids).save(cityscapes_results.truth_path(tmp_path, image))
  folder = tmp_path / 'submission'
  cityscapes_submission.write_submission(_DATASET, [], folder)
  metrics = cityscapes.cityscapes_metrics(tmp_path, _DATASET, [])
  assert metrics['per_class']['car'] == {'AP': 0, 'AP50': 0}
  assert _agrees(metrics, score(tmp_path, folder))


def test_truth_as_a_submission_scores_one(tmp_path, score):
  all_ids = _write_truth(tmp_path, 1)
  results = [
      {'image_id': image['id'], 'category_id': int(value) // 1000, 'score': 1,
       'segmentation': _rle(ids == value)}
      for image, ids in zip(_IMAGES, all_ids, strict=True)
      for value in np.unique(ids)
      if value // 1000 in _CLASS_IDS]
  folder = tmp_path / 'submission'
  cityscapes_submission.write_submission(_DATASET, results, folder)
  metrics = cityscapes.cityscapes_metrics(tmp_path, _DATASET, results)
  assert metrics['AP'] == metrics['AP50'] == 1
  assert _agrees(metrics, score(tmp_path, folder))


def test_processes_change_nothing(tmp_path):
  all_ids = _write_truth(tmp_path, 2)
  results = _random_results(np.random.default_rng(2), all_ids)
  scored, files = zip(*[
      (cityscapes.cityscapes_metrics(
          tmp_path, _DATASET, results, num_workers=workers),
       _files(results, tmp_path / f'{workers}', workers))
      for workers in (1, 2)], strict=True)
  assert scored[0] == scored[1]
  assert files[0] == files[1] and len(files[0]) == len(_IMAGES) + len(results)


def _files(results, folder, num_workers):
  cityscapes_submission.write_submission(
      _DATASET, results, folder, num_workers)
  return {path.relative_to(folder): path.read_bytes()
          for path in folder.rglob('*') if path.is_file()}


def test_a_line_gives_mask_label_and_the_very_same_score(tmp_path):
  masks = [np.zeros([_HEIGHT, _WIDTH], bool) for _ in range(3)]
  for number, mask in enumerate(masks):
    mask[number:10, 3 + number:21] = True
  scores = 1 / 3, 1e-7, 1
  results = [{'image_id': 3, 'category_id': 24 + i, 'score': scores[i],
              'segmentation': _rle(mask)} for i, mask in enumerate(masks)]
  folder = tmp_path / 'new' / 'submission'
  cityscapes_submission.write_submission(_DATASET, results, f'{folder}/')
  assert os.listdir(tmp_path / 'new') == ['submission']
  names = sorted(os.listdir(folder))
  assert names == sorted(
      ['masks', *(os.path.basename(image['file_name']).replace('.png', '.txt')
                  for image in _IMAGES)])
  text = (folder / 'bonn_000003_000019_leftImg8bit.txt').read_text()
  lines = [line.split(' ') for line in text.splitlines()]
  assert [int(label) for _, label, _ in lines] == [24, 25, 26]
  assert tuple(float(score) for *_, score in lines) == scores
  for (path, *_), mask in zip(lines, masks, strict=False):
    with Image.open(folder / path) as pixels:
      assert pixels.size == (_WIDTH, _HEIGHT)
      np.testing.assert_array_equal(np.asarray(pixels.convert('L')) != 0, mask)
  assert not (folder / 'ulm_000001_000019_leftImg8bit.txt').read_text()


@pytest.mark.parametrize('make', [
    lambda path: (path.mkdir(), (path / 'kept').write_text('')),
    lambda path: path.write_text('')], ids=['full', 'file'])
def test_what_is_there_is_not_written_over(tmp_path, make):
  folder = tmp_path / 'submission'
  make(folder)
  with pytest.raises(errors.InputError, match='submission: .* folder') as e:
    cityscapes_submission.write_submission(_DATASET, [], folder)
  assert '\n' not in str(e.value)
  assert list(tmp_path.rglob('*'))[1:] == list(folder.rglob('*'))
  assert not folder.is_dir() or os.listdir(folder) == ['kept']


def test_an_empty_folder_is_taken(tmp_path):
  cityscapes_submission.write_submission(_DATASET, [], tmp_path)
  assert len(os.listdir(tmp_path)) == len(_IMAGES) + 1


def test_a_bad_result_leaves_no_folder(tmp_path):
  good = {'image_id': 1, 'category_id': 26, 'score': 0.5,
          'segmentation': _rle(np.zeros([_HEIGHT, _WIDTH]))}
  bad = {**good, 'image_id': 2, 'segmentation': _rle(np.zeros([3, 4]))}
  with pytest.raises(errors.InputError, match=r'result 1: image 2 .*\[3, 4\]'):
    cityscapes_submission.write_submission(
        _DATASET, [good, bad], tmp_path / 'submission')
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('height, width', [(2**20, 2**20), (20000, 20000)])
def test_an_image_that_nobody_could_open_is_refused(tmp_path, height, width):
  area = height * width
  dataset = {**_DATASET, 'images': [
      {**_IMAGES[0], 'height': height, 'width': width}]}
  result = {'image_id': 1, 'category_id': 24, 'score': 1, 'segmentation': {
      'size': [height, width], 'counts': [0, area]}}
  with pytest.raises(errors.InputError, match=f'image 1 .*{width}x{height}'):
    cityscapes_submission.write_submission(
        dataset, [result], tmp_path / 'submission')
  assert not os.listdir(tmp_path)
