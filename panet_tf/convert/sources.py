"""Who trained a classifier: names of its weights, and what it is fed with."""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import re
from typing import Any

import h5py
import numpy as np

from panet_tf import errors
from panet_tf import safe_pickle
from panet_tf.convert import torch_file

_PIXELS = {
    'rgb': {'color_order': 'rgb', 'mean': [123.675, 116.28, 103.53],
            'stddev': [58.395, 57.12, 57.375]},
    # keras.applications.imagenet_utils, mode 'caffe'.
    'keras': {'color_order': 'bgr', 'mean': [103.939, 116.779, 123.68],
              'stddev': [1.0, 1.0, 1.0]},
    # Detectron's PIXEL_MEANS.
    'caffe': {'color_order': 'bgr', 'mean': [102.9801, 115.9465, 122.7717],
              'stddev': [1.0, 1.0, 1.0]},
}


@dataclasses.dataclass(frozen=True)
class Place:
  """A convolution: stage 2 to 5, block, 'conv1' to 'conv3' or 'shortcut'."""
  stage: int
  block: int
  name: str


STEM = Place(1, 0, 'stem')


def places(backbone: Any) -> Iterator[tuple[Place, Any]]:
  """Every `ConvNorm` of one of our ResNets, and where it is."""
  yield STEM, backbone.stem
  for level, blocks in backbone.stages.items():
    for i, block in enumerate(blocks):
      names = ['conv1', 'conv2'] + ['conv3'] * block.bottleneck + [
          'shortcut'] * block.projection
      for name in names:
        yield Place(int(level), i, name), getattr(block, name)


@dataclasses.dataclass(frozen=True)
class Keys:
  """Names of a convolution's weights; '' for what the file has not."""
  kernel: str
  scale: str
  offset: str
  mean: str = ''
  variance: str = ''
  bias: str = ''

  def norm(self) -> dict[str, str]:
    """{what: key} of all vectors."""
    return {name: key for name, key in dataclasses.asdict(self).items()
            if key and name != 'kernel'}


@dataclasses.dataclass(frozen=True)
class Source:
  """A file that was opened.

  Attributes:
    arrays: {key: array}, without what a backbone has no use for.
    keys: names of a place's weights.
    layout: of kernels, 'oihw' or 'hwio'.
    epsilon: of batch normalization.
    stride_in_1x1: where its bottlenecks stride.
    pixels: fields of `configs.backbone.PixelsConfig`.
  """
  arrays: Mapping[str, Any]
  keys: Callable[[Place], Keys]
  layout: str
  epsilon: float
  stride_in_1x1: bool
  pixels: dict[str, Any]


def read(source: str, path: str) -> Source:
  """Opens a file of one of `SOURCES`; InputError if it is not."""
  if source not in SOURCES:
    raise errors.InputError(
        f'--source is {source!r}; it must be one of {", ".join(SOURCES)}')
  return SOURCES[source](path)


def _without(arrays, unused):
  pattern = re.compile(unused)
  return {key: a for key, a in arrays.items() if not pattern.search(key)}


def torch_layers(place: Place, prefix: str) -> tuple[str, str]:
  """Names of convolution and norm in ResNets of PyTorch, behind a prefix."""
  if place.name == 'shortcut':
    return f'{prefix}downsample.0', f'{prefix}downsample.1'
  number = 1 if place == STEM else place.name[-1]
  return f'{prefix}conv{number}', f'{prefix}bn{number}'


def _torchvision_keys(place: Place) -> Keys:
  conv, norm = torch_layers(place, '' if place == STEM else
                            f'layer{place.stage - 1}.{place.block}.')
  return Keys(f'{conv}.weight', f'{norm}.weight', f'{norm}.bias',
              f'{norm}.running_mean', f'{norm}.running_var')


def _torchvision(path, pixels='rgb', stride_in_1x1=False):
  arrays = _without(torch_file.state_dict(path),
                    r'^fc\.|\.num_batches_tracked$')
  return Source(arrays, _torchvision_keys, 'oihw', 1e-5, stride_in_1x1,
                _PIXELS[pixels])


