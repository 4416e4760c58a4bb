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

_POOLED = 7, 14  # Edges of what the box and the mask head flatten.
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
  """Puts a state_dict into a model of the preset.

  Args:
    model: built.
    arrays: {key: array} of PyTorch.
    path: of the file, for messages.

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
  yield from backbone_entries(model.backbone, 'Conv_Body.conv_body')
  yield from neck_entries(model.decoder, 'Conv_Body')
  yield from rpn_entries(model.rpn_head)
  yield from box_head_entries(model.detection_head[0])
  if model.mask_head is not None:
    yield from mask_head_entries(model.mask_head)


def backbone_entries(backbone, prefix):
  """Of the ResNet, whose keys begin with `prefix`."""
  for place, conv in sources.places(backbone):
    if place == sources.STEM:
      names = 'res1.conv1', 'res1.bn1'
    elif place.name == 'shortcut':
      names = [f'res{place.stage}.{place.block}.downsample.{i}' for i in (0, 1)]
    else:
      names = [f'res{place.stage}.{place.block}.{kind}{place.name[-1]}'
               for kind in ('conv', 'bn')]
    yield from _conv(conv, *(f'{prefix}.{name}' for name in names))


def neck_entries(decoder, prefix):
  """Of the pyramid and the bottom-up path."""
  pyramid, path = decoder.feature_pyramid, decoder.bottom_up_path
  yield from _sequence(pyramid.lateral['5'], f'{prefix}.conv_top')
  for i in range(3):
    yield from _sequence(
        pyramid.lateral[str(4 - i)],
        f'{prefix}.topdown_lateral_modules.{i}.conv_lateral')
    for step, conv in ((1, path.down[str(2 + i)]), (2, path.fuse[str(3 + i)])):
      yield from _sequence(
          conv, f'{prefix}.panet_buttomup_conv{step}_modules.{i}')
  for i in range(4):
    yield from _sequence(
        pyramid.posthoc[str(5 - i)], f'{prefix}.posthoc_modules.{i}')


def rpn_entries(head):
  """Of the RPN head; box offsets come as x, y, width, height."""
  yield from _plain(head.conv['1'], 'RPN.FPN_RPN_conv', weights.conv)
  yield from _plain(head.scores, 'RPN.FPN_RPN_cls_score', weights.conv)
  yield from map(weights.yx, _plain(
      head.boxes, 'RPN.FPN_RPN_bbox_pred', weights.conv))


def box_head_entries(head):
  """Of the box head, with two fc layers or four convolutions."""
  if head.kind == '2fc':
    for i in range(4):
      yield from _sequence(
          head.fc1[f'level_{2 + i}'], f'Box_Head.fc1.{i}', _POOLED[0])
    yield from _sequence(head.fc2, 'Box_Head.fc2')
  else:
    for i in range(4):
      yield from _sequence(
          head.conv1[f'level_{2 + i}'], f'Box_Head.conv1_head.{i}')
    for i, conv in enumerate((head.conv2, head.conv3, head.conv4)):
      yield from _conv(conv, f'Box_Head.convs.{3 * i}',
                       f'Box_Head.convs.{3 * i + 1}')
    yield from _plain(head.fc.fc, 'Box_Head.fc', weights.fc, _POOLED[0])
  yield from _plain(head.class_logits, 'Box_Outs.cls_score', weights.fc)
  yield from map(weights.yx, _plain(
      head.box_deltas, 'Box_Outs.bbox_pred', weights.fc))


def mask_head_entries(head):
  """Of the mask head, its fc branch included."""
  for i in range(4):
    yield from _sequence(
        head.conv1[f'level_{2 + i}'], f'Mask_Head.mask_conv1.{i}')
  for i, name in enumerate(('conv2', 'conv3')):
    yield from _conv(head.convs[name], f'Mask_Head.conv_fcn.{3 * i}',
                     f'Mask_Head.conv_fcn.{3 * i + 1}')
  yield from _sequence(head.convs['conv4'], 'Mask_Head.mask_conv4')
  yield from _sequence(head.conv4_fc, 'Mask_Head.mask_conv4_fc')
  yield from _sequence(head.conv5_fc, 'Mask_Head.mask_conv5_fc')
  yield from _plain(
      head.mask_fc, 'Mask_Head.mask_fc.0', weights.fc, _POOLED[1])
  yield from _plain(head.upconv, 'Mask_Head.upconv', weights.conv)
  yield from _plain(head.classifier, 'Mask_Outs.classify', weights.conv)


def _sequence(block, key, *size):
  """A layer and its normalization, `key`.0 and `key`.1."""
  yield from _conv(block, f'{key}.0', f'{key}.1', *size)


def _conv(block, key, norm_key, *size):
  """A `ConvNorm` or `DenseNorm`."""
  if hasattr(block, 'conv'):
    yield from _plain(block.conv, key, weights.conv)
  else:
    yield from _plain(block.fc, key, weights.fc, *size)
  yield weights.as_it_is(f'{norm_key}.weight', block.norm.gamma)
  yield weights.as_it_is(f'{norm_key}.bias', block.norm.beta)


def _plain(layer, key, kind, *size):
  """A Keras layer: kernel and, if it has one, bias."""
  yield kind(f'{key}.weight', layer.kernel, *size)
  if layer.use_bias:
    yield weights.as_it_is(f'{key}.bias', layer.bias)
