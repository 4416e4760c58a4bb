"""Claims about whole models: variables, their numbers and their gradients."""

import collections
import functools
import re

import numpy as np
from official.vision.configs import common
from official.vision.configs import maskrcnn
from official.vision.modeling import factory as official_factory
import pytest
import tensorflow as tf
import tf_keras

from panet_tf import errors
from panet_tf import factory
from panet_tf.configs import experiments
from panet_tf.configs import panet
from tests.support import tiny

OFF = dict(bottom_up_path=False, adaptive_feature_pooling=False,
           fully_connected_fusion=False, box_head='2fc')


def name_of(variable):
  """Without the model's own name, which counts the models of the process."""
  return re.sub(r'^pa_net_model(_\d+)?/', '', variable.name)


@functools.cache
def shapes(**switches):
  """{name: shape} of the trainable variables of a tiny model."""
  make = (tiny.group_params if switches.get('normalization') == 'group'
          else tiny.params)
  model = factory.build_panet(make(**switches))
  return {name_of(v): tuple(v.shape) for v in model.trainable_variables}


def size(variables):
  return sum(int(np.prod(shape)) for shape in variables.values())


# Gradients.


class Recorder:
  """Stands for the optimizer: keeps what it should apply."""

  def apply_gradients(self, pairs):
    self.pairs = list(pairs)


def gradients(task, batch):
  """{variable: gradient} of one real training step."""
  model = task.build_model()
  recorder = Recorder()
  logs = task.train_step(batch, model, recorder)
  assert np.isfinite(logs['loss'])
  return model, {name_of(v): g for g, v in recorder.pairs}


def assert_all_live(found):
  dead = {name: 'none' if g is None else float(tf.reduce_max(tf.abs(g)))
          for name, g in found.items()
          if g is None or not np.all(np.isfinite(tf.convert_to_tensor(g)))
          or not np.any(tf.convert_to_tensor(g))}
  assert not dead


@pytest.mark.parametrize('kind', ['sync_batch', 'batch', 'group', 'none'])
def test_every_variable_gets_a_gradient(kind):
  make = tiny.group_params if kind == 'group' else tiny.params
  model_config = make(normalization=kind)
  # Without weight decay, whose gradient would hide a missing one.
  task = tiny.task(model_config, losses=maskrcnn.Losses())
  model, found = gradients(task, tiny.batch())
  assert set(found) == {name_of(v) for v in model.trainable_variables}
  assert len(found) == len(model.trainable_variables)
  assert_all_live(found)


@pytest.mark.parametrize('frozen_stages, whole', [(2, False), (0, True)])
def test_frozen_backbone_stages_get_none_and_the_rest_does(
    frozen_stages, whole):
  model_config = tiny.params(backbone=panet.Backbone(
      model_id=18, width_multiplier=0.125, frozen_stages=frozen_stages))
  task = tiny.task(model_config, losses=maskrcnn.Losses(),
                   freeze_backbone=whole)
  model, found = gradients(task, tiny.batch())
  assert_all_live(found)
  names = {name_of(v) for v in model.backbone.trainable_variables}
  assert names <= set(found)
  if whole:
    assert not names
  else:
    assert {name.split('/')[1] for name in names} == {
        f'res{level}_{i}' for level in (3, 4, 5) for i in (0, 1)}
  assert any('lateral_2' in name for name in found)


# Which variables exist.


def missing(**switches):
  """Names that the switches take away, and those that they bring."""
  full, other = shapes(), shapes(**switches)
  return set(full) - set(other), set(other) - set(full)


@pytest.mark.parametrize('switches, words', [
    (dict(bottom_up_path=False), {'bottom_up_path'}),
    (dict(fully_connected_fusion=False), {'conv4_fc', 'conv5_fc', 'mask_fc'}),
    (dict(include_mask=False), {'mask_head'}),
    (dict(norm_after_fc=False, norm_after_upconv=False),
     {'detection_head/fc/norm', 'upconv_norm'}),
])
def test_a_part_that_is_off_has_no_variables(switches, words):
  gone, _ = missing(**switches)
  assert gone == {name for name in shapes()
                  if any(word in name for word in words)}


@pytest.mark.parametrize('switches', [
    dict(adaptive_feature_pooling=False), dict(fuse_after='pooling')])
def test_without_first_layers_per_level_the_heads_have_one_conv1(switches):
  gone, new = missing(**switches)
  assert gone == {name for name in shapes()
                  if any(f'conv1_level_{i}' in name for i in range(2, 6))}
  assert {name.split('/')[1] for name in new} == {'conv1'}


def test_two_fc_layers_replace_four_convs_and_one():
  gone, new = missing(box_head='2fc')

  def layers(names):
    return {name.split('/')[1] for name in names}

  assert layers(gone) == {f'conv1_level_{i}' for i in range(2, 6)} | {
      'conv2', 'conv3', 'conv4', 'fc'}
  assert layers(new) == {f'fc1_level_{i}' for i in range(2, 6)} | {'fc2'}


