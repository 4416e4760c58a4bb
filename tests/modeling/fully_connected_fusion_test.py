"""Claims about the mask head; values against the authors' release."""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.modeling import fully_connected_fusion as ff
from panet_tf.modeling.layers import normalization
from tests.support import parity as parity_lib
from tests.support import release_weights as release

GN = normalization.Normalization('group', epsilon=1e-5)
NONE = normalization.Normalization('none')
CLASSES = tf.constant([[0, 1, 4], [2, 2, 3]])


def pooled(channels=8, num_levels=4, num_boxes=3):
  return [tf.random.normal([2, num_boxes, 14, 14, channels])
          for _ in range(num_levels)]


def make(norm=NONE, **kwargs):
  head = ff.FullyConnectedFusion(
      5, num_filters=kwargs.pop('num_filters', 8), norm=norm, **kwargs)
  head([pooled(num_levels=kwargs.get('num_levels', 4)), CLASSES])
  return head


def branches(head, levels):
  """Logits before they are fused: of all classes, and those of the fc branch.
  """
  up, fc = head.trunk(levels)
  size = [*levels[0].shape[:2], 28, 28]
  return (tf.reshape(head.classifier(up), [*size, head.num_classes]),
          None if fc is None else tf.reshape(fc, size))


def release_head(arrays, fc_relu):
  x = [level[None] for level in release.nhwc(arrays['pooled'])]
  head = ff.FullyConnectedFusion(5, num_filters=64, norm=GN, fc_relu=fc_relu,
                                 norm_after_upconv=False)
  head([x, tf.zeros(x[0].shape[:2], tf.int32)])
  weights = release.Release(arrays)
  for i in range(4):
    weights.block(head.conv1[f'level_{2 + i}'], f'Mask_Head.mask_conv1.{i}.0')
  weights.block(head.convs['conv2'], 'Mask_Head.conv_fcn.0')
  weights.block(head.convs['conv3'], 'Mask_Head.conv_fcn.3')
  weights.block(head.convs['conv4'], 'Mask_Head.mask_conv4.0')
  weights.block(head.conv4_fc, 'Mask_Head.mask_conv4_fc.0')
  weights.block(head.conv5_fc, 'Mask_Head.mask_conv5_fc.0')
  weights.plain(head.mask_fc, 'Mask_Head.mask_fc.0',
                lambda w: release.fc(w, 14))
  weights.plain(head.upconv, 'Mask_Head.upconv', release.conv)
  weights.plain(head.classifier, 'Mask_Outs.classify', release.conv)
  weights.done()
  return head, x


@pytest.mark.parametrize('fc_relu, fc_key, mask_key', [
    (True, 'x_ff', 'mask_logits'),
    (False, 'x_ff_before_relu', 'mask_logits_without_fc_relu')])
def test_mask_head_equals_the_release(parity, fc_relu, fc_key, mask_key):
  arrays = parity('mask_head_ff_gn')
  head, x = release_head(arrays, fc_relu)
  parity_lib.assert_near(head.fuse(x), release.nhwc(arrays['fused']))
  fcn, fc = branches(head, x)
  parity_lib.assert_near(fcn[0], release.nhwc(arrays['fcn_logits']))
  parity_lib.assert_near(fc[0], arrays[fc_key].reshape(-1, 28, 28))
  for k in range(5):
    masks = head([x, tf.fill(x[0].shape[:2], k)])
    parity_lib.assert_near(masks[0], arrays[mask_key][:, k])


@pytest.mark.parametrize('mask_fusion', ['sum', 'max', 'product'])
def test_masks_are_the_fused_branches_of_the_given_classes(mask_fusion):
  head = make(mask_fusion=mask_fusion)
  x = pooled()
  fcn, fc = branches(head, x)
  chosen = np.take_along_axis(
      fcn.numpy(), CLASSES.numpy()[:, :, None, None, None], axis=-1)[..., 0]
  expected = ff.fuse_masks(tf.constant(chosen), fc, mask_fusion)
  release.assert_near(head([x, CLASSES]), expected.numpy(), 1e-5)


def test_classes_may_be_float_as_detections_are():
  head, x = make(), pooled()
  np.testing.assert_array_equal(head([x, CLASSES]),
                                head([x, tf.cast(CLASSES, tf.float32)]))


def test_sum_adds_logits_max_and_product_fuse_probabilities():
  a = np.linspace(-6, 6, 41).astype('float64')[:, None]
  b = np.linspace(-5, 7, 37).astype('float64')[None]

  def sigmoid(x):
    return 1 / (1 + np.exp(-x))

  np.testing.assert_allclose(ff.fuse_masks(a, b, 'sum'), a + b)
  for name, fuse in (('max', np.maximum), ('product', np.multiply)):
    fused = ff.fuse_masks(tf.constant(a), tf.constant(b), name)
    np.testing.assert_allclose(
        sigmoid(fused.numpy()), fuse(sigmoid(a), sigmoid(b)), rtol=1e-9)


