"""A predictions file becomes two tables and a metrics file."""

import json
import os

import pytest

from panet_tf import errors
from panet_tf.evaluation import evaluate

_SQUARE = [[5, 5, 45, 5, 45, 45, 5, 45]]
_RLE = {'size': [50, 50], 'counts': [255] + [40, 10] * 39 + [40, 255]}
_TRUTH = {
    'images': [{'id': 1, 'file_name': '1.jpg', 'height': 50, 'width': 50}],
    'categories': [{'id': 1, 'name': 'square'}],
    'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1, 'iscrowd': 0,
                     'area': 1600, 'bbox': [5, 5, 40, 40],
                     'segmentation': _SQUARE}]}
_RESULT = {'image_id': 1, 'category_id': 1, 'score': 0.9,
           'bbox': [5, 5, 40, 40], 'segmentation': _RLE}


def _run(folder, results, **options):
  truth, predictions = folder / 'truth.json', folder / 'predictions.json'
  truth.write_text(json.dumps(_TRUTH))
  predictions.write_text(json.dumps(results))
  return evaluate.evaluate_predictions(
      str(predictions), str(truth), str(folder / 'new' / 'output'), **options)


def test_tables_and_file_agree(tmp_path, capsys):
  metrics = _run(tmp_path, [_RESULT], max_detections=300)
  assert metrics['box']['AP'] == metrics['mask']['AP'] == pytest.approx(1)
  output = tmp_path / 'new' / 'output'
  assert os.listdir(output) == ['metrics.json']
  assert json.loads((output / 'metrics.json').read_text()) == metrics
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == '1 results, 1 images, 1 annotations'
  names, values = lines[1].split(), lines[4].split()
  assert names == list(metrics['mask']) and 'AR300' in names
  assert values[0] == 'mask'
  assert dict(zip(names, values[1:], strict=True))['AP'] == '100.0'
  assert dict(zip(names, values[1:], strict=True))['APS'] == '-'
  assert len(lines[1]) == len(lines[2])


def test_results_without_masks_give_the_box_table_only(tmp_path, capsys):
  result = {key: _RESULT[key] for key in _RESULT if key != 'segmentation'}
  assert set(_run(tmp_path, [result])) == {'box'}
  assert 'mask' not in capsys.readouterr().out


def test_no_results_score_zero(tmp_path):
  metrics = _run(tmp_path, [])
  assert metrics['box']['AP'] == metrics['mask']['AP'] == 0


def test_a_failed_evaluation_leaves_no_file(tmp_path):
  with pytest.raises(errors.InputError, match='image_id 2'):
    _run(tmp_path, [{**_RESULT, 'image_id': 2}])
  assert not os.listdir(tmp_path / 'new' / 'output')


def test_run_lengths_that_do_not_fill_the_image_are_refused(tmp_path):
  rle = {'size': [50, 50], 'counts': [255, 40]}
  with pytest.raises(errors.InputError, match='result 0: .*sum to 295'):
    _run(tmp_path, [{**_RESULT, 'segmentation': rle}])


def test_an_output_folder_that_is_a_file_is_named(tmp_path):
  (tmp_path / 'new').write_text('')
  with pytest.raises(errors.InputError, match='expected a folder'):
    _run(tmp_path, [_RESULT])


def test_a_metrics_file_that_is_a_folder_is_named(tmp_path):
  (tmp_path / 'new' / 'output' / 'metrics.json').mkdir(parents=True)
  with pytest.raises(errors.InputError, match='metrics.json: Is a directory'):
    _run(tmp_path, [_RESULT])
  assert os.listdir(tmp_path / 'new' / 'output') == ['metrics.json']


@pytest.mark.parametrize('limit', [0, -1])
def test_a_limit_below_one_is_refused(tmp_path, limit):
  with pytest.raises(errors.InputError, match=f'max_detections is {limit}; it'):
    _run(tmp_path, [_RESULT], max_detections=limit)
