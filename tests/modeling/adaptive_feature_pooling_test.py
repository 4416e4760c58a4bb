"""Claims about pooling from all levels, from one, and their fusion."""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.modeling import adaptive_feature_pooling as afp
from tests.support import release_weights as release


def features(size=256, channels=3):
  return {str(i): tf.random.normal([2, size >> i, size >> i, channels])
          for i in range(2, 7)}


def boxes_of_sizes(sizes):
  """[2, len(sizes), 4]: squares, in another order in the second image."""
  first = [[3., 5., 3. + s, 5. + s] for s in sizes]
  return tf.constant([first, first[::-1]])


# Levels 2, 2, 3, 4, 5, 5.
SIZES = (20., 111., 112., 224., 448., 2000.)


def test_every_box_is_pooled_from_levels_2_to_5_only():
  f, boxes = features(), boxes_of_sizes(SIZES)
  pooled = afp.AdaptiveFeaturePooling(7)(f, boxes)
  assert [x.shape for x in pooled] == [[2, 6, 7, 7, 3]] * 4
  f['6'] += 1.
  for a, b in zip(pooled, afp.AdaptiveFeaturePooling(7)(f, boxes),
                  strict=True):
    np.testing.assert_array_equal(a, b)
  f['5'] += 1.
  changed = afp.AdaptiveFeaturePooling(7)(f, boxes)
  assert np.abs(changed[3] - pooled[3]).max() > .5
  np.testing.assert_array_equal(changed[2], pooled[2])


@pytest.mark.parametrize('option', [
    dict(aligned=False), dict(sampling_ratio=1), dict(crop_size=14)])
def test_options_reach_roi_align(option):
  f, boxes = features(), boxes_of_sizes(SIZES)
  default = afp.AdaptiveFeaturePooling(7)(f, boxes)[0]
  other = afp.AdaptiveFeaturePooling(**{'crop_size': 7, **option})(f, boxes)[0]
  assert default.shape != other.shape or np.abs(default - other).max() > 1e-3


@pytest.mark.parametrize('size, level', [
    (1, 2), (111.9, 2), (112, 3), (223.9, 3), (224, 4), (447.9, 4), (448, 5),
    (5000, 5), (0, 2)])
def test_size_rule_doubles_at_each_level(size, level):
  assert afp.assigned_level(tf.constant([[0., 0., size, size]])) == [level]


def test_size_rule_takes_the_area():
  boxes = tf.constant([[0., 0., 112., 448.], [9., 9., 0., 0.]])
  np.testing.assert_array_equal(afp.assigned_level(boxes), [4, 2])


@pytest.mark.parametrize('formulation', ['kernels', 'xla'])
@pytest.mark.parametrize('sizes', [SIZES, (20.,), (500., 20., 30.)])
def test_single_level_is_the_assigned_one_of_all_levels(formulation, sizes):
  f, boxes = features(), boxes_of_sizes(sizes)
  pooled = afp.SingleLevelPooling(7, formulation=formulation)(f, boxes)
  assert len(pooled) == 1
  every = np.stack(afp.AdaptiveFeaturePooling(7)(f, boxes), axis=2)
  level = afp.assigned_level(boxes).numpy()
  for b in range(2):
    for i in range(len(sizes)):
      np.testing.assert_allclose(pooled[0][b, i], every[b, i, level[b, i] - 2],
                                 atol=1e-5)


def test_single_level_gradient_reaches_the_assigned_level_only():
  f = features()
  boxes = boxes_of_sizes((112., 120.))
  with tf.GradientTape() as tape:
    tape.watch(f)
    loss = tf.reduce_sum(afp.SingleLevelPooling(7)(f, boxes)[0]**2)
  grads = tape.gradient(loss, f)
  norms = {k: 0. if g is None else float(tf.norm(g)) for k, g in grads.items()}
  assert norms.pop('3') > 0 and not any(norms.values())


@pytest.mark.parametrize('pooling', [
    afp.AdaptiveFeaturePooling, afp.SingleLevelPooling])
def test_number_of_boxes_may_be_unknown(pooling):
  f, layer = features(), pooling(7)
  traced = tf.function(layer.call, input_signature=[
      {k: tf.TensorSpec([None, *v.shape[1:]]) for k, v in f.items()},
      tf.TensorSpec([None, None, 4])])
  for sizes in ((20.,), SIZES, ()):
    boxes = tf.reshape(boxes_of_sizes(sizes), [2, -1, 4])
    for a, b in zip(traced(f, boxes), layer(f, boxes), strict=True):
      assert a.shape == [2, len(sizes), 7, 7, 3]
      release.assert_near(a, b.numpy(), 1e-5)


@pytest.mark.parametrize('fusion, reduce', [('max', np.max), ('sum', np.sum)])
def test_fusion_is_element_wise_over_levels(fusion, reduce):
  x = np.random.normal(size=[4, 2, 3]).astype('float32')
  layer = afp.LevelFusion(fusion)
  np.testing.assert_allclose(layer(list(tf.constant(x))), reduce(x, axis=0),
                             rtol=1e-5, atol=1e-6)
  np.testing.assert_array_equal(layer([tf.constant(x)]), x)


def test_unknown_fusion_says_what_is_known():
  with pytest.raises(ValueError, match="expected 'max' or 'sum'"):
    afp.LevelFusion('mean')
