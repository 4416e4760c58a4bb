"""Preprocessing without TensorFlow is that of evaluation, to the last bit."""

import json

import numpy as np
import pytest

from panet_tf.configs import experiments
from panet_tf.dataloaders import factory as input_factory
from panet_tf.inference import preprocessing
from tests.support import tiny

_SIZES = [(1, 1), (1, 9000), (9000, 1), (1, 2), (40, 5000), (5000, 40),
          (64, 64), (128, 256), (63, 65), (37, 1), (480, 640), (700, 311),
          (1024, 2048), (40000, 3)]
_PARSERS = {
    'tiny': lambda: tiny.parser(is_training=False),
    'wide': lambda: tiny.parser(tiny.params(input_size=[128, 320, 3]), False),
    'odd': lambda: tiny.parser(tiny.params(input_size=[100, 90, 3]), False),
    'edges': lambda: tiny.parser(
        is_training=False, short_edge=[100, 333], long_edge=500),
    'canvas': lambda: tiny.parser(
        is_training=False, short_edge_choices=[200, 300], long_edge=700,
        canvases=['256x512']),
}


def _of_experiment(name):
  params = experiments.read(name, [], '').task
  return input_factory.build_parser(params.model, params.validation_data)


def _compare(parser, sizes):
  # As a file has it.
  rule = preprocessing.Preprocessing.from_dict(
      json.loads(json.dumps(parser.eval_rule())))
  rng = np.random.default_rng(0)
  for size in sizes:
    image = rng.integers(0, 256, [*size, 3], np.uint8)
    wanted, wanted_info = parser.eval_image(image)
    inputs, image_info = rule(image)
    assert inputs.dtype == image_info.dtype == np.float32
    np.testing.assert_array_equal(image_info[0], wanted_info)
    np.testing.assert_allclose(inputs[0], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize('name', _PARSERS)
def test_inputs_are_those_of_evaluation(name):
  rng = np.random.default_rng(1)
  drawn = np.exp(rng.uniform(0, 7, [30, 2])).astype(int).tolist()
  _compare(_PARSERS[name](), [*_SIZES, *drawn])


@pytest.mark.parametrize('name', [
    'panet_coco', 'panet_cityscapes', 'panet_mvd', 'panet_shapes'])
def test_inputs_are_those_of_the_experiments(name):
  _compare(_of_experiment(name), [(1, 1), (333, 500), (61, 1500)])


def test_half_pixels_are_rounded_as_tensorflow_does():
  """To the even one: 2.5 to 2, 3.5 to 4."""
  rule = preprocessing.Preprocessing.from_dict(
      tiny.parser(is_training=False).eval_rule())
  for width, wanted in ((5, 2), (7, 4), (9, 4), (11, 6)):
    _, image_info = rule(np.zeros([128, width, 3], np.uint8))
    assert image_info[0, 1].tolist() == [64, wanted]


_RULE = {'canvas': [64, 64], 'fit': [64, 60], 'short_edge': None,
         'long_edge': None, 'mean': [1, 2, 3], 'stddev': [1, 1, 1]}
_HUGE = 10**400


@pytest.mark.parametrize('change', [
    {'canvas': [64]}, {'canvas': [0, 64]}, {'canvas': [64, 10**6]},
    {'canvas': 64}, {'canvas': '64'}, {'canvas': [64.0, 64]},
    {'canvas': [True, 64]}, {'canvas': None}, {'fit': [0, 3]}, {'fit': 64},
    {'fit': [64, 65]}, {'fit': []}, {'fit': None}, {'mean': [1, 2]},
    {'mean': 'abc'}, {'mean': [1, 2, float('nan')]}, {'mean': [[], 1, 2]},
    {'mean': [1, 2, _HUGE]}, {'stddev': [1, 1, 0]}, {'stddev': None},
    {'stddev': [1, 1, float('inf')]}, {'fit': None, 'short_edge': '64',
                                       'long_edge': 64},
    {'fit': None, 'short_edge': 64, 'long_edge': -1},
    {'fit': None, 'short_edge': _HUGE, 'long_edge': 64}],
                         ids=lambda change: str(change)[:40])
def test_a_rule_that_no_parser_has_is_refused(change):
  preprocessing.Preprocessing.from_dict(_RULE)
  with pytest.raises((ValueError, TypeError, OverflowError)):
    preprocessing.Preprocessing.from_dict(_RULE | change)


@pytest.mark.parametrize('name', _RULE)
def test_a_rule_without_one_of_its_fields_is_refused(name):
  rule = _RULE | {'fit': None, 'short_edge': 64, 'long_edge': 64}
  preprocessing.Preprocessing.from_dict(rule)
  del rule[name]
  with pytest.raises(KeyError):
    preprocessing.Preprocessing.from_dict(rule)
