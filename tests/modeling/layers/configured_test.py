"""Layers whose configuration is the arguments that made them.

That every layer of the paper has all of its arguments there: battery_test.
"""

import copy

import tensorflow as tf
import tf_keras

from panet_tf.modeling.layers import configured


class Part(configured.Configured):

  def __init__(self, size, parts=None, **kwargs):
    super().__init__(**kwargs)


def test_the_configuration_has_defaults_and_what_keras_takes():
  layer = Part(2, name='part', trainable=False)
  expected = {'size': 2, 'parts': None, 'name': 'part', 'trainable': False,
              'dtype': 'float32'}
  assert layer.get_config() == copy.copy(layer).get_config() == expected


def test_a_model_has_a_name_too():

  class Whole(configured.Configured, tf_keras.Model):

    def __init__(self, size=2, **kwargs):
      super().__init__(**kwargs)

  assert Whole(name='whole').get_config() == {'size': 2, 'name': 'whole'}
  assert Whole.from_config({'size': 3, 'name': 'whole'}).name == 'whole'


def test_arguments_are_no_part_of_a_checkpoint():
  layer = Part(2, {'dense': tf_keras.layers.Dense(1)})
  assert not tf.train.TrackableView(layer).children(layer)
