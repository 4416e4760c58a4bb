"""Of Keras."""

import tf_keras


def plain_variance(layer: tf_keras.layers.BatchNormalization):
  """Makes the moving variance independent of the kernel that computes it.

  The fused kernel reports n / (n - 1) times the variance. Keras undoes that,
  but only where this flag, which it calls a test's, is off.
  """
  layer._bessels_correction_test_only = False
