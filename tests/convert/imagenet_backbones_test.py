"""Claims about converted classifiers: they give what their source gives."""

import os
import pickle
import types

import h5py
import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf
import tf_keras
import yaml

from panet_tf import errors
from panet_tf import factory
from panet_tf import files
from panet_tf import runs
from panet_tf.configs import experiments
from panet_tf.configs import panet as panet_config
from panet_tf.convert import imagenet_backbones
from tests.convert import release_numpy
from tests.convert import torch_writer

STEM = 8


def classifier(blocks, bottleneck=True, stem=STEM, seed=0, groups=1, factor=1):
  """Arrays of torchvision's ResNet at small width, statistics included."""
  rng = np.random.default_rng(seed)
  arrays = {}

  def conv_bn(conv, norm, out, inner, size):
    arrays[f'{conv}.weight'] = rng.normal(
        size=[out, inner, size, size]) * np.sqrt(2 / (inner * size * size))
    for name, values in (
        ('weight', rng.uniform(0.5, 1, out) * (0.1 if 'bn3' in norm else 1)),
        ('bias', rng.normal(size=out)),
        ('running_mean', rng.normal(size=out)),
        ('running_var', rng.uniform(1e-3, 2, out))):
      arrays[f'{norm}.{name}'] = values
    arrays[f'{norm}.num_batches_tracked'] = np.array(9)

  conv_bn('conv1', 'bn1', stem, 3, 7)
  inner = stem
  for stage, count in enumerate(blocks, 1):
    width = factor * stem * 2**(stage - 1)
    top = 4 * width // factor if bottleneck else width
    for i in range(count):
      key = f'layer{stage}.{i}'
      convs = ([(width, inner, 1), (width, width // groups, 3), (top, width, 1)]
               if bottleneck else [(width, inner, 3), (width, width, 3)])
      for j, shape in enumerate(convs, 1):
        conv_bn(f'{key}.conv{j}', f'{key}.bn{j}', *shape)
      if i == 0 and (bottleneck or stage > 1):
        conv_bn(f'{key}.downsample.0', f'{key}.downsample.1', top, inner, 1)
      inner = top
  arrays['fc.weight'], arrays['fc.bias'] = np.ones([10, inner]), np.ones(10)
  return {key: a.astype(np.int64 if a.ndim == 0 else np.float32)
          for key, a in arrays.items()}


def forward(arrays, x, blocks, bottleneck=True, stride_in_1x1=False,
            groups=1):
  """C2..C5, NCHW."""

  def conv_bn(x, conv, norm, stride=1):
    kernel = arrays[f'{conv}.weight']
    parts = x.shape[1] // kernel.shape[1]
    assert parts in (1, groups)
    x = np.concatenate([
        release_numpy.conv(part, weight, None, stride) for part, weight in zip(
            np.split(x, parts, 1), np.split(kernel, parts), strict=True)], 1)
    scale, offset, mean, variance = (
        arrays[f'{norm}.{name}'].astype(float)[:, None, None] for name in (
            'weight', 'bias', 'running_mean', 'running_var'))
    return scale * (x - mean) / np.sqrt(variance + 1e-5) + offset

  relu = release_numpy.relu
  x = relu(conv_bn(x, 'conv1', 'bn1', 2))
  x = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
  height, width = ((edge - 3) // 2 + 1 for edge in x.shape[2:])
  x = np.max([x[:, :, i:i + 2 * height:2, j:j + 2 * width:2]
              for i in range(3) for j in range(3)], 0)
  maps = []
  for stage, count in enumerate(blocks, 1):
    for i in range(count):
      key, stride = f'layer{stage}.{i}', 2 if stage > 1 and i == 0 else 1
      strides = [stride, 1, 1] if stride_in_1x1 or not bottleneck else [
          1, stride, 1]
      y = x
      for j in range(3 if bottleneck else 2):
        y = conv_bn(y, f'{key}.conv{j + 1}', f'{key}.bn{j + 1}', strides[j])
        y = relu(y) if j < (2 if bottleneck else 1) else y
      if f'{key}.downsample.0.weight' in arrays:
        x = conv_bn(x, f'{key}.downsample.0', f'{key}.downsample.1', stride)
      x = relu(x + y)
    maps.append(x)
  return maps


def load(out):
  """The backbone that a training would start from, and its configuration."""
  document = files.read_yaml(os.path.join(out, runs.BACKBONE))['task']
  assert document['init_checkpoint_modules'] == 'backbone'
  model = panet_config.PANet(include_mask=False, num_classes=2)
  model.override(document['model'])
  backbone = factory.build_backbone(model)
  tf.train.Checkpoint(backbone=backbone).read(
      runs.find(document['init_checkpoint'])
  ).assert_existing_objects_matched()
  return backbone, model


def check(backbone, image, expected):
  """`image` NCHW; C2..C5 within 1e-4 of the largest value."""
  c = backbone(np.float32(np.moveaxis(image, 1, -1)), training=False)
  for level, values in zip('2345', expected, strict=True):
    np.testing.assert_allclose(
        np.moveaxis(c[level], -1, 1), values, rtol=0,
        atol=1e-4 * np.abs(values).max())


@pytest.fixture(name='image', scope='module')
def fixture_image():
  return np.random.default_rng(3).normal(size=[1, 3, 64, 96])


@pytest.mark.parametrize('depth, blocks, bottleneck', [
    (18, (2, 2, 2, 2), False), (50, (3, 4, 6, 3), True)])
def test_torchvision_backbones_give_what_theirs_give(
    depth, blocks, bottleneck, image, tmp_path):
  arrays = classifier(blocks, bottleneck)
  path, out = tmp_path / 'resnet.pth', str(tmp_path / 'out')
  path.write_bytes(torch_writer.zip_bytes(arrays))
  imagenet_backbones.convert('torchvision', str(path), out)
  backbone, model = load(out)
  assert model.backbone.model_id == depth
  assert not model.backbone.stride_in_1x1
  assert model.pixels.color_order == 'rgb'
  check(backbone, image, forward(arrays, image, blocks, bottleneck))


@pytest.mark.parametrize('name, groups', [
    ('resnext101_32x8d', 32), ('resnext101_64x4d', 64)])
def test_resnext_is_told_by_its_groups(name, groups, image, tmp_path):
  blocks, groups = (3, 4, 23, 3), groups // 8  # An eighth of the width.
  arrays = classifier(blocks, groups=groups, factor=4)
  path, out = tmp_path / 'resnext.pth', str(tmp_path / 'out')
  path.write_bytes(torch_writer.zip_bytes(arrays))
  opened = imagenet_backbones.sources.read('torchvision', str(path))
  assert imagenet_backbones.architecture(opened, 'x') == {
      'name': name, 'stride_in_1x1': False, 'width_multiplier': 0.125}
  if groups == 4:
    imagenet_backbones.convert('torchvision', str(path), out)
    check(load(out)[0], image, forward(arrays, image, blocks, groups=groups))


def test_caffe_s_pth_strides_in_the_first_1x1_and_sees_bgr(tmp_path):
  path = tmp_path / 'resnet50_caffe.pth'
  path.write_bytes(torch_writer.legacy_bytes(classifier((3, 4, 6, 3))))
  opened = imagenet_backbones.sources.read('caffe', str(path))
  assert opened.stride_in_1x1 and opened.epsilon == 1e-5
  assert opened.pixels['color_order'] == 'bgr'
  assert opened.pixels['mean'] == [102.9801, 115.9465, 122.7717]


def detectron_blobs(arrays):
  """The same network as blobs of Detectron: affine pairs, and zero biases."""
  blobs = {}
  for key, kernel in arrays.items():
    if kernel.ndim < 4:
      continue
    key = key.removesuffix('.weight')
    norm = key.replace('conv', 'bn').replace('downsample.0', 'downsample.1')
    scale = arrays[f'{norm}.weight'] / np.sqrt(
        arrays[f'{norm}.running_var'] + 1e-5)
    offset = arrays[f'{norm}.bias'] - scale * arrays[f'{norm}.running_mean']
    if key == 'conv1':
      name, norm_name = 'conv1', 'res_conv1_bn'
    else:
      stage, block, conv = key.removeprefix('layer').split('.')[:3]
      branch = {'conv1': '2a', 'conv2': '2b', 'conv3': '2c',
                'downsample': '1'}[conv]
      name = f'res{int(stage) + 1}_{block}_branch{branch}'
      norm_name = f'{name}_bn'
    bias = np.full_like(offset, 0.25)  # Zero there; it must not be lost.
    blobs.update({
        f'{name}_w': kernel, f'{name}_b': bias, f'{norm_name}_s': scale,
        f'{norm_name}_b': offset - scale * bias})
  return blobs | {'pred_w': np.ones([10, 4], np.float32),
                  'conv1_w_momentum': arrays['conv1.weight']}


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_detectron_s_blobs_are_affine_pairs(protocol, image, tmp_path):
  blocks = (3, 4, 6, 3)
  arrays = classifier(blocks)
  path, out = tmp_path / 'R-50.pkl', str(tmp_path / 'out')
  path.write_bytes(pickle.dumps(
      {'blobs': detectron_blobs(arrays)}, protocol=protocol))
  if protocol != 2:  # Only that it is read; the rest is slow.
    blobs = imagenet_backbones.sources.read('caffe', str(path)).arrays
    np.testing.assert_array_equal(blobs['conv1_w'], arrays['conv1.weight'])
    return
  imagenet_backbones.convert('caffe', str(path), out)
  check(load(out)[0], image, forward(arrays, image, blocks, True, True))


def test_keras_applications_give_what_theirs_give(image, tmp_path):
  """Keras's own model and file, at full width."""
  theirs = tf_keras.applications.ResNet50(
      weights=None, include_top=False, input_shape=[64, 96, 3])
  rng = np.random.default_rng(0)
  for w in theirs.weights:
    if w.name.startswith('conv') and '/kernel' not in w.name:
      w.assign(rng.uniform(0.5, 1, w.shape) if 'variance' in w.name
               or 'gamma' in w.name else rng.normal(size=w.shape) * 0.1)
  path, out = str(tmp_path / 'resnet50.h5'), str(tmp_path / 'out')
  theirs.save_weights(path)
  imagenet_backbones.convert('keras', path, out)
  backbone, model = load(out)
  assert model.backbone.stride_in_1x1
  assert model.pixels.color_order == 'bgr'
  names = [f'conv{stage}_block{count}_out'
           for stage, count in zip(range(2, 6), (3, 4, 6, 3), strict=True)]
  maps = tf_keras.Model(
      theirs.input, [theirs.get_layer(name).output for name in names])
  expected = maps(np.float32(np.moveaxis(image, 1, -1)), training=False)
  check(backbone, image, [np.moveaxis(x, -1, 1) for x in expected])


def test_a_training_starts_from_it_with_its_preprocessing_only(tmp_path):
  """With backbone.yaml as --config_file, and not without it."""
  arrays = classifier((2, 2, 2, 2), False)
  (tmp_path / 'x.pth').write_bytes(torch_writer.zip_bytes(arrays))
  out = str(tmp_path / 'out')
  imagenet_backbones.convert('torchvision', str(tmp_path / 'x.pth'), out)
  backbone_file = os.path.join(out, runs.BACKBONE)
  params = experiments.read('panet_shapes', [backbone_file])
  params.task.model.num_classes = 5
  task = task_factory.get_task(params.task)
  # All that Model Garden asks of a model here.
  model = types.SimpleNamespace(
      backbone=factory.build_backbone(params.task.model))
  task.initialize(model)
  np.testing.assert_array_equal(
      model.backbone.stem.conv.kernel,
      arrays['conv1.weight'].transpose(2, 3, 1, 0))
  params.task.model.pixels.color_order = 'bgr'
  with pytest.raises(errors.InputError, match=(
      "task.model.pixels.color_order is 'bgr', not 'rgb', which these weights "
      f'of {out} need: add --config_file={backbone_file}')):
    task.initialize(model)


class Code:
  def __init__(self, path):
    self._path = str(path)

  def __reduce__(self):
    return os.mkdir, (self._path,)


def test_code_in_a_pickle_of_blobs_is_refused_and_not_run(tmp_path):
  path, made = tmp_path / 'R-50.pkl', tmp_path / 'made'
  path.write_bytes(pickle.dumps({'blobs': {'conv1_w': Code(made)}}))
  with pytest.raises(errors.InputError, match='could run code'):
    imagenet_backbones.convert('caffe', str(path), str(tmp_path / 'out'))
  assert os.listdir(tmp_path) == ['R-50.pkl']


def without(arrays, key):
  return {k: a for k, a in arrays.items() if k != key}


@pytest.mark.parametrize('source, content, message', [
    ('torchvision', torch_writer.zip_bytes(
        without(classifier((2, 2, 2, 2), False), 'bn1.running_mean')),
     'lacks bn1.running_mean'),
    ('torchvision', torch_writer.zip_bytes(
        without(classifier((2, 2, 2, 2), False), 'layer4.1.conv1.weight')),
     r'blocks in its stages; expected one of \[18, 34'),
    ('torchvision', torch_writer.zip_bytes(
        classifier((2, 2, 2, 2), False) | {'extra': np.ones(3, np.float32)}),
     'no place for: extra'),
    ('torchvision', torch_writer.zip_bytes({'a': np.ones(3, np.float32)}),
     'has no kernel conv1.weight'),
    ('caffe', pickle.dumps([1, 2]), 'has no blobs'),
    ('caffe', pickle.dumps({'blobs': {'a': 1}})[:-9], 'truncated'),
    ('keras', b'GIF89a', 'no .h5 of Keras'),
    ('onnx', b'', "--source is 'onnx'; it must be one of keras")],
                         ids=range(8))
def test_a_wrong_file_is_one_clear_line_and_nothing_is_written(
    source, content, message, tmp_path):
  (tmp_path / 'x').write_bytes(content)
  with pytest.raises(errors.InputError, match=message) as e:
    imagenet_backbones.convert(
        source, str(tmp_path / 'x'), str(tmp_path / 'out'))
  assert '\n' not in str(e.value)
  assert os.listdir(tmp_path) == ['x']


def test_an_hdf5_file_that_claims_more_than_it_has_is_refused(tmp_path):
  with h5py.File(tmp_path / 'x', 'w') as f:
    f.create_dataset('conv1_conv/conv1_conv/kernel:0', [10**6, 10**6], 'f4',
                     chunks=(1024, 1024))
  with pytest.raises(errors.InputError, match='damaged'):
    imagenet_backbones.convert(
        'keras', str(tmp_path / 'x'), str(tmp_path / 'out'))


def test_weights_do_not_load_with_another_preprocessing(tmp_path):
  """What `task.initialize` asks, for each field that belongs to weights."""
  wanted = {'pixels': {'color_order': 'bgr', 'mean': [1.0, 2.0, 3.0]},
            'backbone': {'model_id': 50}}
  with open(tmp_path / runs.BACKBONE, 'w', encoding='utf-8') as f:
    yaml.safe_dump({'task': {'model': wanted}}, f)
  checkpoint = str(tmp_path / 'ckpt-1')
  model = panet_config.PANet()
  with pytest.raises(errors.InputError,
                     match="task.model.pixels.color_order is 'rgb', not 'bgr'"):
    runs.check_backbone(checkpoint, model.as_dict())
  model.override({'pixels': wanted['pixels']})
  runs.check_backbone(checkpoint, model.as_dict())
  model.backbone.model_id = 101
  with pytest.raises(errors.InputError, match='backbone.model_id is 101'):
    runs.check_backbone(checkpoint, model.as_dict())
  runs.check_backbone(str(tmp_path / 'other' / 'ckpt-1'), {})
