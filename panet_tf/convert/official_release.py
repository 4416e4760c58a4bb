"""The authors' released models (PyTorch) as checkpoints of ours.

https://github.com/ShuLiu1993/PANet: three models, ResNet-50, COCO. Keys are of
its modules, `Conv_Body` to `Mask_Outs`; their batch norms are affine pairs with
the statistics folded in.
"""

from collections.abc import Iterator
import operator
import os
from typing import Any, cast

import numpy as np
from official.core import config_definitions as cfg
from official.core import train_utils
import tensorflow as tf

from panet_tf import errors
from panet_tf import factory
from panet_tf import files
from panet_tf.configs import experiments
from panet_tf.configs import official_release
from panet_tf.configs import panet as panet_config
from panet_tf.convert import coco_categories
from panet_tf.convert import sources
from panet_tf.convert import torch_file
from panet_tf.convert import weights
from panet_tf.modeling import panet_model

# {part of the model: {layer: keys}}.
_KEYS = files.read_yaml(
    os.path.join(os.path.dirname(__file__), 'official_release.yaml'))
# Layers that flatten a map, and its edge.
_MAP_EDGES = {'fc1': 7, 'fc': 7, 'mask_fc': 14}
_XY = ('boxes', 'box_deltas')  # Their offsets come as x, y, width, height.
# Of `configs.panet.PANet`: what decides which weights there are.
_FIXED = ('bottom_up_path', 'adaptive_feature_pooling', 'fuse_after',
          'fully_connected_fusion', 'normalization', 'rpn_normalization',
          'norm_after_fc', 'norm_after_upconv', 'rpn_head.num_convs',
          'mask_head.num_convs', 'backbone.model_id', 'backbone.name',
          'backbone.normalization', 'backbone.deformable_stages')


def convert(checkpoint: str, config: str, output_dir: str,
            params_override: str = '') -> list[str]:
  """Converts one model.

  Args:
    checkpoint: what the release saved: a dictionary with `model`.
    config: the release's name of its configuration, a key of
      `configs.official_release.CONFIGS`.
    output_dir: a new folder; it gets the checkpoint, params.yaml and
      dataset.json, as training leaves them.
    params_override: of the experiment; other widths or classes, say.

  Returns:
    Names of the files.

  Raises:
    InputError: the checkpoint is damaged, holds code, or is of another model;
      nothing is written.
  """
  params = read_params(config, params_override)
  files.check_new_folder(output_dir)
  arrays = torch_file.state_dict(checkpoint, 'model')
  model_config = cast(panet_config.PANet, params.task.model)  # Never None.
  model = factory.build_panet(model_config)
  set_weights(model, arrays, checkpoint)
  with files.folder_written_whole(output_dir) as folder:
    # As a trainer saves: `init_checkpoint_modules` finds its parts.
    tf.train.Checkpoint(model=model, **model.checkpoint_items).save(
        os.path.join(folder, 'ckpt'))
    train_utils.serialize_config(params, folder)
    if model_config.num_classes == 1 + len(coco_categories.CATEGORIES):
      files.write_json(os.path.join(folder, files.DATASET_INFO),
                       {'categories': coco_categories.labelled()})
    written = sorted(os.listdir(folder))
  return written


def read_params(config: str, params_override: str = '') -> cfg.ExperimentConfig:
  """The experiment of a released configuration.

  Raises:
    InputError: there is no such configuration, or the override makes it one
      that the release's weights do not fill.
  """
  name = os.path.basename(config).removesuffix('.yaml')
  if name not in official_release.CONFIGS:
    raise errors.InputError(
        f'--config is {config!r}; it must be one of '
        f'{", ".join(official_release.CONFIGS)}')
  params = experiments.read(
      'panet_official_release', params_override=params_override)
  model = cast(panet_config.PANet, params.task.model)  # Never None.
  model.override(official_release.CONFIGS[name])
  preset = official_release.model()
  for field in _FIXED:
    value, expected = (operator.attrgetter(field)(c) for c in (model, preset))
    if value != expected:
      raise errors.InputError(
          f'task.model.{field} is {value!r}; in the release it is {expected!r}')
  if model.num_classes < 2:
    raise errors.InputError(
        f'task.model.num_classes is {model.num_classes}; it must be the number '
        "of the checkpoint's classes, with background")
  return params


def set_weights(model: panet_model.PANetModel, arrays: Any, path: str):
  """Puts a state_dict, {key: array}, into a model of the preset that is built.

  Raises:
    InputError: a key is missing, left over, has another shape or numbers that
      are no float32.
  """
  weights.assign(list(entries(model)), arrays, path)
  for _, conv in sources.places(model.backbone):
    # An affine pair: (x - 0) / sqrt(variance + epsilon) is x.
    conv.norm.moving_mean.assign(np.zeros(conv.norm.moving_mean.shape))
    conv.norm.moving_variance.assign(np.full(
        conv.norm.moving_variance.shape, 1 - conv.norm.epsilon))


def entries(model: panet_model.PANetModel) -> Iterator[weights.Entry]:
  """Every key of the release, and the variable it belongs to."""
  for place, conv in sources.places(model.backbone):
    block = '' if place == sources.STEM else f'{place.block}.'
    key, norm = sources.torch_layers(
        place, f'Conv_Body.conv_body.res{place.stage}.{block}')
    yield from _entries(conv, key, [norm])
  yield from part_entries('decoder', model.decoder)
  yield from part_entries('rpn_head', model.rpn_head)
  box_head = model.detection_head[0]
  yield from part_entries(f'box_head_{box_head.kind}', box_head)
  if model.mask_head is not None:
    yield from part_entries('mask_head', model.mask_head)


def part_entries(name: str, part: Any) -> Iterator[weights.Entry]:
  """Of a part of the model, by its name in official_release.yaml."""
  for path, keys in _KEYS[name].items():
    layer = part
    for step in path.split('.'):
      layer = layer[step] if isinstance(layer, dict) else getattr(layer, step)
    key, *norm = [f'{keys}.0', f'{keys}.1'] if isinstance(keys, str) else keys
    found = _entries(layer, key, norm, _MAP_EDGES.get(path.split('.')[0], 1))
    yield from map(weights.yx, found) if path in _XY else found


def _entries(block, key, norm_keys, size=1):
  """Of a Keras layer, or of a `ConvNorm` or `DenseNorm` and its one norm."""
  layer = getattr(block, 'conv', None) or getattr(block, 'fc', block)
  if len(layer.kernel.shape) == 4:
    yield weights.conv(f'{key}.weight', layer.kernel)
  else:
    yield weights.fc(f'{key}.weight', layer.kernel, size)
  if layer.use_bias:
    yield weights.as_it_is(f'{key}.bias', layer.bias)
  for norm_key in norm_keys:
    yield weights.as_it_is(f'{norm_key}.weight', block.norm.gamma)
    yield weights.as_it_is(f'{norm_key}.bias', block.norm.beta)
