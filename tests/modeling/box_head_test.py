"""Claims about the box head; values against the authors' release."""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.modeling import box_head
from panet_tf.modeling.layers import normalization
from tests.support import parity as parity_lib
from tests.support import release_weights as release

GN = normalization.Normalization('group', epsilon=1e-5)
NONE = normalization.Normalization('none')
# Per class dx dy dw dh, as released, to dy dx dh dw.
_YX = [1, 0, 3, 2]


def pooled(channels=8, num_levels=4, num_boxes=3):
  return [tf.random.normal([2, num_boxes, 7, 7, channels])
          for _ in range(num_levels)]


def set_outputs(head, weights):
  weights.plain(head.class_logits, 'Box_Outs.cls_score', release.fc)
  weights.plain(head.box_deltas, 'Box_Outs.bbox_pred', release.fc)
  for w in head.box_deltas.weights:
    blocks = tf.reshape(w, [*w.shape[:-1], -1, 4])
    w.assign(tf.reshape(tf.gather(blocks, _YX, axis=-1), w.shape))


def check_head(head, arrays, x):
  num_boxes = len(arrays['cls_logits'])
  fused = arrays['fused']
  fused = release.nhwc(fused) if fused.ndim == 4 else fused
  parity_lib.assert_near(head.fuse(x), fused)
  parity_lib.assert_near(head.features(x), arrays['head_feature'])
  logits, deltas = head(x)
  parity_lib.assert_near(logits[0], arrays['cls_logits'])
  deltas = tf.reshape(deltas[0], [num_boxes, -1, 4]).numpy()
  expected = arrays['bbox_pred'].reshape([num_boxes, -1, 4])
  parity_lib.assert_near(deltas[..., _YX], expected)


def test_2fc_head_equals_the_release(parity):
  arrays = parity('adaptive_box_head_2fc_gn')
  x = [level[None] for level in release.nhwc(arrays['pooled'])]
  head = box_head.AdaptiveBoxHead(5, '2fc', fc_dims=256, norm=GN)
  head(x)
  weights = release.Release(arrays)
  for i in range(4):
    weights.block(head.fc1[f'level_{2 + i}'], f'Box_Head.fc1.{i}.0',
                  lambda w: release.fc(w, 7))
  weights.block(head.fc2, 'Box_Head.fc2.0', release.fc)
  set_outputs(head, weights)
  weights.done()
  check_head(head, arrays, x)


def test_4conv1fc_head_equals_the_release(parity):
  arrays = parity('adaptive_box_head_4conv1fc_gn')
  x = [level[None] for level in release.nhwc(arrays['pooled'])]
  head = box_head.AdaptiveBoxHead(
      5, '4conv1fc', 64, len(arrays['w/Box_Head.fc.bias']), norm=GN,
      norm_after_fc=False)
  head(x)
  weights = release.Release(arrays)
  for i in range(4):
    weights.block(head.conv1[f'level_{2 + i}'], f'Box_Head.conv1_head.{i}.0')
  for i, conv in enumerate((head.conv2, head.conv3, head.conv4)):
    weights.block(conv, f'Box_Head.convs.{3 * i}')
  weights.block(head.fc, 'Box_Head.fc', lambda w: release.fc(w, 7), norm=False)
  set_outputs(head, weights)
  weights.done()
  check_head(head, arrays, x)


def run(**kwargs):
  head = box_head.AdaptiveBoxHead(
      5, num_filters=8, fc_dims=16, norm=NONE, **kwargs)
  return head, head(pooled(num_levels=kwargs.get('num_levels', 4)))


@pytest.mark.parametrize('kind', ['4conv1fc', '2fc'])
def test_max_and_sum_fuse_the_first_layers_outputs(kind):
  x = pooled()
  for fusion, reduce in (('max', np.max), ('sum', np.sum)):
    head, _ = run(kind=kind, fusion=fusion)
    flat = [tf.reshape(v, [6, 7, 7, 8] if kind != '2fc' else [6, -1])
            for v in x]
    first = head.fc1 if kind == '2fc' else head.conv1
    outputs = [first[f'level_{2 + i}'](v).numpy() for i, v in enumerate(flat)]
    release.assert_near(head.fuse(x), reduce(outputs, axis=0), 1e-5)


