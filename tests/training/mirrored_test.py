"""The whole model in a training step of two replicas."""

import numpy as np
import tensorflow as tf
import tf_keras

from panet_tf.configs import panet
from tests.support import tiny


def test_two_replicas_take_one_step_and_stay_equal(two_replicas):
  with two_replicas.scope():
    # `sync_bn_test` has a backbone that is synchronised.
    task = tiny.task(tiny.params(backbone=panet.Backbone(
        model_id=18, width_multiplier=0.125, normalization='frozen')))
    model = task.build_model()
    optimizer = tf_keras.optimizers.legacy.SGD(0.01, momentum=0.9)
    optimizer._create_all_weights(model.trainable_variables)
  before = [v.numpy() for v in model.trainable_variables]
  images, labels = tiny.batch()

  def half(context):
    i = context.replica_id_in_sync_group
    return tf.nest.map_structure(lambda x: x[i:i + 1], (images, labels))

  inputs = two_replicas.experimental_distribute_values_from_function(half)

  @tf.function(autograph=False)
  def step(inputs):
    return two_replicas.run(task.train_step, (inputs, model, optimizer))

  losses = two_replicas.experimental_local_results(step(inputs)[task.loss])
  assert len(losses) == 2 and np.isfinite([float(x) for x in losses]).all()
  assert float(losses[0]) != float(losses[1])  # Each saw its own image.
  changed = 0
  for variable, old in zip(model.trainable_variables, before, strict=True):
    copies = [c.numpy() for c in two_replicas.experimental_local_results(
        variable)]
    np.testing.assert_array_equal(*copies)
    changed += not np.array_equal(copies[0], old)
  assert changed > 0.9 * len(before)
  for variable in model.non_trainable_variables:
    if 'moving' in variable.name:
      np.testing.assert_array_equal(*[
          c.numpy() for c in two_replicas.experimental_local_results(variable)])
