"""Every layer of the paper comes back from its configuration as it was.

A new layer of the package 'PANet' is found by its registration; where another
value of its arguments cannot be guessed, OTHERS says one.
"""

import importlib
import inspect
import json
import pkgutil

import pytest
import tf_keras

from panet_tf import modeling
from panet_tf.modeling.layers import normalization

for found in pkgutil.walk_packages(modeling.__path__, 'panet_tf.modeling.'):
  importlib.import_module(found.name)

# Their arguments are whole layers, which a copy shares:
# panet_model_test.test_from_config_shares_the_parts.
OF_PARTS = {'PANetModel', 'RPNModel'}
CLASSES = {
    name.removeprefix('PANet>'): class_
    for name, class_ in tf_keras.saving.get_custom_objects().items()
    if name.startswith('PANet>')}

# Of arguments without a default.
NEEDED = {'crop_size': 7, 'filters': 12, 'units': 12, 'channels': 64,
          'num_classes': 5, 'mask_target_size': 28, 'num_sampled_masks': 5}
# Another value than the default: by argument, or by layer and argument.
OTHERS = {
    'fusion': 'sum',
    'activation': None,
    'norm': normalization.Normalization('group', 0.9, 1e-5, 4),
    'kernel_regularizer': tf_keras.regularizers.L2(0.125),
    'kernel_initializer': 'ones',
    'use_bias': True,
    'boxes': 'last_pixel',
    'formulation': 'builtin',
    'kernel_size': 5,
    'fuse_after': 'pooling',
    'source': 'conv2',
    'mask_fusion': 'product',
    'coarser_levels': 'conv',
    'widths': [2, 4],
    'shortcut_size': 3,
    'se_reduction': 4,
    'deformable_stages': [3, 5],
    'model_id': 'senet154',
    'Normalization.kind': 'group',
    'AdaptiveBoxHead.kind': '2fc',
}
# Arguments of layers that are large otherwise.
SMALLER = {'ResNet': {'model_id': 18}}
# What an argument goes with.
TOGETHER = {
    # A layer in front of groups keeps its bias, unless told otherwise.
    'DenseNorm.norm': {'use_bias': False},
    'ConvNorm.modulated': {'deformable': True},
    'ResidualBlock.modulated': {'deformable': True},
    'ResNet.deformable_stages': {'model_id': 50},
    'ResNet.modulated': {'deformable_stages': [4], 'model_id': 50},
}


def options(class_):
  """{argument: its default} of what the class itself defines.

  Or of the next one, if it hands on whatever it is given.
  """
  for owner in class_.__mro__:
    if '__init__' not in vars(owner):
      continue
    if not owner.__module__.startswith('panet_tf.'):
      break
    parameters = list(inspect.signature(owner).parameters.values())
    if not any(p.kind == p.VAR_POSITIONAL for p in parameters):
      return {p.name: p.default for p in parameters if p.kind != p.VAR_KEYWORD}
  return {}


def other(class_, name, default):
  """Another value than the default of an argument."""
  for key in f'{class_}.{name}', name:
    if key in OTHERS:
      return OTHERS[key]
  assert isinstance(default, bool | int | float), (
      f'say in OTHERS which other value {class_}.{name} may have')
  return not default if isinstance(default, bool) else default + (
      1 if isinstance(default, int) else 0.125)


def make(class_, **changes):
  """One of a class, with what it needs and some changes."""
  needed = {name: NEEDED[name] for name, default in options(class_).items()
            if default is inspect.Parameter.empty}
  if issubclass(class_, tf_keras.layers.Layer):
    needed['name'] = 'layer'
  needed.update(SMALLER.get(class_.__name__, {}))
  return class_(**(needed | changes))


def config(layer):
  """Its configuration, as a saved model holds it."""
  return json.loads(json.dumps(
      layer.get_config(), default=tf_keras.saving.serialize_keras_object))


def assert_comes_back(layer):
  copy = type(layer).from_config(config(layer))
  assert config(copy) == config(layer)


@pytest.mark.parametrize('name', sorted(set(CLASSES) - OF_PARTS))
def test_a_copy_has_every_option(name):
  class_ = CLASSES[name]
  plain = make(class_)
  assert_comes_back(plain)
  for option, default in options(class_).items():
    needed = default is inspect.Parameter.empty
    value = NEEDED[option] * 2 if needed else other(name, option, default)
    together = TOGETHER.get(f'{name}.{option}', {})
    layer = make(class_, **{option: value}, **together)
    assert_comes_back(layer)
    before = config(make(class_, **together) if together else plain)
    after = config(layer)
    assert {key for key in after if after[key] != before[key]} == {option}


def test_an_option_that_the_configuration_leaves_out_is_found():

  class Forgetful(tf_keras.layers.Layer):

    def __init__(self, size=1, **kwargs):
      super().__init__(**kwargs)
      self.size = size

    def get_config(self):
      return {'name': self.name}

  Forgetful.__module__ = 'panet_tf.example'
  CLASSES['Forgetful'] = Forgetful
  try:
    with pytest.raises(AssertionError):
      test_a_copy_has_every_option('Forgetful')
  finally:
    del CLASSES['Forgetful']


def test_the_layers_of_the_paper_are_registered():
  assert {'FeaturePyramid', 'BottomUpPath', 'AdaptiveFeaturePooling',
          'AdaptiveBoxHead', 'FullyConnectedFusion', *OF_PARTS} <= set(CLASSES)
