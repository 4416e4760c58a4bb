"""Appendix B: statistics of the whole batch, whatever it is split over.

"Each GPU has the statistics calculated on all training samples in B [...] In
backward operations, AllReduce operation is similarly applied to gather
information from all GPUs for gradient calculation."
"""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from panet_tf.modeling import box_head
from panet_tf.modeling import decoder
from panet_tf.modeling import fully_connected_fusion
from panet_tf.modeling.backbones import resnet
from panet_tf.modeling.layers import normalization
from panet_tf.modeling.proposals import rpn_head

_BATCH = 4


def pooled(size):
  return [tf.random.normal([_BATCH, 2, size, size, 4], stddev=1 + i)
          for i in range(4)]


def levels():
  return {str(i): tf.random.normal([_BATCH, 32 >> i - 2, 32 >> i - 2, 4])
          for i in range(2, 6)}


# Name: makes the layer, makes its input.
PARTS = {
    'box_head_4conv1fc': (
        lambda norm: box_head.AdaptiveBoxHead(
            3, num_filters=4, fc_dims=8, norm=norm), lambda: pooled(7)),
    'box_head_2fc': (
        lambda norm: box_head.AdaptiveBoxHead(
            3, '2fc', fc_dims=8, norm=norm), lambda: pooled(7)),
    'mask_head': (
        lambda norm: fully_connected_fusion.FullyConnectedFusion(
            3, num_filters=4, norm=norm),
        lambda: [pooled(14), tf.ones([_BATCH, 2], tf.int32)]),
    'rpn_head': (
        lambda norm: rpn_head.RPNHead(2, 5, num_filters=4, norm=norm), levels),
    'neck': (
        lambda norm: decoder.PANetDecoder(num_filters=4, norm=norm), levels),
}


def loss_of(outputs):
  """A loss that is a mean over the global batch, like the training's."""
  flat = tf.nest.flatten(outputs)
  # Bounded and different in every element, so that no gradient is zero or
  # huge.
  return sum(tf.reduce_sum(tf.sin(3. * x + .5)) /
             (_BATCH * float(np.prod(x.shape[1:]))) for x in flat)


def step(layer, inputs):
  with tf.GradientTape() as tape:
    outputs = layer(inputs, training=True)
    loss = loss_of(outputs)
  return outputs, tape.gradient(loss, layer.trainable_weights)


def half(inputs, i):
  n = _BATCH // 2
  return tf.nest.map_structure(lambda x: x[i * n:(i + 1) * n], inputs)


def run_split(strategy, make, kind, inputs, weights):
  """Outputs of both halves together, summed gradients, moving statistics."""
  with strategy.scope():
    layer = make(normalization.Normalization(kind, momentum=.5))
    layer(half(inputs, 0))
  for w, value in zip(layer.weights, weights, strict=True):
    w.assign(value)

  @tf.function
  def run():
    def replica():
      i = tf.distribute.get_replica_context().replica_id_in_sync_group
      return step(layer, half(inputs, i))
    return strategy.run(replica)

  outputs, gradients = run()
  local = strategy.experimental_local_results
  outputs = [tf.concat(local(x), 0) for x in tf.nest.flatten(outputs)]
  gradients = [sum(np.asarray(g) for g in local(g)) for g in gradients]
  return outputs, gradients, [w.numpy() for w in layer.non_trainable_weights]


def run_whole(make, inputs):
  layer = make(normalization.Normalization('sync_batch', momentum=.5))
  layer(inputs)
  for w in layer.trainable_weights:  # Scales and biases are not all alike.
    w.assign_add(tf.random.normal(w.shape, stddev=.1, dtype=w.dtype))
  weights = [w.numpy() for w in layer.weights]
  outputs, gradients = tf.function(step)(layer, inputs)
  return (tf.nest.flatten(outputs), [np.asarray(g) for g in gradients],
          [w.numpy() for w in layer.non_trainable_weights]), weights


def worst(split, whole):
  """Largest errors, relative to arrays whose values exceed 1."""
  return [max(np.abs(np.asarray(a) - b).max() / max(1., np.abs(b).max())
              for a, b in zip(x, map(np.asarray, y), strict=True))
          for x, y in zip(split, whole, strict=True)]


@pytest.mark.parametrize('part', PARTS)
def test_half_a_batch_on_each_of_two_devices_is_the_whole_batch_on_one(
    part, two_replicas):
  make, make_inputs = PARTS[part]
  inputs = make_inputs()
  whole, weights = run_whole(make, inputs)
  split = run_split(two_replicas, make, 'sync_batch', inputs, weights)
  assert len(split[2]) == len(whole[2]) > 0
  outputs, gradients, statistics = worst(split, whole)
  assert max(outputs, gradients, statistics) <= 1e-5, (
      outputs, gradients, statistics)


@pytest.fixture
def float64():
  tf_keras.backend.set_floatx('float64')
  yield tf.float64
  tf_keras.backend.set_floatx('float32')


def test_so_it_is_through_all_layers_of_a_backbone(float64, two_replicas):
  # In float32 the rounding of 20 layers alone moves gradients by 3e-5.

  def make(norm):
    return resnet.ResNet(18, 0.0625, norm=norm)

  inputs = tf.random.normal([_BATCH, 64, 64, 3], dtype=float64)
  whole, weights = run_whole(make, inputs)
  split = run_split(two_replicas, make, 'sync_batch', inputs, weights)
  assert split[0][0].dtype == float64
  assert max(worst(split, whole)) <= 1e-11


@pytest.mark.parametrize('part', ['box_head_2fc', 'neck'])
def test_unsynchronised_it_is_not(part, two_replicas):
  make, make_inputs = PARTS[part]
  inputs = make_inputs()
  whole, weights = run_whole(make, inputs)
  split = run_split(two_replicas, make, 'batch', inputs, weights)
  assert min(worst(split, whole)) > 1e-3


def test_whole_batch_statistics_are_its_mean_and_variance():
  x = np.random.normal(3., 2., [_BATCH, 5, 6, 2]).astype('float32')
  layer = normalization.Normalization('sync_batch', momentum=.5).layer('n')
  layer(x, training=True)
  np.testing.assert_allclose(
      layer.moving_mean, .5 * x.mean((0, 1, 2)), atol=1e-5)
  np.testing.assert_allclose(
      layer.moving_variance, .5 + .5 * x.var((0, 1, 2)), atol=1e-4)
