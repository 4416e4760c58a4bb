"""ResNet: image to C2..C5. "We also take ResNet as the basic structure" (3.1).

Padding is symmetric, as in Caffe and torchvision, so that their ImageNet
weights fit; so are the two places of the stride (`stride_in_1x1`).
"""

from typing import Any, Dict, Mapping, Optional

import tensorflow as tf
import tf_keras

from panet_tf.modeling import normalization

# Model id to whether blocks are bottlenecks, and blocks in stages 2..5.
_TABLE = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


@tf_keras.utils.register_keras_serializable(package='PANet')
class ResidualBlock(tf_keras.layers.Layer):
  """relu(f(x) + x), f being 3x3, 3x3 or the bottleneck 1x1, 3x3, 1x1."""

  def __init__(self, filters: int, bottleneck: bool = True, strides: int = 1,
               stride_in_1x1: bool = False, projection: bool = False,
               norm: Optional[normalization.Normalization] = None,
               kernel_regularizer=None, **kwargs):
    """Initializes the block.

    Args:
      filters: channels of the 3x3 convolutions; a bottleneck returns four
        times as many.
      bottleneck: whether the block is a bottleneck.
      strides: of the whole block.
      stride_in_1x1: whether a bottleneck strides in its first 1x1 convolution
        (Caffe), not in the 3x3 (torchvision).
      projection: whether the shortcut is a 1x1 convolution.
      norm: normalization after every convolution.
      kernel_regularizer: of the kernels.
      **kwargs: of the Keras layer.
    """
    super().__init__(**kwargs)
    self.filters, self.bottleneck = filters, bottleneck
    self.strides, self.stride_in_1x1 = strides, stride_in_1x1
    self.projection = projection
    self.normalization = normalization.Normalization.of(norm)
    self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
    width = 4 * filters if bottleneck else filters
    first, second = (strides, 1) if stride_in_1x1 else (1, strides)
    if bottleneck:
      self.conv1 = self._conv(filters, 1, first, 'relu', 'conv1')
      self.conv2 = self._conv(filters, 3, second, 'relu', 'conv2')
      self.conv3 = self._conv(width, 1, 1, None, 'conv3')
    else:
      self.conv1 = self._conv(filters, 3, strides, 'relu', 'conv1')
      self.conv2 = self._conv(filters, 3, 1, None, 'conv2')
    if projection:
      self.shortcut = self._conv(width, 1, strides, None, 'shortcut')

  def _conv(self, filters, kernel_size, strides, activation, name):
    return normalization.ConvNorm(
        filters, kernel_size, strides, self.normalization, activation,
        kernel_regularizer=self.kernel_regularizer, name=name)

  def call(self, x: tf.Tensor, training=None) -> tf.Tensor:
    """[batch, h, w, c] to [batch, h / strides, w / strides, width]."""
    shortcut = self.shortcut(x, training=training) if self.projection else x
    x = self.conv2(self.conv1(x, training=training), training=training)
    if self.bottleneck:
      x = self.conv3(x, training=training)
    return tf.nn.relu(x + shortcut)

  def get_config(self) -> Mapping[str, Any]:
    return dict(
        super().get_config(), filters=self.filters,
        bottleneck=self.bottleneck, strides=self.strides,
        stride_in_1x1=self.stride_in_1x1, projection=self.projection,
        norm=self.normalization.get_config(),
        kernel_regularizer=tf_keras.regularizers.serialize(
            self.kernel_regularizer))


