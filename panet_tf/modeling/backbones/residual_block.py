"""The one block of all backbones: ResNet, ResNeXt, SE-ResNeXt and SENet."""

from collections.abc import Sequence
import functools

import tensorflow as tf
import tf_keras

from panet_tf.modeling.layers import configured
from panet_tf.modeling.layers import normalization


@tf_keras.utils.register_keras_serializable(package='PANet')
class SqueezeExcitation(configured.Configured):
  """Scales channels by what is in the whole map (Hu et al., arXiv 1709.01507).

  x * sigmoid(fc2(relu(fc1(mean of x)))), section 3 there; both layers have a
  bias, as in `SEModule` of Cadena's pretrained-models.pytorch.
  """

  def __init__(self, channels: int, reduction: int = 16,
               kernel_regularizer=None, **kwargs):
    """For so many channels, of which `reduction` share a unit of fc1."""
    super().__init__(**kwargs)
    make = functools.partial(
        tf_keras.layers.Dense, kernel_initializer=normalization.he_fan_out(),
        kernel_regularizer=tf_keras.regularizers.get(kernel_regularizer))
    self.fc1 = make(max(channels // reduction, 1), 'relu', name='fc1')
    self.fc2 = make(channels, 'sigmoid', name='fc2')

  def call(self, x: tf.Tensor) -> tf.Tensor:
    """Scales each channel: [batch, height, width, channels], both ways."""
    scale = self.fc2(self.fc1(tf.reduce_mean(x, [1, 2])))
    return x * scale[:, tf.newaxis, tf.newaxis]


@tf_keras.utils.register_keras_serializable(package='PANet')
class ResidualBlock(configured.Configured):
  """relu(f(x) + x), f being 3x3, 3x3 or the bottleneck 1x1, 3x3, 1x1.

  A bottleneck's 3x3 may be in groups, or deformable, and f(x) be scaled by
  `SqueezeExcitation`.
  """

  def __init__(self, filters: int, bottleneck: bool = True, strides: int = 1,
               stride_in_1x1: bool = False, projection: bool = False,
               norm: normalization.Normalization | None = None,
               kernel_regularizer=None, groups: int = 1,
               widths: Sequence[int] = (1, 1), se_reduction: int = 0,
               shortcut_size: int = 1, deformable: bool = False,
               modulated: bool = False, **kwargs):
    """Initializes the block.

    Args:
      filters: channels of the 3x3 convolutions; a bottleneck returns four
        times as many.
      bottleneck: whether the block is a bottleneck.
      strides: of the whole block.
      stride_in_1x1: whether a bottleneck strides in its first 1x1 convolution
        (Caffe), not in the 3x3 (torchvision).
      projection: whether the shortcut is a convolution.
      norm: normalization after every convolution.
      kernel_regularizer: of the kernels.
      groups: of a bottleneck's 3x3 convolution.
      widths: channels of a bottleneck's first 1x1 and of its 3x3 convolution,
        in multiples of `filters`.
      se_reduction: of `SqueezeExcitation`; 0 for none.
      shortcut_size: kernel size of the projection.
      deformable: whether a bottleneck's 3x3 convolution is deformable.
      modulated: whether that has masks.
    """
    super().__init__(**kwargs)
    self.bottleneck, self.projection = bottleneck, projection
    self.se_reduction = se_reduction
    self.normalization = normalization.Normalization.of(norm)
    self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
    width = 4 * filters if bottleneck else filters
    first, second = (strides, 1) if stride_in_1x1 else (1, strides)
    if bottleneck:
      self.conv1 = self._conv(widths[0] * filters, 1, first, 'relu', 'conv1')
      self.conv2 = self._conv(
          widths[1] * filters, 3, second, 'relu', 'conv2', groups=groups,
          deformable=deformable, modulated=modulated)
      self.conv3 = self._conv(width, 1, 1, None, 'conv3')
    else:
      self.conv1 = self._conv(filters, 3, strides, 'relu', 'conv1')
      self.conv2 = self._conv(filters, 3, 1, None, 'conv2')
    if se_reduction:
      self.se = SqueezeExcitation(
          width, se_reduction, self.kernel_regularizer, name='se')
    if projection:
      self.shortcut = self._conv(
          width, shortcut_size, strides, None, 'shortcut')

  def _conv(self, filters, kernel_size, strides, activation, name, **kwargs):
    return normalization.ConvNorm(
        filters, kernel_size, strides, self.normalization, activation,
        kernel_regularizer=self.kernel_regularizer, name=name, **kwargs)

  def call(self, x: tf.Tensor, training=None) -> tf.Tensor:
    """[batch, h, w, c] to [batch, h / strides, w / strides, width]."""
    shortcut = self.shortcut(x, training=training) if self.projection else x
    x = self.conv2(self.conv1(x, training=training), training=training)
    if self.bottleneck:
      x = self.conv3(x, training=training)
    if self.se_reduction:
      x = self.se(x)
    return tf.nn.relu(x + shortcut)
