"""Normalization of the new layers, and the blocks that carry it.

"[We] calculate mean and variance based on all samples in one batch across all
GPUs, do not fix any parameters during training, and make all new layers
followed by a batch normalization layer" (section 4.2; how the statistics are
gathered: Appendix B). The authors' release uses GroupNorm instead.

`Normalization` is the one object that travels from the configuration to every
layer; `ConvNorm` and `DenseNorm` are the only places that apply it, so that a
switch cannot be lost on the way.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, Union

import tensorflow as tf
import tf_keras

from panet_tf.model_garden import keras_layers
from panet_tf.modeling.layers import configured
from panet_tf.modeling.layers import deformable_conv
from panet_tf.modeling.layers import grouped_conv

KINDS = ('sync_batch', 'batch', 'group', 'frozen', 'none')
# Keras has no types: pyright would take those of its arguments' defaults.
Initializer = Any


@tf_keras.utils.register_keras_serializable(package='PANet')
class FrozenBatchNormalization(tf_keras.layers.BatchNormalization):
  """Batch normalization with constant statistics, scale and offset.

  `trainable` stays False even when a model around it is set trainable: in
  Keras that would silently switch the statistics back to the batch's.
  """

  trainable = property(lambda self: False, lambda self, value: None)


@tf_keras.utils.register_keras_serializable(package='PANet')
@dataclasses.dataclass(frozen=True)
class Normalization:
  """What follows a convolution or fc layer.

  Attributes:
    kind: 'sync_batch' (statistics of all replicas), 'batch' (of one replica),
      'group', 'frozen' (constant statistics, nothing trained) or 'none'.
    momentum: of the moving averages of batch normalization.
    epsilon: added to the variance; the release's GroupNorm has 1e-5.
    num_groups: groups of contiguous channels, for 'group'.

  Raises:
    ValueError: for an unknown kind.
  """
  kind: str = 'sync_batch'
  momentum: float = 0.99
  epsilon: float = 1e-3
  num_groups: int = 32

  def __post_init__(self):
    if self.kind not in KINDS:
      raise ValueError(
          f'Normalization kind {self.kind!r}: expected one of {KINDS}.')

  @property
  def conv_bias(self) -> bool:
    """Whether a convolution in front of it has a bias."""
    return self.kind == 'none'

  @property
  def fc_bias(self) -> bool:
    """Whether an fc layer or bottom-up conv in front of it has a bias.

    The release keeps these in front of GroupNorm. Batch normalization subtracts
    a bias again: it would only ever get a zero gradient.
    """
    return self.kind in ('none', 'group')

  def layer(self, name: str) -> tf_keras.layers.Layer:
    """A new layer over the last axis; the identity for 'none'."""
    if self.kind == 'none':
      return tf_keras.layers.Identity(name=name)
    if self.kind == 'group':
      return tf_keras.layers.GroupNormalization(
          groups=self.num_groups, epsilon=self.epsilon, name=name)
    kwargs: dict[str, Any] = dict(
        momentum=self.momentum, epsilon=self.epsilon, name=name)
    if self.kind == 'frozen':
      return FrozenBatchNormalization(**kwargs)
    # One replica has the whole batch, and a fused kernel is there only for
    # layers that need not ask the others.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    layer = tf_keras.layers.BatchNormalization(
        synchronized=self.kind == 'sync_batch' and replicas > 1, **kwargs)
    keras_layers.plain_variance(layer)
    return layer

  def check(self, channels: int) -> None:
    """Raises ValueError where the groups do not divide the channels."""
    if self.kind == 'group' and channels % self.num_groups:
      raise ValueError(
          f'GroupNorm with {self.num_groups} groups cannot split {channels} '
          f'channels evenly: use a multiple of {self.num_groups} channels, or '
          'a num_groups that divides them.')

  def as_frozen(self) -> 'Normalization':
    """The same for frozen layers (GroupNorm has no statistics to freeze)."""
    return (self if self.kind in ('group', 'none')
            else dataclasses.replace(self, kind='frozen'))

  def get_config(self) -> Mapping[str, Any]:
    """The fields."""
    return dataclasses.asdict(self)

  @classmethod
  def from_config(cls, config: Mapping[str, Any]) -> 'Normalization':
    """Of the fields."""
    return cls(**config)

  @classmethod
  def of(cls, norm: Union['Normalization', Mapping[str, Any], None]
        ) -> 'Normalization':
    """`norm` itself, from its config, or the default for None."""
    if isinstance(norm, Normalization):
      return norm
    config: dict[str, Any] = dict(norm or {})
    return cls(**config.get('config', config))


NO_NORMALIZATION = Normalization('none')


def he_fan_out() -> Initializer:
  """MSRA (fan-out) normal, the release's choice for ReLU convolutions."""
  return tf_keras.initializers.VarianceScaling(
      scale=2., mode='fan_out', distribution='untruncated_normal')