def _detectron_keys(place: Place) -> Keys:
  if place == STEM:
    return Keys('conv1_w', 'res_conv1_bn_s', 'res_conv1_bn_b', bias='conv1_b')
  branch = {'conv1': '2a', 'conv2': '2b', 'conv3': '2c', 'shortcut': '1'}
  key = f'res{place.stage}_{place.block}_branch{branch[place.name]}'
  return Keys(f'{key}_w', f'{key}_bn_s', f'{key}_bn_b', bias=f'{key}_b')


def _caffe(path):
  if path.endswith('.pth'):
    return _torchvision(path, 'caffe', True)
  arrays = _without(_pickled(path),
                    r'_momentum$|^fc1000_|^pred_|_bn_(rm|riv)$|^lr$')
  conv2 = arrays.get('res2_0_branch2b_w')
  # ResNeXt is Facebook's own, trained in Caffe2, which strides in the 3x3.
  plain = conv2 is None or conv2.shape[0] == conv2.shape[1]
  return Source(arrays, _detectron_keys, 'oihw', 0.0, plain, _PIXELS['caffe'])


def _pickled(path):
  """Blobs of a Detectron .pkl."""
  try:
    with open(path, 'rb') as f:
      tree = safe_pickle.load(safe_pickle.Reader(f, path), path)
  except OSError as e:
    raise errors.InputError(
        f'{path}: {e.strerror or e}; expected a .pkl of Detectron') from e
  blobs = tree.get('blobs', tree) if isinstance(tree, dict) else None
  if not isinstance(blobs, dict):
    raise errors.InputError(f'{path} is no .pkl of Detectron: it has no blobs')
  arrays = {str(key): safe_pickle.plain(value) for key, value in blobs.items()}
  return {key: a for key, a in arrays.items() if isinstance(a, np.ndarray)}


def _keras_keys(place: Place) -> Keys:
  if place == STEM:
    conv, norm = 'conv1_conv', 'conv1_bn'
  else:
    number = '0' if place.name == 'shortcut' else place.name[-1]
    key = f'conv{place.stage}_block{place.block + 1}_{number}'
    conv, norm = f'{key}_conv', f'{key}_bn'
  return Keys(f'{conv}/kernel', f'{norm}/gamma', f'{norm}/beta',
              f'{norm}/moving_mean', f'{norm}/moving_variance',
              f'{conv}/bias')


def _keras(path):
  try:
    arrays = _hdf5(path)
  except (OSError, RuntimeError, KeyError, ValueError) as e:
    raise errors.InputError(
        f'{path} is no .h5 of Keras, or damaged ('
        f'{" ".join(str(e).split()):.80})') from e
  return Source(_without(arrays, r'^(probs|predictions|fc1000)/'), _keras_keys,
                'hwio', 1.001e-5, True, _PIXELS['keras'])


def _hdf5(path) -> dict[str, np.ndarray]:
  """{'layer/weight': array} of a file with weights or a whole model."""
  arrays, size = {}, 0

  def visit(name, item):
    nonlocal size
    if not isinstance(item, h5py.Dataset) or 'optimizer' in name:
      return
    if item.is_virtual or item.external:
      raise ValueError('its numbers are in other files')
    size += item.nbytes
    # A chunk that is not there reads as zeros of any size.
    if item.nbytes > item.id.get_storage_size() and item.compression is None:
      raise ValueError(f'{name} is incomplete')
    if size > _MOST_BYTES:
      raise ValueError(f'more than {_MOST_BYTES} bytes of weights')
    *_, layer, weight = name.split('/')
    arrays[f'{layer}/{weight.split(":")[0]}'] = item[()]

  with h5py.File(path, 'r') as f:
    f.visititems(visit)
  return arrays


_MOST_BYTES = 4 * 2**30
SOURCES: dict[str, Callable[[str], Source]] = {
    'keras': _keras, 'torchvision': _torchvision, 'caffe': _caffe}
