"""Ours beside torchvision: backbones of converted weights, deformable conv.

torch and torchvision are no dependencies (they take gigabytes):
`pip install -e '.[torchvision]'` brings them.
"""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import factory
from panet_tf import files
from panet_tf import runs
from panet_tf.configs import panet
from panet_tf.convert import imagenet_backbones
from panet_tf.modeling.layers import deformable_conv

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('torchvision') is None,
    reason="torchvision is absent: pip install -e '.[torchvision]'")


def run_theirs(*arguments):
  program = pathlib.Path(__file__).with_name('torchvision_outputs.py')
  subprocess.run([sys.executable, program, *map(str, arguments)], check=True)


@pytest.mark.parametrize('name, file_format', [
    ('resnet18', 'legacy'), ('resnet50', 'zipped'), ('resnet101', 'zipped'),
    ('resnext101_32x8d', 'zipped'), ('resnext101_64x4d', 'zipped')])
def test_our_backbone_gives_torchvision_s_maps(name, file_format, tmp_path):
  run_theirs('backbone', name, file_format, tmp_path)
  theirs = np.load(tmp_path / 'maps.npz')
  out = str(tmp_path / 'out')
  imagenet_backbones.convert('torchvision', str(tmp_path / 'x.pth'), out)
  model = panet.PANet(include_mask=False, num_classes=2)
  model.override(files.read_yaml(
      f'{out}/{runs.BACKBONE}')['task']['model'])
  ours = factory.build_backbone(model)
  tf.train.Checkpoint(backbone=ours).read(
      runs.find(out)).assert_existing_objects_matched()
  found = ours(np.moveaxis(theirs['images'], 1, -1), training=False)
  for level, values in found.items():
    wanted = theirs[level]
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(
        np.moveaxis(values.numpy(), -1, 1), wanted, rtol=0,
        atol=1e-4 * np.abs(wanted).max(), err_msg=level)


@pytest.mark.parametrize('stride, dilation, groups', [
    (1, 1, 1), (2, 1, 2), (1, 2, 4)])
def test_deformable_convolution_and_its_gradients_are_torchvision_s(
    stride, dilation, groups, tmp_path):
  run_theirs('deformable', stride, dilation, groups, tmp_path)
  theirs = dict(np.load(tmp_path / 'deformable.npz'))

  def nhwc(x):
    return tf.constant(np.moveaxis(x, 1, -1))

  x, offsets, masks = (nhwc(theirs[name]) for name in ('x', 'offsets', 'masks'))
  kernel = tf.constant(theirs['kernel'].transpose(2, 3, 1, 0))
  with tf.GradientTape() as tape:
    tape.watch([x, offsets, kernel, masks])
    y = deformable_conv.deformable_conv2d(
        x, offsets, kernel, masks, strides=stride, dilation=dilation)
  found = [y, *tape.gradient(
      y, [x, offsets, kernel, masks], nhwc(theirs['upstream']))]
  wanted = [np.moveaxis(theirs[name], 1, -1) for name in (
      'y', 'd_x', 'd_offsets')]
  wanted += [theirs['d_kernel'].transpose(2, 3, 1, 0),
             np.moveaxis(theirs['d_masks'], 1, -1)]
  for ours, values in zip(found, wanted, strict=True):
    np.testing.assert_allclose(
        ours, values, rtol=0, atol=1e-5 * np.abs(values).max())
