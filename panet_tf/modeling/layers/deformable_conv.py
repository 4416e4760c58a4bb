"""Deformable convolution: every tap of the kernel looks where it wants to.

"Deformable ConvNets" (Dai et al., arXiv 1703.06211, equations 2 and 3), which
the paper's best single model has; with masks "Deformable ConvNets v2" (Zhu et
al., arXiv 1811.11168, equation 1):

  y(p) = sum over k of w_k * x(p + p_k + offset_k(p)) * mask_k(p)

x between pixels is bilinear, and zero outside of the map, pixel by pixel. The
channels of offsets and masks are in the order of torchvision.ops.deform_conv2d:
by deformable group, then by tap from the upper left, then y before x.

Memory in bytes, of float32 and with the pixels of the output, H and W:
  S = 4 * batch * H * W * taps * channels, the samples of all taps,
  is what a convolution as a matrix product has to hold; 77 MB for one map of
  100x168 with 128 channels and 3x3 taps (stage 3 of a 800x1344 image).
  Prediction holds 4 to 7 S until the layer is done.
  Training holds 18 to 22 S during the layer's own gradient (as measured on a
  CPU), and between the two passes nothing but the layer's inputs: samples are
  computed a second time, and a backbone does not hold those of all its layers.
benchmarks/modeling/deformable_conv.md has what was measured.
"""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from panet_tf.modeling.layers import grouped_conv


def deformable_conv2d(
    x: tf.Tensor, offsets: tf.Tensor, kernel: tf.Tensor,
    masks: tf.Tensor | None = None, *, strides: int = 1, dilation: int = 1,
    training: bool | None = None) -> tf.Tensor:
  """Deformable convolution, differentiable by every tensor.

  The padding is dilation * (kernel_size // 2) on each side. Positions and sums
  of samples are at least float32, whatever the dtype of x.

  Args:
    x: [batch, height, width, channels], a floating dtype.
    offsets: [batch, h, w, 2 * deformable groups * taps], pixels of x.
    kernel: [kernel_size, kernel_size, channels / groups, filters], dtype of x.
    masks: [batch, h, w, deformable groups * taps]; None for ones.
    strides: between outputs, in pixels of x.
    dilation: between taps, in pixels of x.
    training: False promises that no gradient is asked for, see
      `grouped_conv.conv2d`; here one is there all the same.

  Returns:
    [batch, h, w, filters], dtype of x; h = ceil(height / strides).

  Raises:
    ValueError: if the channels of offsets and kernel do not fit.
  """
  taps = kernel.shape[0] * kernel.shape[1]  # pyright: ignore[reportOperatorIssue] - a kernel's shape is static
  if offsets.shape[-1] % (2 * taps):  # pyright: ignore[reportOptionalOperand] - channels are static
    raise ValueError(
        f'{offsets.shape[-1]} channels of offsets: expected a multiple of '
        f'{2 * taps}, two for each tap of the kernel.')
  if masks is None:
    masks = tf.ones_like(offsets[..., ::2])  # pyright: ignore[reportArgumentType] - TensorFlow's stub of Tensor does not know `...`

  def convolve(x, offsets, kernel, masks):
    samples = _sample(x, offsets, masks, kernel.shape[0], strides, dilation)
    return _apply_kernel(
        samples, kernel, tf.shape(offsets)[:3], x.shape[-1], training)

  @tf.custom_gradient
  def recomputed(*tensors):

    def gradient(upstream):
      # The dependency keeps Grappler from merging these with the first pass,
      # which would hold all samples until now.
      with tf.control_dependencies([upstream]):
        again = [tf.identity(tensor) for tensor in tensors]
      with tf.GradientTape() as tape:
        tape.watch(again)
        y = convolve(*again)
      return tape.gradient(y, again, upstream)

    return convolve(*tensors), gradient

  run = convolve if training is False else recomputed
  return run(x, offsets, tf.convert_to_tensor(kernel), masks)  # pyright: ignore[reportReturnType] - the stub of custom_gradient keeps the pair


def _apply_kernel(samples, kernel, shape, channels, training):
  """Samples times the kernel, in groups: [*shape, filters]."""
  taps, filters = kernel.shape[0] * kernel.shape[1], kernel.shape[-1]
  batch, h, w = tf.unstack(shape)
  if channels == kernel.shape[2]:
    y = tf.matmul(tf.reshape(samples, [-1, taps * channels]),
                  tf.reshape(kernel, [taps * channels, filters]))
    return tf.reshape(y, [batch, h, w, filters])
  # The samples of an output side by side, as wide as a kernel that steps over
  # all of them.
  samples = tf.reshape(samples, [batch, h, w * taps, channels])
  kernel = tf.reshape(kernel, [1, taps, kernel.shape[2], filters])
  return grouped_conv.conv2d(samples, kernel, [1, taps], training)


