"""Claims about the backbones: ResNet and its kin."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from panet_tf.configs import backbone as backbone_config
from panet_tf.modeling.backbones import resnet
from panet_tf.modeling.layers import normalization

BATCH = normalization.Normalization('batch', momentum=0.5)


def count(weights):
  return sum(int(np.prod(w.shape)) for w in weights)


def tiny(**kwargs):
  model = resnet.ResNet(**{**dict(model_id=18, width_multiplier=.125,
                                  norm=BATCH), **kwargs})
  model(tf.zeros([1, 32, 32, 3]))
  return model


# With a classifier of 1000 classes. ResNet and ResNeXt: `num_params` of the
# weights in torchvision/models/resnet.py, and of its class with the blocks of
# 269. SE-ResNeXt and SENet: 48,955,416 and 115,088,984, the counts of Cadena's
# pretrained-models.pytorch in the tables of github.com/osmr/imgclsmob.
COUNTS = {
    18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160,
    152: 60_192_808, 269: 102_073_384, 'resnext101_32x8d': 88_791_336,
    'resnext101_64x4d': 83_455_272, 'se_resnext101_32x4d': 48_955_416,
    'senet154': 115_088_984}


@pytest.mark.parametrize('model_id', resnet.DESIGNS)
def test_parameter_count_is_that_of_the_public_definition(
    model_id, monkeypatch):
  monkeypatch.setattr(  # A hundred million random numbers take seconds.
      tf_keras.initializers.VarianceScaling, '__call__',
      lambda self, shape, dtype=None, **unused: tf.zeros(shape, dtype))
  model = resnet.ResNet(model_id, norm=BATCH)
  model(tf.zeros([1, 32, 32, 3]))
  classifier = 1000 * (512 if model_id in (18, 34) else 2048) + 1000
  assert count(model.trainable_weights) + classifier == COUNTS[model_id]
  # The moving statistics are two for every two trained scales and offsets.
  affine = sum(int(w.shape[0]) for w in model.trainable_weights
               if '/norm/' in w.name)
  assert count(model.non_trainable_weights) == affine


def test_the_configuration_knows_all_of_them_and_no_others():
  assert list(resnet.DESIGNS) == [
      *backbone_config.DEPTHS, *backbone_config.NAMES]


# Groups and channels in a group of the 3x3 convolutions, at full width.
@pytest.mark.parametrize('model_id, groups, channels', [
    ('resnext101_32x8d', 32, (8, 16, 32, 64)),
    ('resnext101_64x4d', 64, (4, 8, 16, 32)),
    ('se_resnext101_32x4d', 32, (4, 8, 16, 32)),
    ('senet154', 64, (2, 4, 8, 16)), (50, 1, (64, 128, 256, 512))])
@pytest.mark.parametrize('width', [.125, 1.])
def test_groups_are_those_of_the_name_and_scale_with_the_width(
    model_id, groups, channels, width, monkeypatch):
  monkeypatch.setitem(resnet.DESIGNS, model_id, resnet.DESIGNS[
      model_id]._replace(blocks=(1, 1, 1, 1)))
  model = tiny(model_id=model_id, width_multiplier=width)
  for blocks, wanted in zip(model.stages.values(), channels, strict=True):
    conv = blocks[0].conv2.conv
    if groups == 1:
      assert (conv.groups, conv.kernel.shape[2]) == (1, wanted * width)
    else:
      assert (conv.groups, conv.kernel.shape[2]) == (groups * width, wanted)


def test_senets_stem_has_three_convolutions_and_wide_shortcuts():
  model = tiny(model_id='senet154', width_multiplier=.25)
  convs = [model.stem.conv1, model.stem.conv2, model.stem.conv3]
  assert [c.conv.kernel.shape[2:] for c in convs] == [[3, 16], [16, 16],
                                                      [16, 32]]
  assert [c.conv.strides[0] for c in convs] == [2, 1, 1]
  assert [blocks[0].shortcut.conv.kernel_size[0]
          for blocks in model.stages.values()] == [1, 3, 3, 3]


@pytest.mark.parametrize('model_id, padding', [(50, 1), ('senet154', 0)])
@pytest.mark.parametrize('size', [32, 34])
def test_the_first_maximum_is_padded_in_front_or_rounded_up(
    model_id, padding, size, monkeypatch):
  """torch.nn.MaxPool2d(3, 2, padding=1), or (3, 2, ceil_mode=True)."""
  monkeypatch.setitem(resnet.DESIGNS, model_id, resnet.DESIGNS[
      model_id]._replace(blocks=(1, 1, 1, 1)))
  model = tiny(model_id=model_id)
  seen = {}
  monkeypatch.setattr(
      model, 'stages', {'2': [lambda x, training: seen.setdefault('x', x)]})
  images = tf.random.normal([1, size, size, 3])
  model(images)
  stem = np.asarray(model.stem(images))
  edge = stem.shape[1]
  windows = (edge + 2 - 3) // 2 + 1 if padding else -(-(edge - 3) // 2) + 1
  starts = range(-padding, 2 * windows - padding, 2)
  expected = [[stem[0, max(y, 0):y + 3, max(x, 0):x + 3].max((0, 1))
               for x in starts] for y in starts]
  np.testing.assert_array_equal(seen['x'][0], expected)


@pytest.mark.parametrize('model_id, expansion', [(18, 1), (50, 4)])
@pytest.mark.parametrize('width', [.125, .25])
def test_levels_halve_and_specs_tell_their_channels(model_id, expansion, width):
  model = tiny(model_id=model_id, width_multiplier=width)
  c = model(tf.zeros([1, 64, 96, 3]))
  for level, spec in model.output_specs.items():
    stride = 2**int(level)
    channels = int(64 * width) * expansion * stride // 4
    assert c[level].shape == [1, 64 // stride, 96 // stride, channels]
    assert spec.is_compatible_with(c[level].shape)
    assert spec[-1] == channels


@pytest.mark.parametrize('stride_in_1x1', [True, False])
def test_the_stride_is_in_the_1x1_or_the_3x3(stride_in_1x1):
  block = tiny(model_id=50, stride_in_1x1=stride_in_1x1).stages['3'][0]
  strides = (block.conv1.conv.strides[0], block.conv2.conv.strides[0])
  assert strides == ((2, 1) if stride_in_1x1 else (1, 2))


def test_stem_pads_symmetrically_so_that_a_flip_commutes_on_odd_maps():
  # On a map of odd size symmetric padding samples symmetric positions.
  model = tiny()
  kernel = model.stem.conv.kernel
  kernel.assign(.5 * (kernel + kernel[:, ::-1]))
  x = tf.random.normal([1, 33, 33, 3])
  a = model.stem(x)[:, :, ::-1]
  np.testing.assert_allclose(a, model.stem(x[:, :, ::-1]), atol=1e-5)


@pytest.mark.parametrize('frozen_stages', [0, 1, 2, 5])
def test_frozen_stages_have_no_trainable_variables(frozen_stages):
  model = tiny(frozen_stages=frozen_stages)
  frozen = ['stem/', 'res2', 'res3', 'res4', 'res5'][:frozen_stages]
  trained = ['stem/', 'res2', 'res3', 'res4', 'res5'][frozen_stages:]
  for _ in range(2):
    names = [w.name for w in model.trainable_weights]
    assert not [n for n in names if any(stage in n for stage in frozen)]
    assert all(any(stage in n for n in names) for stage in trained)
    model.trainable = True  # Must not thaw them.
  model.trainable = False
  assert not model.trainable_weights


@pytest.mark.parametrize('frozen_stages', [0, 2])
def test_frozen_statistics_do_not_move_in_training(frozen_stages):
  model = tiny(frozen_stages=frozen_stages)
  before = {w.name: w.numpy() for w in model.weights if 'moving' in w.name}
  model(tf.random.normal([2, 32, 32, 3]), training=True)
  moved = {w.name for w in model.weights
           if 'moving' in w.name and (w.numpy() != before[w.name]).any()}
  still = set(before) - moved
  frozen = {n for n in before if 'stem/' in n or 'res2' in n}
  assert still == (frozen if frozen_stages else set())


def test_frozen_kernels_do_not_decay():
  l2 = tf_keras.regularizers.L2(1.)
  assert len(tiny(kernel_regularizer=l2).losses) == 20
  # The stem and four kernels of stage 2 are gone.
  assert len(tiny(kernel_regularizer=l2, frozen_stages=2).losses) == 15


@pytest.mark.parametrize('stages', [(), (3,), (4, 5), (3, 4, 5)])
@pytest.mark.parametrize('modulated', [False, True])
def test_bottlenecks_of_the_stages_listed_are_deformable(stages, modulated):
  model = tiny(model_id=50, width_multiplier=.0625, deformable_stages=stages,
               modulated=modulated)
  for level, blocks in model.stages.items():
    for block in blocks:
      conv = block.conv2.conv
      assert hasattr(conv, 'offset') == (int(level) in stages)
      if hasattr(conv, 'offset'):
        assert conv.modulated == modulated
        assert conv.offset.kernel.shape[-1] == (27 if modulated else 18)


def test_a_new_deformable_backbone_computes_what_the_plain_one_does():
  """Its variables are the plain one's, by name, and the offsets."""
  plain, deformable = (
      tiny(model_id=50, deformable_stages=stages, name='backbone')
      for stages in ((), (3, 5)))
  weights = {w.name: w for w in deformable.weights}
  for w in plain.weights:
    weights.pop(w.name).assign(w)
  assert len(weights) == 2 * (4 + 3)
  assert all('/offset/' in name for name in weights)
  images = tf.random.normal([1, 64, 96, 3])
  wanted, found = plain(images), deformable(images)
  for level in wanted:
    np.testing.assert_allclose(
        found[level], wanted[level], atol=1e-4 * np.abs(wanted[level]).max())


@pytest.mark.parametrize('kwargs', [
    dict(model_id=49), dict(frozen_stages=6), dict(deformable_stages=[2]),
    dict(model_id=18, deformable_stages=[5])])
def test_unknown_options_say_what_is_known(kwargs):
  with pytest.raises(ValueError, match='expected'):
    resnet.ResNet(**kwargs)