def test_product_of_huge_logits_stays_finite_with_its_gradient():
  a = tf.constant([-200., 200., 200., -200.])
  b = tf.constant([-200., 200., -200., 0.])
  with tf.GradientTape() as tape:
    tape.watch(a)
    fused = ff.fuse_masks(a, b, 'product')
  expected = [-400, 200 - np.log(2), -200, -200 - np.log(2)]
  np.testing.assert_allclose(fused, expected, rtol=1e-6)
  assert np.isfinite(tape.gradient(fused, a)).all()


def test_fc_branch_is_shared_by_all_classes():
  head, x = make(), pooled()
  before = [head([x, tf.fill([2, 3], k)]).numpy() for k in range(5)]
  head.mask_fc.bias.assign_add(tf.range(784, dtype=tf.float32))
  ramp = np.arange(784.).reshape(28, 28)
  for k in range(5):
    moved = head([x, tf.fill([2, 3], k)]) - before[k]
    np.testing.assert_allclose(moved, np.broadcast_to(ramp, moved.shape),
                               atol=1e-3)


def test_without_its_relu_the_fc_branch_can_lower_logits():
  assert tf.reduce_min(branches(make(), pooled())[1]) < 0
  assert tf.reduce_min(branches(make(fc_relu=True), pooled())[1]) >= 0


@pytest.mark.parametrize('source', ['conv2', 'conv3', 'conv4'])
def test_fc_branch_forks_off_its_source(source):
  head, x = make(source=source), pooled()
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(branches(head, x)[1]**2)
  names = ['conv2', 'conv3', 'conv4']
  grads = tape.gradient(loss, [head.convs[n].conv.kernel for n in names])
  reached = [n for n, g in zip(names, grads, strict=True) if g is not None]
  assert reached == names[:names.index(source) + 1]


def fcn_count(first, c, f, k, extra, up_extra):
  return (first * (9 * c * f + extra * f) + 3 * (9 * f * f + extra * f)
          + 4 * f * f + up_extra * f + f * k + k)


def fc_count(f, extra):
  return (9 * f * f + extra * f + 9 * f * f // 2 + extra * f // 2
          + 196 * f // 2 * 784 + 784)


@pytest.mark.parametrize('kind, extra', [
    ('sync_batch', 2), ('group', 2), ('none', 1)])
@pytest.mark.parametrize('options, first', [
    (dict(), 4), (dict(fuse_after='pooling'), 1), (dict(num_levels=1), 1)])
@pytest.mark.parametrize('fc_branch', [True, False])
def test_parameter_count(kind, extra, options, first, fc_branch):
  norm = normalization.Normalization(kind, num_groups=4)
  head = make(norm, fc_branch=fc_branch, **options)
  expected = fcn_count(first, 8, 8, 5, extra, extra)
  assert release.count(head) == expected + fc_branch * fc_count(8, extra)


def test_without_norm_after_upconv_it_has_a_bias_instead():
  head = make(normalization.Normalization(), norm_after_upconv=False,
              fc_branch=False)
  assert release.count(head) == fcn_count(4, 8, 8, 5, 2, 1)


def test_without_the_fc_branch_it_has_no_variables():
  head = make(fc_branch=False)
  assert not [w.name for w in head.weights if 'fc/' in w.name]
  assert branches(head, pooled())[1] is None
  x = pooled()
  fcn = branches(head, x)[0]
  expected = tf.gather(fcn, CLASSES, axis=-1, batch_dims=2)
  release.assert_near(head([x, CLASSES]), expected.numpy(), 1e-5)


def test_every_variable_gets_a_gradient():
  head = make(normalization.Normalization('group', num_groups=4))
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(head([pooled(), CLASSES], training=True)**2)
  for w, g in zip(head.trainable_weights,
                  tape.gradient(loss, head.trainable_weights), strict=True):
    assert g is not None and tf.reduce_max(tf.abs(g)) > 0, w.name


def test_groups_that_do_not_divide_the_halved_channels_say_so():
  with pytest.raises(ValueError, match='32 groups cannot split 16 channels'):
    make(GN, num_filters=32)


@pytest.mark.parametrize('kwargs', [
    dict(mask_fusion='mean'), dict(source='conv5')])
def test_unknown_options_say_what_is_known(kwargs):
  with pytest.raises(ValueError, match='expected|is not one of'):
    make(**kwargs)


def test_number_of_boxes_may_be_unknown():
  head = make()
  signature = [[[tf.TensorSpec([None, None, 14, 14, 8])] * 4,
                tf.TensorSpec([None, None], tf.int32)]]
  traced = tf.function(head.call, input_signature=signature)
  for num_boxes in (1, 4):
    x = [pooled(num_boxes=num_boxes), tf.ones([2, num_boxes], tf.int32)]
    release.assert_near(traced(x), head(x).numpy(), 1e-5)
