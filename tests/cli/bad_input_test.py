"""A person's mistakes: one line, exit code 2, nothing half-written."""

import json
import os

import numpy as np
from PIL import Image
import pytest

from panet_tf import errors
from panet_tf.cli import front_end
from panet_tf.cli import main
from panet_tf.configs import checks
from panet_tf.configs import experiments
from panet_tf.data.sources import shapes
from panet_tf.training import loop

_COCO = {'images': [{'id': 1, 'file_name': 'a.png', 'height': 8, 'width': 8}],
         'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1,
                          'segmentation': [[1, 1, 6, 1, 6, 6]]}],
         'categories': [{'id': 1, 'name': 'thing'}]}


@pytest.fixture
def folder(tmp_path):
  Image.fromarray(np.zeros([8, 8, 3], np.uint8)).save(tmp_path / 'a.png')
  (tmp_path / 'a.json').write_text(json.dumps(_COCO))
  return tmp_path


def _line(capsys, arguments):
  """The single line that a failing verb prints."""
  assert main.main([str(argument) for argument in arguments]) == 2
  err = capsys.readouterr().err.strip().splitlines()
  line = err[-1]
  assert line.startswith('error: ') and 'Traceback' not in '\n'.join(err)
  return line


def _convert(folder, capsys, image_dir=None, annotations=None):
  line = _line(capsys, [
      'data', 'coco', '--image_dir', image_dir or folder, '--annotations',
      annotations or folder / 'a.json', '--output_prefix',
      folder / 'shards' / 'train', '--num_shards', 1])
  made = folder / 'shards'
  assert not made.exists() or not os.listdir(made)
  return line


def test_missing_folder(folder, capsys):
  assert str(folder / 'nowhere') in _convert(folder, capsys, folder / 'nowhere')


def test_missing_annotation_file(folder, capsys):
  path = folder / 'none.json'
  assert str(path) in _convert(folder, capsys, annotations=path)


@pytest.mark.parametrize('text', ['', '{', '[]', '{"images": []}', '7'])
def test_json_that_is_empty_broken_or_not_coco(folder, capsys, text):
  (folder / 'bad.json').write_text(text)
  assert 'bad.json' in _convert(folder, capsys, annotations=folder / 'bad.json')


def test_image_that_does_not_open(folder, capsys):
  (folder / 'a.png').write_bytes(b'no image')
  assert 'a.png' in _convert(folder, capsys)


def test_annotation_without_image(folder, capsys):
  coco = json.loads(json.dumps(_COCO))
  coco['annotations'][0]['image_id'] = 77
  (folder / 'a.json').write_text(json.dumps(coco))
  line = _convert(folder, capsys)
  assert '77' in line and 'a.json' in line


def test_an_earlier_set_of_shards_survives_a_failed_conversion(folder, capsys):
  arguments = ['data', 'coco', '--image_dir', folder, '--annotations',
               folder / 'a.json', '--output_prefix', folder / 's',
               '--num_shards', 1]
  assert main.main([str(a) for a in arguments]) == 0
  before = (folder / 's-00000-of-00001.tfrecord').read_bytes()
  (folder / 'a.png').write_bytes(b'no image')
  _line(capsys, arguments)
  assert (folder / 's-00000-of-00001.tfrecord').read_bytes() == before


def test_no_image_matches_the_glob(folder, capsys):
  line = _line(capsys, [
      'predict', '--checkpoint', folder, '--images', folder / '*.jpg',
      '--output_dir', folder / 'out'])
  assert '*.jpg' in line and not (folder / 'out').exists()


def test_checkpoint_folder_without_checkpoint(folder, capsys):
  line = _line(capsys, [
      'predict', '--checkpoint', folder, '--images', folder,
      '--output_dir', folder / 'out'])
  assert 'holds no checkpoint' in line and not (folder / 'out').exists()


def test_predictions_that_are_no_results(folder, capsys):
  (folder / 'p.json').write_text('{"a": 1}')
  line = _line(capsys, [
      'evaluate', '--predictions', folder / 'p.json', '--annotations',
      folder / 'a.json', '--output_dir', folder / 'out'])
  assert 'p.json' in line


def _train(tmp_path, override='', experiment='panet_shapes', mode='train'):
  loop.run(experiment, mode, str(tmp_path / 'model'), (), override)


def _paths(train):
  return (f"task: {{train_data: {{input_path: '{train}'}}, "
          f"validation_data: {{input_path: '{train}'}}}}")


def test_unknown_experiment(tmp_path):
  with pytest.raises(errors.InputError, match='panet_cocoo.*panet_coco'):
    _train(tmp_path, experiment='panet_cocoo')


def test_unknown_config_key(tmp_path):
  with pytest.raises(errors.InputError, match='bottom_up'):
    _train(tmp_path, 'task: {model: {bottom_up: true}}')


def test_shards_that_match_nothing(tmp_path):
  with pytest.raises(errors.InputError, match='nothing-'):
    _train(tmp_path, _paths(tmp_path / 'nothing-*.tfrecord'))
  assert not (tmp_path / 'model').exists()


def test_truncated_shard_is_found_before_training(tmp_path):
  shapes.make_shapes(str(tmp_path / 'train'), 3, 1, 64)
  shard = sorted(tmp_path.glob('*.tfrecord'))[0]
  shard.write_bytes(shard.read_bytes()[:-3])
  with pytest.raises(errors.InputError, match=f'{shard.name}: truncated'):
    _train(tmp_path, _paths(tmp_path / 'train-*.tfrecord'))
  assert not (tmp_path / 'model').exists()


def test_number_of_classes_that_the_data_has_not(tmp_path):
  shapes.make_shapes(str(tmp_path / 'train'), 2, 1, 64)
  with pytest.raises(errors.InputError, match='num_classes is 3'):
    _train(tmp_path, _paths(tmp_path / 'train-*.tfrecord')[:-1] +
           ', model: {num_classes: 3}}')


def test_evaluation_without_checkpoint(tmp_path):
  shapes.make_shapes(str(tmp_path / 'train'), 2, 1, 64)
  with pytest.raises(errors.InputError, match='no checkpoint to evaluate'):
    _train(tmp_path, _paths(tmp_path / 'train-*.tfrecord'), mode='eval')


def test_the_front_end_prints_one_line_and_exits_with_2(capsys):
  assert 2 == front_end.exit_code(
      loop.run, experiment='none', mode='train', model_dir='x')
  assert capsys.readouterr().err.startswith("error: unknown experiment 'none'")


@pytest.mark.parametrize('option', [
    'use_coco_metrics: false', 'use_wod_metrics: true',
    'use_approx_instance_metrics: true', 'allow_image_summary: true'])
@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_an_evaluator_that_there_is_not_is_refused_before_the_first_step(
    option, mode):
  params = experiments.read('panet_shapes', (), f'task: {{{option}}}')
  params.task.model.num_classes = 5
  field = option.split(':')[0]
  with pytest.raises(errors.InputError, match=f'task.{field} is'):
    checks.check(params, mode)
