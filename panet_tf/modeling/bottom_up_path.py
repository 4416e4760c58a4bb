"""Bottom-up path augmentation: P2..P5 to N2..N5, and N6 (section 3.1, Fig. 2).

"Each feature map N_i first goes through a 3x3 convolutional layer with stride
2 to reduce the spatial size. Then each element of feature map P_{i+1} and the
down-sampled map are added through lateral connection. The fused feature map
is then processed by another 3x3 convolutional layer to generate N_{i+1} [...]
All convolutional layers are followed by a ReLU."
"""

from collections.abc import Mapping
import itertools
from typing import Any

import tensorflow as tf
import tf_keras

from panet_tf.modeling.layers import configured
from panet_tf.modeling.layers import normalization


def subsample(x: tf.Tensor) -> tf.Tensor:
  """Max pooling with a 1x1 window and stride 2: every other row and column."""
  return x[:, ::2, ::2, :]


@tf_keras.utils.register_keras_serializable(package='PANet')
class BottomUpPath(configured.Configured):
  """n[i + 1] = conv(conv_stride_2(n[i]) + p[i + 1]), from n[2] = p[2]."""

  def __init__(self, num_filters: int = 256,
               norm: normalization.Normalization | None = None,
               activation: str | None = 'relu', kernel_regularizer=None,
               **kwargs):
    """Initializes the path.

    Args:
      num_filters: channels of every level, the pyramid's.
      norm: normalization after every convolution, before the activation.
      activation: after both convolutions. None is what the release does
        without GroupNorm; the paper's text says ReLU.
      kernel_regularizer: of the convolution kernels.
    """
    super().__init__(**kwargs)
    self.num_filters = num_filters
    self.normalization = normalization.Normalization.of(norm)
    self.activation: Any = tf_keras.activations.get(activation)
    self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)

  def build(self, input_shape: Mapping[str, tf.TensorShape]):
    """Creates down_2, fuse_3, down_3, fuse_4, down_4, fuse_5."""
    self.down, self.fuse = {}, {}
    levels = sorted(input_shape, key=int)
    for finer, level in itertools.pairwise(levels):
      self.down[finer] = self._conv(2, f'down_{finer}')
      self.fuse[level] = self._conv(1, f'fuse_{level}')
    super().build(input_shape)

  def _conv(self, strides: int, name: str) -> normalization.ConvNorm:
    return normalization.ConvNorm(
        self.num_filters, 3, strides, norm=self.normalization,
        activation=self.activation, use_bias=self.normalization.fc_bias,
        kernel_initializer=normalization.xavier_fan_in(),
        kernel_regularizer=self.kernel_regularizer, name=name)

  def call(self, p: Mapping[str, tf.Tensor], training=None
          ) -> Mapping[str, tf.Tensor]:
    """Augments the pyramid.

    Args:
      p: {'2'..'5'}: [batch, height, width, num_filters], each half the size of
        the finer one.

    Returns:
      n: the same levels, n['2'] being p['2'] itself, and one more, '6': the
        coarsest subsampled by 2, for the proposals.
    """
    levels = sorted(p, key=int)
    n = {levels[0]: p[levels[0]]}
    for finer, level in itertools.pairwise(levels):
      down = self.down[finer](n[finer], training=training)
      n[level] = self.fuse[level](down + p[level], training=training)
    n[str(int(levels[-1]) + 1)] = subsample(n[levels[-1]])
    return n
