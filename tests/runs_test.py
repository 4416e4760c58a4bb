"""What a run on disk is, and what is no run."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf import runs
from panet_tf.configs import overrides


def _changed(text):
  return overrides.Overrides(params_override=text)


def test_a_run_is_its_last_checkpoint_and_what_lies_beside_it(tiny_run):
  run = runs.Run.read(tiny_run)
  assert run.checkpoint == os.path.join(tiny_run, 'ckpt-1')
  assert run.model_config is run.params.task.model
  assert run.info == runs.read_info(tiny_run)
  assert [(c['label'], c['id']) for c in run.categories] == [
      (1, 3), (2, 7), (3, 20), (4, 90)]
  assert runs.Run.read(run.checkpoint).categories == run.categories


def test_the_overrides_win_over_params_yaml(tiny_run, tmp_path):
  path = tmp_path / 'a.yaml'
  path.write_text('task: {inference: {max_detections: 3, flip: true}}')
  run = runs.Run.read(tiny_run, overrides.Overrides(
      config_files=[str(path)],
      params_override='task: {inference: {max_detections: 4}}'))
  assert run.model_config.detection_generator.max_num_detections == 4
  assert run.params.task.inference.flip
  run = runs.Run.read(tiny_run, overrides.Overrides('panet_shapes'))
  assert run.model_config.decoder.num_filters == 32
  assert run.model_config.num_classes == 5  # Of dataset.json.


def test_without_params_yaml_the_experiment_must_be_named(tiny_run, tmp_path):
  folder = shutil.copytree(tiny_run, tmp_path / 'run')
  (folder / 'params.yaml').unlink()
  with pytest.raises(errors.InputError, match='no params.yaml: name the exp'):
    runs.Run.read(str(folder))


def test_a_dataset_without_names_has_numbers(tiny_run, tmp_path):
  folder = shutil.copytree(tiny_run, tmp_path / 'run')
  (folder / 'dataset.json').unlink()
  run = runs.Run.read(str(folder))
  assert run.info is None
  assert run.categories == [
      {'label': i, 'id': i, 'name': str(i)} for i in range(1, 5)]


def test_a_dataset_of_other_classes_is_refused(tiny_run, tmp_path):
  folder = shutil.copytree(tiny_run, tmp_path / 'run')
  info = json.loads((folder / 'dataset.json').read_text())
  info['categories'].pop()
  (folder / 'dataset.json').write_text(json.dumps(info))
  with pytest.raises(errors.InputError, match='has 3 categories, the model 4'):
    _ = runs.Run.read(str(folder)).categories


def test_a_model_of_one_stage_is_a_run_only_where_that_is_asked_for(tiny_run):
  one = _changed('task: {model: {stages: rpn, include_mask: false}}')
  with pytest.raises(errors.InputError, match='ckpt-1 is a model whose .* rpn'):
    runs.Run.read(tiny_run, one)
  assert runs.Run.read(tiny_run, one, 'propose').model_config.stages == 'rpn'


def test_a_built_model_has_the_checkpoints_weights(tiny_run):
  run = runs.Run.read(tiny_run)
  reader = tf.train.load_checkpoint(run.checkpoint)
  model = run.build_model()
  key = next(key for key in reader.get_variable_to_shape_map()
             if key.startswith('model/decoder') and '/kernel/' in key)
  assert any(np.array_equal(reader.get_tensor(key), v.numpy())
             for v in model.decoder.variables)
  before = [v.numpy() for v in model.variables]
  for v in model.variables:
    v.assign(tf.zeros_like(v))
  asked = []
  assert run.build_model(lambda config: asked.append(config) or model) is model
  assert asked == [run.model_config]
  for v, value in zip(model.variables, before, strict=True):
    np.testing.assert_array_equal(v, value)


def test_weights_of_another_model_are_refused(tiny_run):
  with pytest.raises(errors.InputError, match='of another architecture'):
    runs.Run.read(
        tiny_run, _changed('task: {model: {box_head: 2fc}}')).build_model()


def test_the_parser_is_that_of_evaluation(tiny_run):
  run = runs.Run.read(tiny_run, _changed(
      'task: {validation_data: {parser: {pad_to: 64}}}'))
  assert run.parser.pad_to == 64
  assert run.parser is run.parser
