"""ImageNet classifiers of others as checkpoints of our backbones.

Their batch norms may have another epsilon, their convolutions biases, their
input other channels and means. The first two are worked into our weights; the
last is written beside them, where `task.initialize` looks for it.

  keras        Keras applications' ResNet50, 101, 152, .h5
  torchvision  resnet18 to resnet152, resnext, .pth
  caffe        the ResNets of MSRA: Detectron's .pkl (R-50, R-101, X-101), or
               .pth with torchvision's keys (resnet50_caffe.pth of the release)
"""

from collections.abc import Mapping
import itertools
import os
from typing import Any

import numpy as np
import tensorflow as tf
import yaml

from panet_tf import errors
from panet_tf import factory
from panet_tf import files
from panet_tf import runs
from panet_tf.configs import panet as panet_config
from panet_tf.convert import sources
from panet_tf.convert import weights
from panet_tf.modeling.backbones import resnet


def convert(source: str, path: str, output_dir: str) -> dict[str, Any]:
  """Converts one classifier; its last layer is left out.

  Args:
    source: 'keras', 'torchvision' or 'caffe'.
    path: of the file.
    output_dir: a new folder; it gets a checkpoint for `init_checkpoint`, and
      backbone.yaml with all of the configuration that belongs to it.

  Returns:
    What backbone.yaml has.

  Raises:
    InputError: an unknown source, a damaged file, one with code in it, or of no
      ResNet; nothing is written.
  """
  files.check_new_folder(output_dir)
  opened = sources.read(source, path)
  model = panet_config.PANet(include_mask=False, num_classes=2)
  fields = {
      'backbone': architecture(opened, path), 'pixels': opened.pixels,
      'norm_activation': {'norm_epsilon': model.norm_activation.norm_epsilon}}
  model.override(fields)
  backbone = factory.build_backbone(model)
  set_weights(backbone, opened, path)
  document = {'task': {
      'init_checkpoint': os.path.abspath(output_dir),
      'init_checkpoint_modules': 'backbone', 'model': fields}}
  with files.folder_written_whole(output_dir) as folder:
    tf.train.Checkpoint(backbone=backbone).save(os.path.join(folder, 'ckpt'))
    files.write_text(os.path.join(folder, runs.BACKBONE), [
        '# The backbone beside this file; give it to train.py with\n'
        '# --config_file, behind the one of the experiment.\n',
        yaml.safe_dump(document, sort_keys=False)])
  return document


def set_weights(backbone: Any, opened: sources.Source, path: str):
  """Puts a classifier into a backbone that is built.

  Raises:
    InputError: a key is missing, left over, has another shape or numbers that
      are no float32; nothing has changed.
  """
  kind = weights.conv if opened.layout == 'oihw' else weights.as_it_is
  entries, norms, vectors = [], [], {}
  for place, conv in sources.places(backbone):
    keys = opened.keys(place)
    entries.append(kind(keys.kernel, conv.conv.kernel))
    of_norm = {name: key for name, key in keys.norm().items()
               if key in opened.arrays or name != 'bias'}
    norms.append((conv.norm, of_norm))
    vectors |= dict.fromkeys(of_norm.values(), tuple(conv.norm.gamma.shape))
  values = weights.assign(entries, opened.arrays, path, vectors)
  for norm, of_norm in norms:
    _set_norm(norm, {name: values[key] for name, key in of_norm.items()},
              opened.epsilon)


def _set_norm(norm, given: Mapping[str, np.ndarray], epsilon: float):
  """gamma (x + bias - mean) / sqrt(variance + epsilon) + beta, of the file.

  An affine pair has neither mean nor variance: nothing but gamma x + beta.
  """
  gamma, beta = given['scale'], given['offset']
  mean = given.get('mean', 0.0) - given.get('bias', 0.0)
  if 'variance' in given:
    variance = given['variance']
    gamma = gamma * np.sqrt((variance + norm.epsilon) / (variance + epsilon))
  else:
    variance = np.full_like(gamma, 1 - norm.epsilon)
  norm.gamma.assign(gamma)
  norm.beta.assign(beta)
  norm.moving_mean.assign(np.broadcast_to(mean, gamma.shape))
  norm.moving_variance.assign(variance)


def architecture(opened: sources.Source, path: str) -> dict[str, Any]:
  """Fields of `configs.panet.Backbone` that a file's keys and shapes tell."""

  def has(*place):
    return opened.keys(sources.Place(*place)).kernel in opened.arrays

  def channels(place):
    """Of a kernel: what goes in (of one group) and comes out."""
    outer, inner, height, width = opened.arrays[opened.keys(place).kernel].shape
    return (inner, outer) if opened.layout == 'oihw' else (height, width)

  stem, conv2 = sources.STEM, sources.Place(2, 0, 'conv2')
  for place in (stem, conv2):
    array = opened.arrays.get(opened.keys(place).kernel)
    if array is None or array.ndim != 4 or not array.size:
      raise errors.InputError(
          f'{path} has no kernel {opened.keys(place).kernel}; it must be a '
          'ResNet, of the --source that it is from')
  blocks = tuple(
      next(i for i in itertools.count() if not has(level, i, 'conv1'))
      for level in range(2, 6))
  width, (inner, outer) = channels(stem)[1], channels(conv2)
  found = (blocks, has(2, 0, 'conv3'), 64 * outer // (inner * width)
           if outer != inner else 1, outer // width)
  known: dict[tuple, int | str] = {
      (d.blocks, d.bottleneck, d.groups, d.widths[1]): key
      for key, d in resnet.DESIGNS.items() if not d.se_reduction}
  if found not in known:
    raise errors.InputError(
        f'{path} is of no backbone that there is here: it has {list(blocks)} '
        f'blocks in its stages; expected one of {list(known.values())}')
  fields = {'model_id' if isinstance(known[found], int) else 'name':
            known[found], 'stride_in_1x1': opened.stride_in_1x1}
  if not opened.keys(stem).mean:  # Nothing to go on training it with.
    fields['normalization'] = 'frozen'
  if width != 64:
    fields['width_multiplier'] = width / 64
  return fields
