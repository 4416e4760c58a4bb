"""Claims about the ResNet backbone."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from panet_tf.modeling import normalization
from panet_tf.modeling.backbones import resnet

BATCH = normalization.Normalization('batch', momentum=0.5)


def count(weights):
  return sum(int(np.prod(w.shape)) for w in weights)


def tiny(**kwargs):
  model = resnet.ResNet(**{**dict(model_id=18, width_multiplier=.125,
                                  norm=BATCH), **kwargs})
  model(tf.zeros([1, 32, 32, 3]))
  return model


# torchvision's counts with the classifier, minus its fc layer; the moving
# statistics are two for every two trained scales and offsets.
@pytest.mark.parametrize('model_id, parameters', [
    (18, 11_689_512 - 513_000), (34, 21_797_672 - 513_000),
    (50, 25_557_032 - 2_049_000), (101, 44_549_160 - 2_049_000),
    (152, 60_192_808 - 2_049_000)])
def test_parameter_count_is_torchvisions(model_id, parameters):
  model = resnet.ResNet(model_id, norm=BATCH)
  model(tf.zeros([1, 32, 32, 3]))
  assert count(model.trainable_weights) == parameters
  affine = sum(int(w.shape[0]) for w in model.trainable_weights
               if w.shape.rank == 1)
  assert count(model.non_trainable_weights) == affine


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


def test_block_without_projection_is_the_identity_when_its_branch_is_zero():
  block = resnet.ResidualBlock(4, norm=BATCH)
  x = tf.nn.relu(tf.random.normal([2, 4, 4, 16]))
  block(x)
  block.conv3.norm.gamma.assign(tf.zeros(16))
  np.testing.assert_array_equal(block(x), x)


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


@pytest.mark.parametrize('kwargs', [
    dict(), dict(model_id=18, width_multiplier=.5, frozen_stages=2,
                 stride_in_1x1=True, norm=BATCH,
                 kernel_regularizer=tf_keras.regularizers.L2(1e-4))])
def test_config_round_trip(kwargs):
  config = resnet.ResNet(**kwargs).get_config()
  assert resnet.ResNet.from_config(config).get_config() == config


def test_block_config_round_trip():
  config = resnet.ResidualBlock(8, False, 2, projection=True).get_config()
  assert resnet.ResidualBlock.from_config(config).get_config() == config


@pytest.mark.parametrize('kwargs', [
    dict(model_id=49), dict(frozen_stages=6)])
def test_unknown_options_say_what_is_known(kwargs):
  with pytest.raises(ValueError, match='expected'):
    resnet.ResNet(**kwargs)
