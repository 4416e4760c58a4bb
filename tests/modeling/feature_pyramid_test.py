"""Claims about the feature pyramid; values against the authors' release."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from panet_tf.modeling import feature_pyramid
from panet_tf.modeling.layers import normalization
from tests.support import parity as parity_lib
from tests.support import release_weights as release

GN = normalization.Normalization('group', epsilon=1e-5)
NONE = normalization.Normalization('none')


def backbone_maps(channels=(4, 5, 6, 7), size=32):
  return {str(level): tf.random.normal(
      [2, size >> level - 2, size >> level - 2, c])
          for level, c in zip(range(2, 6), channels, strict=True)}


def set_pyramid(pyramid, weights, norm):
  end = '.0' if norm else ''
  weights.block(pyramid.lateral['5'], f'conv_top{end}', norm=norm)
  for i in range(3):
    weights.block(pyramid.lateral[str(4 - i)],
                  f'topdown_lateral_modules.{i}.conv_lateral{end}', norm=norm)
  for i in range(4):
    weights.block(pyramid.posthoc[str(5 - i)], f'posthoc_modules.{i}{end}',
                  norm=norm)


@pytest.mark.parametrize('variant, norm, width', [
    ('gn', GN, 64), ('paper', NONE, 32)])
def test_pyramid_equals_the_release(parity, variant, norm, width):
  arrays = parity('bottom_up_path')
  c = {str(i): release.nhwc(arrays[f'in/C{i}']) for i in range(2, 6)}
  pyramid = feature_pyramid.FeaturePyramid(width, norm)
  pyramid(c)
  set_pyramid(pyramid, release.Release(arrays, f'{variant}/w/'),
              variant == 'gn')
  p = pyramid(c)
  compared = [k for k in p if f'{variant}/P{k}' in arrays]
  assert compared
  for k in compared:
    parity_lib.assert_near(p[k], release.nhwc(arrays[f'{variant}/P{k}']))


def test_upsampling_repeats_every_cell():
  x = np.random.normal(size=[2, 3, 4, 5]).astype('float32')
  np.testing.assert_array_equal(
      feature_pyramid.upsample(tf.constant(x)),
      x.repeat(2, axis=1).repeat(2, axis=2))


def test_outputs_may_be_negative_since_no_relu_follows():
  p = feature_pyramid.FeaturePyramid(8, NONE)(backbone_maps())
  assert all(tf.reduce_min(x) < 0 for x in p.values())


def test_coarse_input_reaches_the_finest_output_but_not_the_reverse():
  pyramid = feature_pyramid.FeaturePyramid(8, NONE)
  c = backbone_maps()
  before = pyramid(c)
  changed = pyramid({**c, '5': c['5'] + 1.})
  assert np.abs(changed['2'] - before['2']).max() > 1e-3
  changed = pyramid({**c, '2': c['2'] + 1.})
  np.testing.assert_array_equal(changed['3'], before['3'])


@pytest.mark.parametrize('kind, per_conv', [
    ('sync_batch', 2), ('none', 1), ('group', 2)])
@pytest.mark.parametrize('width', [8, 16])
def test_parameter_count(kind, per_conv, width):
  pyramid = feature_pyramid.FeaturePyramid(
      width, normalization.Normalization(kind, num_groups=4))
  pyramid(backbone_maps())
  # Kernels, then a bias or a scale and an offset for each of 8 convolutions.
  expected = (4 + 5 + 6 + 7) * width + 4 * 9 * width**2 + 8 * per_conv * width
  assert release.count(pyramid) == expected


def test_only_kernels_decay():
  pyramid = feature_pyramid.FeaturePyramid(
      8, NONE, tf_keras.regularizers.L2(.5))
  pyramid(backbone_maps())
  for w in pyramid.trainable_weights:
    w.assign(tf.ones_like(w))
  kernels = 22 * 8 + 4 * 9 * 64
  assert float(sum(pyramid.losses)) == pytest.approx(.5 * kernels)


def test_variable_names_are_words_and_levels():
  pyramid = feature_pyramid.FeaturePyramid(8, NONE, name='feature_pyramid')
  pyramid(backbone_maps())
  names = {w.name for w in pyramid.weights}
  assert 'feature_pyramid/lateral_3/conv/kernel:0' in names
  assert 'feature_pyramid/output_3/conv/bias:0' in names
