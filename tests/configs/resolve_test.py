"""What an experiment becomes: each claim about the copy, none changed."""

import copy

import pytest

from panet_tf import errors
from panet_tf.configs import experiments
from panet_tf.configs import inference
from panet_tf.configs import resolve

INFO = {'categories': [{'label': 1}, {'label': 2}]}


@pytest.fixture(name='params')
def fixture_params():
  """A locked experiment: whoever changes it in place fails."""
  params = experiments.read('panet_shapes', (), (
      'task: {seed: 3, init_checkpoint: a, validation_data: {parser: '
      '{pad_to: 64, short_edge: [60, 80], long_edge: 128, '
      'canvases: [128x128]}}, inference: {score_threshold: 0.25, '
      'max_detections: 7}}'))
  params.lock()
  return params


def unlocked(params):
  return copy.deepcopy(params).replace()


def assert_thresholds(params, score, number):
  generator = params.task.model.detection_generator
  assert generator.pre_nms_score_threshold == score
  assert generator.max_num_detections == number


@pytest.fixture(autouse=True)
def nothing_changes(params):
  before = params.as_dict()
  yield
  assert params.as_dict() == before


def test_training_takes_the_classes_and_one_seed(params):
  params = unlocked(params)
  before = params.as_dict()
  found = resolve.training(params, 'train', INFO, 'x')
  assert params.as_dict() == before
  assert found.task.model.num_classes == 3
  assert found.task.train_data.seed == 3 and found.task.train_data.deterministic
  assert found.task.init_checkpoint == 'a'
  assert_thresholds(found, 0.25, 7)
  assert found.trainer.validation_interval == 800
  found = resolve.training(params, 'continuous_train_and_eval', INFO, 'x')
  assert found.trainer.validation_interval == 400


def test_training_refuses_unknown_and_other_classes(params):
  params = unlocked(params)
  with pytest.raises(errors.InputError, match='num_classes is 0 and x has no'):
    resolve.training(params, 'train', None, 'x')
  params.task.model.num_classes = 5
  assert resolve.training(
      params, 'train', None, 'x').task.model.num_classes == 5
  with pytest.raises(errors.InputError, match='is 5, but the data x has 2'):
    resolve.training(params, 'train', INFO, 'x')


def test_a_checkpoint_begins_from_nothing_else(params):
  params = unlocked(params)
  found = resolve.trained(params, INFO)
  assert found.task.model.num_classes == 3
  assert found.task.init_checkpoint is None
  assert_thresholds(found, 0.25, 7)
  assert resolve.trained(params, None).task.model.num_classes == 0
  params.task.model.num_classes = 9  # `Run.categories` says what is wrong.
  assert resolve.trained(params, INFO).task.model.num_classes == 9


def test_the_first_of_an_ensemble_has_the_options_of_all(params):
  options = inference.Inference(score_threshold=0.5, flip=True)
  found = resolve.merging(unlocked(params), options)
  assert found.task.inference.flip
  assert_thresholds(found, 0.5, 100)


@pytest.mark.parametrize('number, candidates', [(20, 1000), (3000, 3000)])
def test_an_rpn_has_candidates_for_its_proposals(params, number, candidates):
  generator = resolve.proposing(
      unlocked(params), number).task.model.roi_generator
  assert generator.test_num_proposals == number
  assert generator.test_pre_nms_top_k == candidates


def test_an_export_has_the_canvas_that_is_asked_for(params):
  params = unlocked(params)
  assert resolve.exporting(params).as_dict() == params.as_dict()
  found = resolve.exporting(params, [64, 192]).task
  assert found.model.input_size == [64, 192, 3]
  parser = found.validation_data.parser
  assert (parser.short_edge, parser.long_edge, parser.canvases) == ([], 0, [])
  assert parser.pad_to == 64
  found = resolve.exporting(params, one_canvas=True).task
  assert found.validation_data.parser.pad_to == 0
  assert found.validation_data.parser.long_edge == 128