def test_fusing_after_pooling_is_fusing_the_input():
  head, _ = run(fuse_after='pooling')
  x = pooled()
  single = head([tf.reduce_max(tf.stack(x), axis=0)])
  for a, b in zip(head(x), single, strict=True):
    release.assert_near(a, b.numpy(), 1e-6)


def test_levels_have_their_own_first_layer():
  head, _ = run()
  x = pooled(num_boxes=1)
  swapped = [x[1], x[0], *x[2:]]
  assert np.abs(head(x)[0] - head(swapped)[0]).max() > 1e-6
  head, _ = run(fuse_after='pooling')
  np.testing.assert_array_equal(head(x)[0], head(swapped)[0])


def expected_count(kind, first, c, f, d, k, conv_extra, fc_extra,
                   last_fc_extra):
  """Extras: parameters per channel besides the kernel."""
  out = 5 * k * d + 5 * k
  if kind == '2fc':
    return first * (49 * c * d + fc_extra * d) + d * d + fc_extra * d + out
  return (first * (9 * c * f + conv_extra * f)
          + 3 * (9 * f * f + conv_extra * f)
          + 49 * f * d + last_fc_extra * d + out)


@pytest.mark.parametrize('kind', ['4conv1fc', '2fc'])
@pytest.mark.parametrize('options, first', [
    (dict(), 4), (dict(fuse_after='pooling'), 1), (dict(num_levels=1), 1)])
@pytest.mark.parametrize('norm, conv_extra, fc_extra', [
    ('sync_batch', 2, 2), ('group', 2, 3), ('none', 1, 1)])
def test_parameter_count(kind, options, first, norm, conv_extra, fc_extra):
  head = box_head.AdaptiveBoxHead(
      5, kind, num_filters=8, fc_dims=16,
      norm=normalization.Normalization(norm, num_groups=4), **options)
  head(pooled(4, options.get('num_levels', 4)))
  assert release.count(head) == expected_count(
      kind, first, 4, 8, 16, 5, conv_extra, fc_extra, fc_extra)


def test_without_norm_after_fc_it_has_a_bias_instead():
  head = box_head.AdaptiveBoxHead(5, num_filters=8, fc_dims=16,
                                  norm_after_fc=False)
  head(pooled(4))
  assert release.count(head) == expected_count(
      '4conv1fc', 4, 4, 8, 16, 5, 2, 2, last_fc_extra=1)


def test_box_deltas_are_class_major():
  head, _ = run()
  x = pooled()
  before = head(x)[1].numpy()
  bias = np.zeros(20, 'float32')
  bias[4 * 2:4 * 3] = 1
  head.box_deltas.bias.assign(bias)
  moved = np.abs(head(x)[1] - before).max(axis=(0, 1)).reshape(5, 4)
  assert (moved[2] > .5).all() and moved.sum() == pytest.approx(4, abs=1e-4)


def test_number_of_boxes_may_be_unknown():
  head, _ = run()
  signature = [[tf.TensorSpec([None, None, 7, 7, 8])] * 4]
  traced = tf.function(head.call, input_signature=signature)
  for num_boxes in (1, 4):
    x = pooled(num_boxes=num_boxes)
    release.assert_near(traced(x)[0], head(x)[0].numpy(), 1e-5)


@pytest.mark.parametrize('kwargs', [
    dict(kind='3fc'), dict(fusion='mean'), dict(fuse_after='never')])
def test_unknown_options_say_what_is_known(kwargs):
  with pytest.raises(ValueError, match='expected'):
    box_head.AdaptiveBoxHead(5, **kwargs)


def test_wrong_number_of_levels_says_so():
  head, _ = run()
  with pytest.raises(ValueError, match='num_levels=2'):
    head(pooled(num_levels=2))