def _sample(x, offsets, masks, size, strides, dilation):
  """What every tap of every output sees, of all deformable groups in turn.

  Returns:
    [batch * h * w * taps * groups, channels / groups].
  """
  shape, (h, w) = tf.shape(x), tf.unstack(tf.shape(offsets)[1:3])
  groups = masks.shape[-1] // size**2
  dtype = tf.float64 if x.dtype == tf.float64 else tf.float32

  def by_tap(part):
    return tf.cast(_by_tap(part, size**2), dtype)

  # Of the last axis: all groups of the first tap, and so on.
  tap = np.repeat(np.arange(size**2), groups)
  rows = tf.range(h)[:, tf.newaxis, tf.newaxis] * strides + (
      (tap // size - size // 2) * dilation)
  columns = tf.range(w)[:, tf.newaxis] * strides + (
      (tap % size - size // 2) * dilation)
  y, row = _split(by_tap(offsets[..., ::2]) + tf.cast(rows, dtype), shape[1])
  x_, column = _split(
      by_tap(offsets[..., 1::2]) + tf.cast(columns, dtype), shape[2])

  # With one zero around: all that is further out is drawn in to there, and
  # what is beyond the end of a row is the zero in front of the next.
  height, width = shape[1] + 2, shape[2] + 2
  cells = tf.reshape(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]),
                     [-1, x.shape[-1] // groups])
  image = tf.reshape(tf.range(shape[0]), [-1, 1, 1, 1])
  cell = ((image * height + row) * width + column) * groups + np.tile(
      np.arange(groups), size**2)
  masks = by_tap(masks)
  samples = 0.
  for step, weight in ((0, (1 - y) * (1 - x_)), (groups, (1 - y) * x_),
                       (width * groups, y * (1 - x_)),
                       ((width + 1) * groups, y * x_)):
    corner = tf.gather(cells, tf.reshape(
        tf.minimum(cell + step, tf.shape(cells)[0] - 1), [-1]))
    samples += tf.cast(corner, dtype) * tf.reshape(weight * masks, [-1, 1])
  return tf.cast(samples, x.dtype)


def _by_tap(x, taps):
  """Last axis from (group, tap) to (tap, group)."""
  groups = x.shape[-1] // taps
  if groups == 1:
    return x
  return tf.reshape(tf.transpose(
      tf.reshape(x, [-1, groups, taps]), [0, 2, 1]), tf.shape(x))


def _split(position, length) -> tuple[tf.Tensor, tf.Tensor]:
  """Fraction behind a pixel, and the pixel counted from the zero in front."""
  position = tf.clip_by_value(position, -1, tf.cast(length, position.dtype))
  low = tf.floor(position)
  return position - low, tf.cast(low, tf.int32) + 1


@tf_keras.utils.register_keras_serializable(package='PANet')
class DeformableConv2D(grouped_conv.PaddedConv2D):
  """Deformable convolution whose offsets a plain one computes from its input.

  That one begins with zeros: the layer begins as the plain convolution, or,
  modulated, as half of it (all masks are 0.5, as in the second paper). Kernel
  and bias are those of the plain layer, so that its weights fit; `offset` has
  the variables on top.
  """

  def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1,
               groups: int = 1, dilation_rate: int = 1,
               deformable_groups: int = 1, modulated: bool = False, **kwargs):
    """Takes the arguments of `PaddedConv2D`, and two more.

    Args:
      filters, kernel_size, strides, groups: see there.
      dilation_rate: between taps; 1 if `strides` are more.
      deformable_groups: parts of the input channels with offsets of their own;
        must divide the input channels.
      modulated: masks as well, the second version.
    """
    super().__init__(filters, kernel_size, strides, groups, **kwargs)
    self.deformable_groups, self.modulated = deformable_groups, modulated
    self.offset = grouped_conv.PaddedConv2D(
        (3 if modulated else 2) * deformable_groups * kernel_size**2,
        kernel_size, strides, dilation_rate=dilation_rate,
        kernel_initializer='zeros',
        kernel_regularizer=self.kernel_regularizer, name='offset')

  def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
    """See `PaddedConv2D`."""
    offsets = self.offset(x, training=training)
    masks = None
    if self.modulated:
      split = offsets.shape[-1] // 3 * 2
      offsets, masks = offsets[..., :split], tf.sigmoid(offsets[..., split:])
    y = deformable_conv2d(
        x, offsets, self.kernel, masks, strides=self.strides[0],
        dilation=self.offset.dilation_rate[0], training=training)
    return y if self.bias is None else tf.nn.bias_add(y, self.bias)

  def get_config(self) -> dict[str, Any]:
    """Returns `PaddedConv2D`'s, the dilation being that of the taps."""
    return dict(super().get_config(),
                dilation_rate=self.offset.dilation_rate[0],
                deformable_groups=self.deformable_groups,
                modulated=self.modulated)
