"""Results files: bad ones are explained, good ones read."""

import json

import pytest

from panet_tf import errors
from panet_tf.data import coco_results

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
    (json.dumps([{**_GOOD, 'image_id': True}]), 'image_id True is not an id'),
    (json.dumps([{**_GOOD, 'score': 10**400}]), 'score 10+ is not a finite'),
    (json.dumps([{**_GOOD, 'bbox': [10**400, 1, 2, 3]}]), r'bbox \[10+ is not'),
    (json.dumps([{**_GOOD, 'image_id': ['x' * 999]}]), 'x is not an id'),
    ('[' * 100000, 'not JSON'), ('[1' + '0' * 5000 + ']', 'not JSON'),
    ('[{"image_id": 1, "category_id": 1, "score": 1}]', 'neither bbox')])
def test_a_bad_results_file_is_explained_in_one_line(tmp_path, text, words):
  path = tmp_path / 'results.json'
  path.write_text(text)
  with pytest.raises(errors.InputError, match=words) as info:
    coco_results.load_results(str(path))
  assert str(path) in str(info.value) and '\n' not in str(info.value)
  assert len(str(info.value)) < len(str(path)) + 200


def test_a_missing_results_file_is_named(tmp_path):
  with pytest.raises(errors.InputError, match='nothing.json: No such file'):
    coco_results.load_results(str(tmp_path / 'nothing.json'))


def test_a_good_results_file_reads_back(tmp_path):
  path = tmp_path / 'results.json'
  path.write_text(json.dumps([_GOOD]))
  assert coco_results.load_results(str(path)) == [_GOOD]
