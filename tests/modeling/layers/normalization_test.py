"""Claims about the one normalization object and the blocks that carry it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from panet_tf.modeling.layers import normalization
from tests.support import release_weights as release

Normalization = normalization.Normalization


@pytest.mark.parametrize('kind, layer, conv_bias, fc_bias', [
    ('sync_batch', tf_keras.layers.BatchNormalization, False, False),
    ('batch', tf_keras.layers.BatchNormalization, False, False),
    ('frozen', normalization.FrozenBatchNormalization, False, False),
    ('group', tf_keras.layers.GroupNormalization, False, True),
    ('none', tf_keras.layers.Identity, True, True)])
def test_kind_chooses_the_layer_and_the_biases(kind, layer, conv_bias, fc_bias):
  norm = Normalization(kind)
  assert type(norm.layer('n')) is layer
  assert (norm.conv_bias, norm.fc_bias) == (conv_bias, fc_bias)


@pytest.mark.parametrize('momentum, epsilon, num_groups', [
    (0.9, 1e-5, 4), (0.99, 1e-3, 32)])
def test_every_scalar_arrives(momentum, epsilon, num_groups):
  def make(kind):
    return Normalization(kind, momentum, epsilon, num_groups)

  batch = make('sync_batch').layer('n')
  assert (batch.momentum, batch.epsilon) == (momentum, epsilon)
  group = make('group').layer('n')
  assert (group.groups, group.epsilon) == (num_groups, epsilon)


@pytest.mark.parametrize('kind', ['sync_batch', 'batch'])
def test_only_several_replicas_synchronise(kind, two_replicas):
  assert not Normalization(kind).layer('n').synchronized
  with two_replicas.scope():
    layer = Normalization(kind).layer('n')
  assert layer.synchronized == (kind == 'sync_batch')


def test_group_norm_of_an_fc_output_is_over_contiguous_channels():
  x = np.random.normal(2., 3., [5, 8]).astype('float32')
  groups = x.reshape(5, 4, 2)
  mean, var = groups.mean(-1, keepdims=True), groups.var(-1, keepdims=True)
  expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(5, 8)
  layer = Normalization('group', epsilon=1e-5, num_groups=4).layer('n')
  np.testing.assert_allclose(layer(x), expected, atol=1e-4)


def test_frozen_stays_frozen_when_the_model_is_made_trainable():
  block = normalization.ConvNorm(4, norm=Normalization('frozen', 0.5),
                                 name='block')
  x = tf.random.normal([2, 4, 4, 3], 5.)
  before = block(x)
  block.trainable = True
  np.testing.assert_array_equal(block(x, training=True), before)
  assert [w.name for w in block.trainable_weights] == [
      'block/conv/kernel:0']
  np.testing.assert_array_equal(block.norm.moving_mean, np.zeros(4))


def test_padding_is_symmetric_at_every_stride():
  for kernel_size, stride in ((3, 1), (3, 2), (7, 2), (1, 2)):
    block = normalization.ConvNorm(2, kernel_size, stride,
                                   norm=Normalization('none'), activation=None)
    x = tf.random.normal([1, 8, 8, 3])
    y = block(x)
    pad = kernel_size // 2
    expected = tf.nn.conv2d(
        x, block.conv.kernel, stride,
        [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    release.assert_near(y, expected.numpy(), 1e-5)


def test_config_round_trip_and_defaults():
  norm = Normalization('group', 0.9, 1e-5, 16)
  assert Normalization.from_config(norm.get_config()) == norm
  assert Normalization.of(norm.get_config()) == norm
  assert Normalization.of(None) == Normalization()
  assert Normalization.of(norm) is norm


def test_as_frozen_keeps_the_scalars():
  assert Normalization('sync_batch', 0.9, 1e-5).as_frozen() == Normalization(
      'frozen', 0.9, 1e-5)
  assert Normalization('group').as_frozen() == Normalization('group')


def test_errors_say_what_would_be_right():
  with pytest.raises(ValueError, match="expected one of .*'sync_batch'"):
    Normalization('sync')
  with pytest.raises(ValueError, match='32 groups cannot split 48 channels'):
    normalization.ConvNorm(48, norm=Normalization('group'))
