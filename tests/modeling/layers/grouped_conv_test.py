"""Claims about convolution in groups."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.modeling.layers import grouped_conv
from panet_tf.modeling.layers import normalization
from tests.support import layer_exports
from tests.support import release_weights as release

# Groups, channels in, filters, strides, size of the map. Without oneDNN that is
# one block, several, blocks that are groups; with it, both gradients.
CASES = [(4, 16, 8, 1, (9, 8)), (16, 64, 64, 2, (8, 11)),
         (2, 128, 64, 1, (6, 6)), (3, 6, 9, 2, (7, 7)), (8, 8, 8, 1, (5, 5))]


def twin(x, kernel, strides):
  """One convolution for each group."""
  groups = x.shape[-1] // kernel.shape[2]
  return tf.concat([
      tf.nn.conv2d(*parts, strides, 'VALID') for parts in zip(
          tf.split(x, groups, -1), tf.split(kernel, groups, -1),
          strict=True)], -1)


def with_gradients(function, x, kernel, strides, upstream=None):
  """Output and gradients by x and kernel."""
  with tf.GradientTape() as tape:
    tape.watch([x, kernel])
    y = function(x, kernel, strides)
  if upstream is None:
    upstream = tf.random.stateless_normal(y.shape, [0, 1], dtype=y.dtype)
  return [y, *tape.gradient(y, [x, kernel], upstream)]


def assert_is_the_twin(case, dtype, tolerance):
  groups, channels, filters, strides, size = case
  x = tf.random.stateless_normal([2, *size, channels], [1, 2],
                                     dtype=dtype)
  kernel = tf.random.stateless_normal(
      [3, 3, channels // groups, filters], [3, 4], dtype=dtype)
  expected = with_gradients(twin, x, kernel, strides)
  for function in (grouped_conv.conv2d, tf.function(grouped_conv.conv2d)):
    for found, wanted in zip(
        with_gradients(function, x, kernel, strides), expected, strict=True):
      np.testing.assert_allclose(
          found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize('dtype, tolerance', [
    (tf.float64, 1e-12), (tf.float32, 1e-5)])
@pytest.mark.parametrize('case', CASES)
def test_it_is_a_convolution_for_each_group_with_its_gradients(
    case, dtype, tolerance):
  assert_is_the_twin(case, dtype, tolerance)


def test_so_it_is_with_the_kernels_of_onednn():
  """They are off in this process, see conftest.py."""
  here = pathlib.Path(__file__).resolve()
  done = subprocess.run(
      [sys.executable, here], check=False, capture_output=True, text=True,
      env={**os.environ, 'TF_ENABLE_ONEDNN_OPTS': '1', 'PYTHONPATH':
           os.pathsep.join([str(here.parents[3]), str(here.parent)])})
  assert not done.returncode, done.stderr[-2000:]
  assert done.stdout.split()[-1] == 'equal'


@pytest.mark.parametrize('merged, channels', [(1, 64), (2, 8), (4, 4), (2, 6)])
def test_without_onednn_few_dense_convolutions_do_the_work(merged, channels):
  groups = 12
  x = tf.zeros([1, 3, 3, groups * channels])
  kernel = tf.zeros([3, 3, channels, groups])
  graph = tf.function(
      lambda: grouped_conv._in_blocks(x, kernel, 1)).get_concrete_function()
  ops = [op.type for op in graph.graph.get_operations()]
  assert ops.count('Conv2D') == groups // merged


def test_kernel_and_parameters_are_those_of_the_groups():
  layer = normalization.ConvNorm(
      32, 3, groups=8, norm=normalization.Normalization('batch'))
  layer(tf.zeros([1, 4, 4, 16]))
  assert layer.conv.kernel.shape == [3, 3, 2, 32]
  assert release.count(layer) == 9 * 2 * 32 + 2 * 32


@pytest.mark.parametrize('strides', [1, 2])
@pytest.mark.parametrize('bias', [True, False])
def test_layer_pads_by_half_the_kernel_on_each_side(strides, bias):
  layer = grouped_conv.PaddedConv2D(
      8, 5, strides, 4, use_bias=bias, bias_initializer='ones')
  x = tf.random.normal([2, 7, 8, 8])
  padded = tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]])
  for training in (True, False, None):
    found = layer(x, training=training)
    np.testing.assert_allclose(
        found, twin(padded, layer.kernel, strides) + bias, atol=1e-5)


def test_dilated_groups_are_refused():
  with pytest.raises(ValueError, match='expected 1 in 2 groups'):
    grouped_conv.PaddedConv2D(8, groups=2, dilation_rate=2)


@pytest.mark.parametrize('strides', [1, 2])
def test_every_export_holds_one_convolution_and_computes_the_same(
    strides, tmp_path):
  """With a normalization behind it, as in a backbone: Grappler fuses that."""
  layer = normalization.ConvNorm(
      32, 3, strides, groups=8, norm=normalization.Normalization('batch'))
  x = np.random.normal(size=[1, 9, 8, 16]).astype('float32')
  layer(x, training=True)
  for variable in layer.variables:
    variable.assign(tf.random.uniform(variable.shape, 0.5, 1.5))
  padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
  wanted = tf.nn.relu(layer.norm(twin(padded, layer.conv.kernel, strides)))
  found = layer_exports.outputs(layer, x, tmp_path / 'saved_model')
  layer_exports.assert_equal(found, wanted.numpy())
  ops = {name: ops for name, (_, ops) in found.items()}
  assert ops['saved_model'].count(('Conv2D', False)) == 1
  assert not any(custom for _, custom in ops['saved_model'])
  assert ops['tflite'].count('CONV_2D') == 1
  assert [op for op in ops['onnx'] if op[0] == 'Conv'] == [('Conv', 8)]


if __name__ == '__main__':
  for one in CASES:
    assert_is_the_twin(one, tf.float32, 1e-5)
  print('equal')
