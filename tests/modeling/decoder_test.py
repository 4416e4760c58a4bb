"""Claims about the neck as one decoder, and in Model Garden's RetinaNet."""

import numpy as np
from official.core import exp_factory
from official.vision.configs import decoders as decoder_configs
from official.vision.modeling import factory
import pytest
import tensorflow as tf
import tf_keras

from panet_tf.modeling import decoder
from panet_tf.modeling.layers import normalization
from tests.modeling.feature_pyramid_test import backbone_maps
from tests.support import release_weights as release

NONE = normalization.Normalization('none')


def make(**kwargs):
  neck = decoder.PANetDecoder(num_filters=8, norm=NONE, **kwargs)
  c = backbone_maps()
  return neck, c, neck(c)


@pytest.mark.parametrize('bottom_up_path', [True, False])
@pytest.mark.parametrize('min_level, max_level', [
    (2, 6), (3, 7), (2, 4), (4, 5), (3, 6)])
@pytest.mark.parametrize('coarser_levels', ['subsample', 'conv'])
def test_levels_and_specs(bottom_up_path, min_level, max_level, coarser_levels):
  neck, _, n = make(min_level=min_level, max_level=max_level,
                    bottom_up_path=bottom_up_path,
                    coarser_levels=coarser_levels)
  expected = [str(i) for i in range(min_level, max_level + 1)]
  assert list(n) == list(neck.output_specs) == expected
  for level in n:
    size = max(-(-128 // 2**int(level)), 1)
    assert n[level].shape == [2, size, size, 8]
    assert neck.output_specs[level].is_compatible_with(n[level].shape)


def test_without_bottom_up_path_n_is_p_and_level_6_subsamples_p5():
  neck, c, n = make(bottom_up_path=False)
  p = neck.feature_pyramid(c)
  for level in p:
    np.testing.assert_array_equal(n[level], p[level])
  np.testing.assert_array_equal(n['6'], p['5'][:, ::2, ::2])


def pyramid_count(levels):
  channels = {2: 4, 3: 5, 4: 6, 5: 7}
  return sum(channels[i] * 8 + 8 + 9 * 64 + 8 for i in levels)


@pytest.mark.parametrize('kwargs, levels, convs', [
    (dict(), range(2, 6), 6),
    (dict(bottom_up_path=False), range(2, 6), 0),
    (dict(min_level=3, max_level=7), range(3, 6), 4),
    (dict(min_level=3, max_level=7, coarser_levels='conv'), range(3, 6), 6),
    (dict(max_level=4), range(2, 5), 4)])
def test_parameter_count(kwargs, levels, convs):
  neck, _, _ = make(**kwargs)
  assert release.count(neck) == pyramid_count(levels) + convs * (9 * 64 + 8)


def test_levels_the_backbone_lacks_say_so():
  neck = decoder.PANetDecoder(min_level=1)
  with pytest.raises(ValueError, match='min_level 1 is not among'):
    neck(backbone_maps())
  with pytest.raises(ValueError, match="one of .*'subsample'"):
    decoder.PANetDecoder(coarser_levels='pool')


def retinanet_config(**panet):
  experiment = exp_factory.get_exp_config('retinanet_resnetfpn_coco')
  experiment.override({'task': {'model': {
      'num_classes': 3, 'input_size': [128, 128, 3],
      'backbone': {'type': 'resnet', 'resnet': {'model_id': 10}},
      'decoder': {'type': 'panet', 'panet': {'num_filters': 16, **panet}},
      'head': {'num_convs': 1, 'num_filters': 16}}}}, is_strict=True)
  return experiment.task.model


@pytest.mark.parametrize('bottom_up_path', [True, False])
def test_model_garden_retinanet_takes_the_decoder_from_its_yaml(bottom_up_path):
  config = retinanet_config(bottom_up_path=bottom_up_path)
  assert (config.min_level, config.max_level) == (3, 7)
  model = factory.build_retinanet(
      tf_keras.layers.InputSpec(shape=[None, 128, 128, 3]), config)
  assert isinstance(model.decoder, decoder.PANetDecoder)
  assert (model.decoder.bottom_up_path is not None) == bottom_up_path
  with tf.GradientTape() as tape:
    outputs = model(tf.random.normal([2, 128, 128, 3]), training=True)
    loss = sum(tf.reduce_sum(x**2) for x in outputs['cls_outputs'].values())
  assert outputs['box_outputs']['7'].shape == [2, 1, 1, 4 * 9]
  weights = model.decoder.trainable_weights
  gradients = tape.gradient(loss, weights)
  missing = [w.name for w, g in zip(weights, gradients, strict=True)
             if g is None]
  assert not missing


def test_normalization_of_model_garden_arrives():
  config = retinanet_config()
  config.norm_activation.override(dict(
      use_sync_bn=True, norm_momentum=.9, norm_epsilon=1e-4))
  neck = decoder.build_panet_decoder({}, config)
  assert neck.normalization == normalization.Normalization(
      'sync_batch', .9, 1e-4)


def test_model_garden_keeps_its_own_decoders():
  config = decoder_configs.Decoder(type='fpn')
  assert config.get().num_filters == 256
  config.override({'type': 'panet', 'panet': {'coarser_levels': 'subsample'}})
  assert config.get().coarser_levels == 'subsample'
  assert config.as_dict()['type'] == 'panet'
