"""Convolution in groups (ResNeXt), and with the padding of Caffe and PyTorch.

"Grouped convolutions [...] are divided into groups" of input and output
channels (Xie et al., arXiv 1611.05431, section 3.3): output group g sees input
group g only.

TensorFlow's own kernels do that forwards everywhere, and are what an export
should hold: one Conv2D, TFLite's CONV_2D and ONNX's Conv with `group`. Their
gradient is there on GPUs, on TPUs and on CPUs with oneDNN (the default on x86
with AVX-512 VNNI and later). Other CPUs refuse it ("Gradients for grouped
convolutions are not supported on CPU"), and for narrow groups oneDNN's is slow;
there we take that of a few dense convolutions.
benchmarks/modeling/grouped_conv.md compares the ways.
"""

from collections.abc import Sequence
import functools
from typing import Any

import tensorflow as tf
import tf_keras

# Groups are joined to dense convolutions of so many channels: four times the
# work of groups of 4, in half of the time.
_BLOCK_CHANNELS = 16
# From so many channels in a group on, oneDNN's gradient is the faster one.
_NATIVE_CHANNELS = 8


def conv2d(x: tf.Tensor, kernel: tf.Tensor,
           strides: int | Sequence[int] = 1,
           training: bool | None = None) -> tf.Tensor:
  """Convolution without padding, in as many groups as the shapes tell.

  Args:
    x: [batch, height, width, channels], a floating dtype.
    kernel: [kernel height, kernel width, channels / groups, filters], dtype of
      x; the first filters / groups filters see the first channels / groups
      channels, and so on (as in PyTorch).
    strides: of height and width.
    training: False promises that no gradient is asked for; on a CPU without
      oneDNN there is none then. A graph to save holds no custom gradient.

  Returns:
    [batch, h, w, filters], dtype of x.
  """
  if x.shape[-1] == kernel.shape[2]:
    return tf.nn.conv2d(x, kernel, strides, 'VALID')

  def native(x, kernel):
    # Grappler fuses a convolution with the normalization behind it, and the
    # fused CPU kernel without oneDNN has no groups: the assertion keeps them
    # apart.
    return tf.ensure_shape(tf.nn.conv2d(x, kernel, strides, 'VALID'),
                           [None, None, None, kernel.shape[-1]])

  if training is False or _has_fast_gradient(x.dtype, kernel.shape[2]):
    return native(x, kernel)

  @tf.custom_gradient
  def with_gradient(x, kernel):

    def gradient(upstream):
      with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        y = _in_blocks(x, kernel, strides)
      return tape.gradient(y, [x, kernel], upstream)

    return native(x, kernel), gradient

  return with_gradient(x, tf.convert_to_tensor(kernel))  # pyright: ignore[reportReturnType] - the stub of custom_gradient keeps the pair


@functools.cache
def _has_fast_gradient(dtype: tf.DType, channels: int) -> bool:
  """Whether TensorFlow has one here, for groups of so many channels."""
  if any(d.device_type != 'CPU' for d in tf.config.list_logical_devices()):
    return True
  if channels < _NATIVE_CHANNELS:
    return False
  # Nothing public tells whether oneDNN is on: ask for a gradient.
  with tf.init_scope(), tf.device('CPU:0'):
    x, kernel = tf.ones([1, 3, 3, 4], dtype), tf.ones([3, 3, 2, 4], dtype)
    try:
      # Not a tape: none records in this scope.
      arguments = dict(out_backprop=tf.ones([1, 1, 1, 4], dtype),
                       strides=[1, 1, 1, 1], padding='VALID')
      tf.raw_ops.Conv2DBackpropInput(
          input_sizes=x.shape, filter=kernel, **arguments)
      tf.raw_ops.Conv2DBackpropFilter(
          input=x, filter_sizes=kernel.shape, **arguments)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
      return False
  return True


def _in_blocks(x, kernel, strides):
  """`conv2d` as dense convolutions of some groups each, with zeros between."""
  height, width, channels, filters = kernel.shape
  groups = x.shape[-1] // channels
  merged = max(n for n in range(1, groups + 1) if groups % n == 0
               and n * channels <= max(channels, _BLOCK_CHANNELS))
  blocks = groups // merged
  kernel = tf.reshape(kernel, [
      height * width, 1, channels, blocks, merged, filters // groups])
  same_group = tf.eye(merged, dtype=kernel.dtype)
  kernel = kernel * tf.reshape(same_group, [1, merged, 1, 1, merged, 1])
  kernel = tf.reshape(kernel, [height, width, merged * channels, filters])
  return tf.concat([
      tf.nn.conv2d(part, dense, strides, 'VALID') for part, dense in zip(
          tf.split(x, blocks, -1), tf.split(kernel, blocks, -1),
          strict=True)], -1)


@tf_keras.utils.register_keras_serializable(package='PANet')
class PaddedConv2D(tf_keras.layers.Conv2D):
  """Convolution padded by kernel_size // 2 on each side, in groups.

  As in Caffe and PyTorch; TensorFlow's 'SAME' pads a stride of 2 on one side
  only. Variables are those of Keras's layer: kernel [kernel_size, kernel_size,
  channels / groups, filters], bias.
  """

  def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1,
               groups: int = 1, dilation_rate: int = 1, **kwargs):
    """Initializes the layer.

    Args:
      filters: number of output channels, a multiple of `groups`.
      kernel_size: odd, the same in both directions.
      strides: the same in both directions.
      groups: must divide the input channels.
      dilation_rate: 1 if `strides` or `groups` are more.
      **kwargs: of Keras's layer: bias, initializers, regularizers.

    Raises:
      ValueError: for what does not go together.
    """
    if groups > 1 and dilation_rate > 1:
      raise ValueError(
          f'dilation_rate {dilation_rate}: expected 1 in {groups} groups.')
    # 'same' where TensorFlow's is ours, and always for Keras's shape checks.
    super().__init__(filters, kernel_size, strides, padding='same',
                     groups=groups, dilation_rate=dilation_rate, **kwargs)
    self._pad = kernel_size // 2 if strides > 1 or groups > 1 else 0

  def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """[batch, height, width, channels] to [batch, h, w, filters].

    `training` False promises that no gradient is asked for; values are alike.
    """
    if self.groups == 1 and not self._pad:
      return super().call(x)  # pyright: ignore[reportReturnType] - Keras has no types
    pad = [self._pad, self._pad]
    # Keras compiles groups with XLA: for every shape anew, and not for export.
    x = conv2d(tf.pad(x, [[0, 0], pad, pad, [0, 0]]), self.kernel,
               self.strides, training)
    return x if self.bias is None else tf.nn.bias_add(x, self.bias)

  def get_config(self) -> dict[str, Any]:
    """Returns what `__init__` takes: one number for both directions."""
    config = super().get_config()
    del config['padding'], config['data_format']
    return dict(config, kernel_size=self.kernel_size[0],
                strides=self.strides[0], dilation_rate=self.dilation_rate[0])