@tf_keras.utils.register_keras_serializable(package='PANet')
class ResNet(tf_keras.Model):
  """ResNet-18, 34, 50, 101 or 152 without its classifier."""

  def __init__(self, model_id: int = 50, width_multiplier: float = 1.0,
               stride_in_1x1: bool = False, frozen_stages: int = 0,
               norm: Optional[normalization.Normalization] = None,
               kernel_regularizer=None, **kwargs):
    """Initializes the backbone.

    Args:
      model_id: 18, 34, 50, 101 or 152.
      width_multiplier: of all channel counts.
      stride_in_1x1: where bottlenecks stride; True in Caffe and the release.
      frozen_stages: 0 freezes nothing, 1 the stem, 2 the stem and stage 2
        (the release), up to 5. Frozen kernels and normalization do not train,
        the normalization keeps its moving statistics.
      norm: normalization after every convolution.
      kernel_regularizer: of the kernels.
      **kwargs: of the Keras model.

    Raises:
      ValueError: for an unknown model_id or frozen_stages.
    """
    super().__init__(**kwargs)
    if model_id not in _TABLE:
      raise ValueError(f'ResNet {model_id}: expected one of {list(_TABLE)}.')
    if not 0 <= frozen_stages <= 5:
      raise ValueError(f'frozen_stages {frozen_stages}: expected 0 to 5.')
    self.model_id, self.width_multiplier = model_id, width_multiplier
    self.stride_in_1x1, self.frozen_stages = stride_in_1x1, frozen_stages
    self.normalization = normalization.Normalization.of(norm)
    self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
    width = int(64 * width_multiplier)
    self.stem = normalization.ConvNorm(
        width, 7, 2, name='stem', **self._stage_kwargs(1))
    self.stages = {str(level): self._stage(level, width * 2**(level - 2))
                   for level in range(2, 6)}
    self._freeze()

  def _stage_kwargs(self, stage: int) -> Dict[str, Any]:
    if stage <= self.frozen_stages:
      return dict(norm=self.normalization.as_frozen())
    return dict(norm=self.normalization,
                kernel_regularizer=self.kernel_regularizer)

  def _stage(self, level: int, filters: int):
    bottleneck, num_blocks = _TABLE[self.model_id]
    return [ResidualBlock(
        filters, bottleneck, strides=2 if level > 2 and i == 0 else 1,
        stride_in_1x1=self.stride_in_1x1,
        projection=i == 0 and (bottleneck or level > 2),
        name=f'res{level}_{i}', **self._stage_kwargs(level))
            for i in range(num_blocks[level - 2])]

  def _freeze(self):
    frozen = [self.stem] if self.frozen_stages else []
    for level in range(2, self.frozen_stages + 1):
      frozen += self.stages[str(level)]
    for layer in frozen:
      layer.trainable = False

  @tf_keras.Model.trainable.setter
  def trainable(self, value: bool):
    """Sets all layers but the frozen ones, which stay frozen."""
    tf_keras.Model.trainable.fset(self, value)
    if value:
      self._freeze()

  @property
  def output_specs(self) -> Mapping[str, tf.TensorShape]:
    """Shapes of the output by level."""
    expansion = 4 if _TABLE[self.model_id][0] else 1
    width = int(64 * self.width_multiplier) * expansion
    return {str(level): tf.TensorShape([None, None, None,
                                        width * 2**(level - 2)])
            for level in range(2, 6)}

  def call(self, images: tf.Tensor, training=None) -> Mapping[str, tf.Tensor]:
    """Extracts features.

    Args:
      images: [batch, height, width, 3], normalized, multiples of 32.
      training: whether batch normalization uses the batch's statistics.

    Returns:
      {'2'..'5'}: [batch, height / 2^level, width / 2^level, channels].
    """
    x = self.stem(images, training=training)
    # Zeros are a neutral padding for the maximum of a ReLU's output.
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = tf.nn.max_pool2d(x, 3, 2, 'VALID')
    c = {}
    for level, blocks in sorted(self.stages.items()):
      for block in blocks:
        x = block(x, training=training)
      c[level] = x
    return c

  def get_config(self) -> Mapping[str, Any]:
    return dict(
        name=self.name, model_id=self.model_id,
        width_multiplier=self.width_multiplier,
        stride_in_1x1=self.stride_in_1x1, frozen_stages=self.frozen_stages,
        norm=self.normalization.get_config(),
        kernel_regularizer=tf_keras.regularizers.serialize(
            self.kernel_regularizer))

  @classmethod
  def from_config(cls, config, custom_objects=None):
    return cls(**config)