# How many numbers, by hand.


class Count:
  """Trainable numbers of layers, from the paper's description.

  A convolution or fc layer has a kernel and, where a normalization follows, 2
  numbers per channel (scale and offset), else a bias.
  """

  def __init__(self, kind='sync_batch'):
    # A frozen normalization has no trainable numbers, 'none' none at all.
    self.scales = 2 if kind in ('sync_batch', 'batch', 'group') else 0
    self.bias = kind == 'none'
    # The release keeps biases in front of GroupNorm, in fc layers and the
    # bottom-up path.
    self.fc_bias = kind in ('none', 'group')

  def conv(self, k, c_in, c_out, bias=None):
    bias = self.bias if bias is None else bias
    return k * k * c_in * c_out + (bias + self.scales) * c_out

  def fc(self, c_in, c_out):
    return c_in * c_out + (self.fc_bias + self.scales) * c_out

  @staticmethod
  def plain(c_in, c_out):
    """An output layer: weights and bias."""
    return c_in * c_out + c_out

  def resnet18(self, w):
    """A stem 7x7 and four stages of two blocks of two 3x3."""
    total = self.conv(7, 3, w)
    c_in = w
    for c in (w, 2 * w, 4 * w, 8 * w):
      total += self.conv(3, c_in, c) + 3 * self.conv(3, c, c)
      total += self.conv(1, c_in, c) if c_in != c else 0  # The shortcut.
      c_in = c
    return total

  def resnet50(self):
    """A stem 7x7 and 3, 4, 6, 3 bottlenecks; 23.5 million altogether."""
    total, c_in = self.conv(7, 3, 64), 64
    for c, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
      total += self.conv(1, c_in, 4 * c)  # The shortcut.
      for i in range(blocks):
        total += (self.conv(1, 4 * c if i else c_in, c) + self.conv(3, c, c)
                  + self.conv(1, c, 4 * c))
      c_in = 4 * c
    return total

  def pyramid(self, channels, c):
    """A lateral 1x1 and an output 3x3 for each of C2..C5."""
    return sum(self.conv(1, c_in, c) + self.conv(3, c, c) for c_in in channels)

  def bottom_up_path(self, c):
    """Three stride-2 convolutions and three that fuse."""
    return 6 * self.conv(3, c, c, bias=self.fc_bias)

  def rpn(self, c, filters, anchors=3):
    """One 3x3 for all levels; a normalization for each of the 5 levels."""
    return (9 * c * filters + self.bias * filters + 5 * self.scales * filters
            + self.plain(filters, anchors) + self.plain(filters, 4 * anchors))

  def heavier_head(self, levels, c, filters, units, classes):
    """4 convs, 1 fc; 1st conv once a level; class and box outputs."""
    return (levels * self.conv(3, c, filters)
            + 3 * self.conv(3, filters, filters)
            + self.fc(49 * filters, units) + self.outputs(units, classes))

  def two_fc_head(self, levels, c, units, classes):
    return (levels * self.fc(49 * c, units) + self.fc(units, units)
            + self.outputs(units, classes))

  def outputs(self, units, classes):
    return self.plain(units, classes) + self.plain(units, 4 * classes)

  def fcn(self, levels, c, filters, classes):
    """4 convs 3x3, one deconvolution 2x2, one mask per class."""
    return (levels * self.conv(3, c, filters)
            + 3 * self.conv(3, filters, filters)
            + self.conv(2, filters, filters) + self.plain(filters, classes))

  def fc_branch(self, filters):
    """conv4_fc, conv5_fc with half the channels, fc to 28x28."""
    return (self.conv(3, filters, filters)
            + self.conv(3, filters, filters // 2)
            + self.plain(196 * filters // 2, 784))


TINY = (8, 16, 32, 64)  # Channels of C2..C5.


@pytest.mark.parametrize('kind', ['sync_batch', 'frozen', 'none', 'group'])
def test_whole_model_has_the_numbers_of_its_parts(kind):
  n = Count(kind)
  w, c, rpn, box, mask, units = ((32, 32, 64, 32, 64, 64) if kind == 'group'
                                 else (8, 16, 16, 16, 16, 24))
  expected = (
      n.resnet18(w) + n.pyramid([w, 2 * w, 4 * w, 8 * w], c)
      + n.bottom_up_path(c) + n.rpn(c, rpn)
      + n.heavier_head(4, c, box, units, 5) + n.fcn(4, c, mask, 5)
      + n.fc_branch(mask))
  assert size(shapes(normalization=kind)) == expected


@pytest.mark.parametrize('switches, removed', [
    # Six convolutions 3x3x16x16 and their scales and offsets.
    (dict(bottom_up_path=False), 6 * (9 * 16 * 16 + 2 * 16)),
    # Three more first layers in each head.
    (dict(adaptive_feature_pooling=False), 2 * 3 * (9 * 16 * 16 + 2 * 16)),
    (dict(fuse_after='pooling'), 2 * 3 * (9 * 16 * 16 + 2 * 16)),
    # conv4_fc, conv5_fc and the fc layer.
    (dict(fully_connected_fusion=False),
     9 * 16 * 16 + 2 * 16 + 9 * 16 * 8 + 2 * 8 + 14 * 14 * 8 * 784 + 784),
    # 7 convs 3x3 and one fc from 7x7x16 become 4 fc from there, and one.
    (dict(box_head='2fc'),
     7 * (9 * 16 * 16 + 2 * 16) - 3 * (784 * 24 + 2 * 24)
     - (24 * 24 + 2 * 24)),
    (dict(include_mask=False), Count().fcn(4, 16, 16, 5)
     + Count().fc_branch(16)),
    # Scale and offset, for a bias.
    (dict(norm_after_fc=False, norm_after_upconv=False),
     2 * (24 + 16) - (24 + 16)),
    # Values of one switch have the same layers.
    (dict(pooling_fusion='sum', fc_fusion='product', fc_source='conv2',
          fc_relu=True, normalization='batch'), 0),
])
def test_a_switch_changes_the_model_by(switches, removed):
  assert size(shapes()) - size(shapes(**switches)) == removed


def test_all_switches_off_leave_mask_r_cnn():
  n = Count()
  assert size(shapes(**OFF)) == (
      n.resnet18(8) + n.pyramid(TINY, 16) + n.rpn(16, 16)
      + n.two_fc_head(1, 16, 24, 5) + n.fcn(1, 16, 16, 5))


@pytest.mark.slow
def test_panet_coco_has_the_numbers_of_its_parts():
  model_config = experiments.read(
      'panet_coco', (), 'task.model.roi_align.use_xla=false').task.model
  model_config.input_size = [64, 64, 3]  # No parameter depends on it.
  model = factory.build_panet(model_config)
  n = Count()
  expected = (
      n.resnet50() + n.pyramid([256, 512, 1024, 2048], 256)
      + n.bottom_up_path(256) + n.rpn(256, 256)
      + n.heavier_head(4, 256, 256, 1024, 81) + n.fcn(4, 256, 256, 81)
      + n.fc_branch(256))
  assert n.resnet50() == 23_508_032  # torchvision's, without its classifier.
  assert sum(v.shape.num_elements()
             for v in model.trainable_variables) == expected


# Against Model Garden's Mask R-CNN.


def test_all_switches_off_has_the_variables_of_model_garden_s_heads():
  """With one difference: no bias in front of a batch normalization.

  Theirs have such biases, which never get a gradient. Backbone and pyramid
  are not compared: their FPN normalizes once per level and makes level 6 by a
  convolution, the paper's normalizes every layer and subsamples.
  """
  ours_config = tiny.params(normalization='batch', **OFF)
  parts = dict(
      anchor=ours_config.anchor, rpn_head=ours_config.rpn_head,
      detection_head=maskrcnn.DetectionHead(
          num_convs=0, num_fcs=2, num_filters=16, fc_dims=24),
      mask_head=ours_config.mask_head,
      norm_activation=common.NormActivation(use_sync_bn=False))
  ours = factory.build_panet(ours_config)
  theirs = official_factory.build_maskrcnn(
      tf_keras.layers.InputSpec(shape=[None, 64, 64, 3]),
      maskrcnn.MaskRCNN(num_classes=5, input_size=[64, 64, 3], **parts),
      backbone=ours.backbone, decoder=ours.decoder)
  theirs.detection_head[0](tf.zeros([1, 2, 7, 7, 16]))
  theirs.mask_head([tf.zeros([1, 2, 14, 14, 16]), tf.ones([1, 2], tf.int32)])
  biases = {
      'rpn_head': [(16,)],
      'detection_head': [(24,), (24,)],
      'mask_head': [(16,)] * 5,  # Four convolutions, one deconvolution.
  }
  for part, extra in biases.items():
    a, b = getattr(ours, part), getattr(theirs, part)
    if part == 'detection_head':
      a, b = a[0], b[0]
    a, b = (collections.Counter(tuple(v.shape) for v in x.weights)
            for x in (a, b))
    b.subtract(extra)
    assert a == +b, part


# Mistakes.


@pytest.mark.parametrize('overrides, field', [
    (dict(box_head='5conv'), 'box_head'),
    (dict(normalization='layer'), 'normalization'),
    (dict(normalization='group'), 'num_filters'),
    (dict(fc_source='conv4', mask_head=maskrcnn.MaskHead(num_convs=3)),
     'fc_source'),
    (dict(mask_sampler=maskrcnn.MaskSampler(num_sampled_masks=17)),
     'num_sampled_masks'),
    (dict(backbone=panet.Backbone(model_id=20)), 'backbone.model_id'),
])
def test_a_wrong_value_is_named(overrides, field):
  with pytest.raises(errors.InputError, match=field):
    factory.build_panet(tiny.params(**overrides))
