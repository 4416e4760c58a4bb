"""Claims about the block of all backbones."""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.modeling.backbones import residual_block
from panet_tf.modeling.layers import normalization
from tests.support import release_weights as release

BATCH = normalization.Normalization('batch', momentum=0.5, epsilon=1e-5)


def conv(x, kernel, strides):
  """Cross-correlation in groups with symmetric padding, place by place."""
  size, _, per_group, filters = kernel.shape
  groups = x.shape[-1] // per_group
  pad = [size // 2] * 2
  x = np.pad(x, [[0, 0], pad, pad, [0, 0]])
  h, w = ((edge - size) // strides + 1 for edge in x.shape[1:3])
  y = np.zeros([len(x), h, w, filters])
  for row, column, g in np.ndindex(h, w, groups):
    window = x[:, row * strides:row * strides + size,
               column * strides:column * strides + size,
               g * per_group:(g + 1) * per_group]
    outs = slice(g * filters // groups, (g + 1) * filters // groups)
    y[:, row, column, outs] = np.tensordot(window, kernel[..., outs], 3)
  return y


def conv_norm(layer, x):
  y = conv(x, layer.conv.kernel.numpy(), layer.conv.strides[0])
  mean, variance, gamma, beta = (np.asarray(v) for v in (
      layer.norm.moving_mean, layer.norm.moving_variance, layer.norm.gamma,
      layer.norm.beta))
  return (y - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def twin(block, x):
  """Bottleneck of torchvision, `SEBottleneck.forward` of Cadena's senet.py."""

  def relu(x):
    return np.maximum(x, 0)

  y = relu(conv_norm(block.conv2, relu(conv_norm(block.conv1, x))))
  y = conv_norm(block.conv3, y)
  if block.se_reduction:
    scale = y.mean((1, 2))
    scale = relu(scale @ block.se.fc1.kernel + block.se.fc1.bias)
    scale = scale @ block.se.fc2.kernel + block.se.fc2.bias
    y = y / (1 + np.exp(-scale))[:, None, None]
  return relu(y + (conv_norm(block.shortcut, x) if block.projection else x))


BLOCKS = {
    'resnet': dict(),
    'caffe': dict(stride_in_1x1=True),
    'resnext': dict(groups=4, widths=(4, 4)),
    'se_resnext': dict(groups=4, widths=(2, 2), se_reduction=4),
    'senet': dict(groups=8, widths=(2, 4), se_reduction=2, shortcut_size=3),
}


@pytest.mark.parametrize('kind', BLOCKS)
@pytest.mark.parametrize('strides', [1, 2])
def test_bottleneck_is_the_public_definition(kind, strides):
  block = residual_block.ResidualBlock(
      4, strides=strides, projection=True, norm=BATCH, **BLOCKS[kind])
  x = np.random.normal(size=[2, 5, 6, 8]).astype('float32')
  block(x)
  for variable in block.variables:
    low, high = (0.5, 1.5) if 'variance' in variable.name else (-1, 1)
    variable.assign(tf.random.uniform(variable.shape, low, high))
  expected = twin(block, x)
  release.assert_near(block(x), expected, 1e-5 * expected.max())


def test_block_without_projection_is_the_identity_when_its_branch_is_zero():
  block = residual_block.ResidualBlock(4, norm=BATCH)
  x = tf.nn.relu(tf.random.normal([2, 4, 4, 16]))
  block(x)
  block.conv3.norm.gamma.assign(tf.zeros(16))
  np.testing.assert_array_equal(block(x), x)


@pytest.mark.parametrize('channels, reduction, units', [
    (32, 16, 2), (64, 4, 16), (8, 16, 1)])
def test_squeeze_has_a_unit_for_so_many_channels(channels, reduction, units):
  layer = residual_block.SqueezeExcitation(channels, reduction)
  layer(tf.zeros([1, 2, 2, channels]))
  assert layer.fc1.units == units
  assert release.count(layer) == 2 * channels * units + units + channels


def test_squeeze_decays_its_kernels():
  layer = residual_block.SqueezeExcitation(16, 4, 'l2')
  layer(tf.zeros([1, 2, 2, 16]))
  assert len(layer.losses) == 2
