"""Claims about the bottom-up path; values against the authors' release."""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.modeling import bottom_up_path
from panet_tf.modeling import feature_pyramid
from panet_tf.modeling.layers import normalization
from tests.modeling.feature_pyramid_test import set_pyramid
from tests.support import parity as parity_lib
from tests.support import release_weights as release

GN = normalization.Normalization('group', epsilon=1e-5)
NONE = normalization.Normalization('none')


def levels(width=8, size=32):
  return {str(i): tf.random.normal([2, size >> i - 2, size >> i - 2, width])
          for i in range(2, 6)}


def set_path(path, weights, norm):
  end = '.0' if norm else ''
  for i in range(3):
    weights.block(path.down[str(2 + i)],
                  f'panet_buttomup_conv1_modules.{i}{end}', norm=norm)
    weights.block(path.fuse[str(3 + i)],
                  f'panet_buttomup_conv2_modules.{i}{end}', norm=norm)


@pytest.mark.parametrize('variant, weights_of, norm, width, activation', [
    ('gn', 'gn', GN, 64, 'relu'),
    ('paper', 'paper', NONE, 32, 'relu'),
    ('release_nonorm', 'paper', NONE, 32, None)])
def test_neck_equals_the_release(parity, variant, weights_of, norm, width,
                                 activation):
  arrays = parity('bottom_up_path')
  c = {str(i): release.nhwc(arrays[f'in/C{i}']) for i in range(2, 6)}
  pyramid = feature_pyramid.FeaturePyramid(width, norm)
  path = bottom_up_path.BottomUpPath(width, norm, activation)
  path(pyramid(c))
  weights = release.Release(arrays, f'{weights_of}/w/')
  set_pyramid(pyramid, weights, variant == 'gn')
  set_path(path, weights, variant == 'gn')
  weights.done()
  n = path(pyramid(c))
  parity_lib.assert_near(n['2'], release.nhwc(arrays[f'{weights_of}/N2']))
  for i in range(3, 6):
    parity_lib.assert_near(
        n[str(i)], release.nhwc(arrays[f'{variant}/N{i}']))
  parity_lib.assert_near(n['6'], release.nhwc(arrays[f'{variant}/P6']))


def test_n2_is_p2_untouched_and_n6_is_every_other_cell_of_n5():
  p = levels()
  n = bottom_up_path.BottomUpPath(8, NONE)(p)
  assert sorted(n) == ['2', '3', '4', '5', '6']
  np.testing.assert_array_equal(n['2'], p['2'])
  np.testing.assert_array_equal(n['6'], n['5'][:, ::2, ::2])
  np.testing.assert_array_equal(
      n['6'], tf.nn.max_pool2d(n['5'], 1, 2, 'VALID'))


def test_stride_2_convolution_pads_one_cell_on_each_side():
  path = bottom_up_path.BottomUpPath(1, NONE, activation=None)
  p = {'2': tf.ones([1, 4, 4, 1]), '3': tf.zeros([1, 2, 2, 1])}
  path(p)
  path.down['2'].conv.kernel.assign(tf.ones([3, 3, 1, 1]))
  # Top left: 2x2 of the window is inside; SAME would have 3x3 there and 2x2 at
  # the bottom right.
  np.testing.assert_array_equal(
      path.down['2'](p['2'])[0, ..., 0], [[4, 6], [6, 9]])


def test_fine_input_reaches_the_coarsest_output_but_not_the_reverse():
  path = bottom_up_path.BottomUpPath(8, NONE, activation=None)
  p = levels()
  before = path(p)
  changed = path({**p, '2': p['2'] + 1.})
  assert np.abs(changed['5'] - before['5']).max() > 1e-3
  changed = path({**p, '5': p['5'] + 1.})
  np.testing.assert_array_equal(changed['4'], before['4'])


def test_relu_follows_both_convolutions_unless_switched_off():
  p = levels()
  n = bottom_up_path.BottomUpPath(8, NONE)(p)
  assert all(tf.reduce_min(n[str(i)]) >= 0 for i in range(3, 7))
  n = bottom_up_path.BottomUpPath(8, NONE, activation=None)(p)
  assert all(tf.reduce_min(n[str(i)]) < 0 for i in range(3, 6))


@pytest.mark.parametrize('kind, per_conv', [
    ('sync_batch', 2), ('group', 3), ('none', 1)])
@pytest.mark.parametrize('width', [8, 16])
def test_parameter_count(kind, per_conv, width):
  path = bottom_up_path.BottomUpPath(
      width, normalization.Normalization(kind, num_groups=4))
  path(levels(width))
  # Two 3x3 convolutions for N3, N4, N5; GroupNorm keeps the bias, as released.
  assert release.count(path) == 6 * (9 * width**2 + per_conv * width)