def _conv_initializer(norm: Normalization) -> Initializer:
  """Model Garden's initializer in front of a normalization, else MSRA's.

  A normalization takes the scale of the kernel out of the output; what is left
  of it is the learning rate, which a smaller kernel makes larger.
  """
  if norm.kind in ('none', 'frozen'):
    return he_fan_out()
  return tf_keras.initializers.VarianceScaling()


def gaussian(stddev: float) -> Initializer:
  """Normal around 0, of output layers."""
  return tf_keras.initializers.RandomNormal(stddev=stddev)


def xavier_fan_in() -> Initializer:
  """Caffe's Xavier: uniform with variance 1 / fan-in."""
  return tf_keras.initializers.VarianceScaling(
      scale=1., mode='fan_in', distribution='uniform')


def _caffe_fan_out() -> Initializer:
  return tf_keras.initializers.VarianceScaling(
      scale=1 / 3., mode='fan_out', distribution='uniform')


class _NormalizedLayer(configured.Configured):
  """activation(norm(inner(x))), the inner layer made by a subclass."""

  def __init__(self, units, norm, activation, **kwargs):
    super().__init__(**kwargs)
    self.normalization = Normalization.of(norm)
    self.normalization.check(units)
    self.norm = self.normalization.layer('norm')
    self.activation: Any = tf_keras.activations.get(activation)

  def _finish(self, x, training):
    return self.activation(self.norm(x, training=training))


@tf_keras.utils.register_keras_serializable(package='PANet')
class ConvNorm(_NormalizedLayer):
  """Convolution, normalization, activation.

  The padding is kernel_size // 2 on each side at every stride, as in Caffe and
  PyTorch; TensorFlow's 'SAME' pads a stride-2 convolution on one side only.
  """

  def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1,
               norm: Normalization | None = None,
               activation: Callable | str | None = 'relu',
               use_bias: bool | None = None,
               kernel_initializer=None, kernel_regularizer=None,
               groups: int = 1, deformable: bool = False,
               modulated: bool = False, **kwargs):
    """Initializes the block.

    Args:
      filters: number of output channels.
      kernel_size: odd, the same in both directions.
      strides: 1 or more, the same in both directions.
      norm: the normalization, `Normalization()` for None.
      activation: name of the activation, None for none.
      use_bias: None for `norm.conv_bias`.
      kernel_initializer: None for Model Garden's, or MSRA's (fan-out) where
        no normalization follows.
      kernel_regularizer: of the kernel only.
      groups: of input and output channels, see `grouped_conv`.
      deformable: a deformable convolution, see `deformable_conv`.
      modulated: that one's second version.

    Raises:
      ValueError: where the groups of GroupNorm do not divide the filters.
    """
    super().__init__(filters, norm, activation, **kwargs)
    norm = self.normalization
    conv = (functools.partial(deformable_conv.DeformableConv2D,
                              modulated=modulated)
            if deformable else grouped_conv.PaddedConv2D)
    self.conv = conv(
        filters, kernel_size, strides, groups, name='conv',
        use_bias=norm.conv_bias if use_bias is None else use_bias,
        kernel_initializer=kernel_initializer or _conv_initializer(norm),
        kernel_regularizer=kernel_regularizer)

  def call(self, x: tf.Tensor, training=None) -> tf.Tensor:
    """[batch, height, width, channels] to [batch, h, w, filters]."""
    return self._finish(self.conv(x, training=training), training)


@tf_keras.utils.register_keras_serializable(package='PANet')
class DenseNorm(_NormalizedLayer):
  """Fully connected layer, normalization, activation."""

  def __init__(self, units: int, norm: Normalization | None = None,
               activation: Callable | str | None = 'relu',
               use_bias: bool | None = None,
               kernel_initializer=None, kernel_regularizer=None, **kwargs):
    """Takes and raises what `ConvNorm` does, but for these defaults.

    Args:
      units: of the fc layer.
      norm, activation: see there.
      use_bias: None for `norm.fc_bias`.
      kernel_initializer: None for Caffe's: uniform, by the fan-out.
      kernel_regularizer: of the kernel only.
    """
    super().__init__(units, norm, activation, **kwargs)
    self.fc = tf_keras.layers.Dense(
        units, name='fc',
        use_bias=self.normalization.fc_bias if use_bias is None else use_bias,
        kernel_initializer=kernel_initializer or _caffe_fan_out(),
        kernel_regularizer=kernel_regularizer)

  def call(self, x: tf.Tensor, training=None) -> tf.Tensor:
    """[batch, channels] to [batch, units]."""
    return self._finish(self.fc(x), training)
