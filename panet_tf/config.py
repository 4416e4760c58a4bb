"""Every option of PANet with its paper default, and the experiments.

The configuration extends Model Garden's Mask R-CNN: anchors, proposals,
samplers, detection generator, losses and runtime keep its names and meaning.
The switches of the paper (section 3, Tables 3 to 5) are plain fields of
`PANet`. All of them off is the Mask R-CNN baseline.
"""

import dataclasses
import os
import re
from typing import Any, List, Mapping, Optional, Sequence

import tensorflow as tf
import yaml
from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import hyperparams
from official.modeling import optimization
from official.vision.configs import maskrcnn

from panet_tf import errors

EXPERIMENTS = []
NORMALIZATIONS = ('sync_batch', 'batch', 'group', 'frozen', 'none')


def _one_of(field: str, value, allowed):
  if value not in allowed:
    raise errors.InputError(
        f'task.model.{field} is {value!r}; it must be one of '
        f'{", ".join(map(str, allowed))}')


@dataclasses.dataclass
class Backbone(hyperparams.Config):
  """ResNet (18, 34, 50, 101, 152).

  Attributes:
    model_id: depth.
    width_multiplier: scales all channel counts, for small models.
    stride_in_1x1: stride of a stage in its first 1x1 (as in Caffe, and the
      authors' release) instead of the 3x3 convolution.
    frozen_stages: 0 nothing, 1 the stem, 2 the stem and stage 2, and so on.
    normalization: as in `PANet`; '' takes over `PANet.normalization`.
  """
  model_id: int = 50
  width_multiplier: float = 1.0
  stride_in_1x1: bool = False
  frozen_stages: int = 0
  normalization: str = ''


@dataclasses.dataclass
class Neck(hyperparams.Config):
  """Feature pyramid and bottom-up path."""
  num_filters: int = 256


@dataclasses.dataclass
class RoIAlign(hyperparams.Config):
  """Pooling of features inside proposals.

  Attributes:
    sampling_ratio: samples per bin and axis.
    aligned: half-pixel-correct; False is the kind of 2018 (Detectron's).
    use_xla: forward pass as one fused XLA kernel while training and
      predicting. An exported graph never uses it.
  """
  sampling_ratio: int = 2
  aligned: bool = True
  use_xla: bool = True


@dataclasses.dataclass
class PANet(maskrcnn.MaskRCNN):
  """The model. Choices of the paper are the defaults.

  Attributes:
    bottom_up_path: section 3.1, Table 3 BPA.
    adaptive_feature_pooling: section 3.2, Table 3 AFP. False pools each box
      from the one level that FPN's size rule gives it.
    pooling_fusion: max or sum over levels (Table 4).
    fuse_after: 'first_layer' gives every level its own first layer;
      'pooling' fuses straight behind RoIAlign (Table 4).
    fully_connected_fusion: section 3.3, Table 3 FF.
    fc_source: layer of the mask branch where the fc branch begins (Table 5).
    fc_fusion: sum, max or product with the FCN branch (Table 5).
    fc_relu: a ReLU behind the mask fc, as the authors' release has it.
    box_head: '4conv1fc' (Table 3 HHD) or '2fc'.
    normalization: of every layer; section 4.2 MBN and Appendix B.
    norm_after_fc: a normalisation behind the fc of the 4conv1fc head.
    norm_after_upconv: the same behind the transposed convolution of the mask
      branch.
    num_classes: with background; 0 takes it from the data set.
  """
  bottom_up_path: bool = True
  adaptive_feature_pooling: bool = True
  pooling_fusion: str = 'max'
  fuse_after: str = 'first_layer'
  fully_connected_fusion: bool = True
  fc_source: str = 'conv3'
  fc_fusion: str = 'sum'
  fc_relu: bool = False
  box_head: str = '4conv1fc'
  normalization: str = 'sync_batch'
  norm_after_fc: bool = True
  norm_after_upconv: bool = True
  roi_align: RoIAlign = dataclasses.field(default_factory=RoIAlign)
  backbone: Backbone = dataclasses.field(default_factory=Backbone)
  decoder: Neck = dataclasses.field(default_factory=Neck)

  def check(self):
    """Raises InputError for a value that no part of the model understands."""
    _one_of('pooling_fusion', self.pooling_fusion, ('max', 'sum'))
    _one_of('fuse_after', self.fuse_after, ('first_layer', 'pooling'))
    _one_of('fc_source', self.fc_source, ('conv2', 'conv3', 'conv4'))
    _one_of('fc_fusion', self.fc_fusion, ('sum', 'max', 'product'))
    _one_of('box_head', self.box_head, ('4conv1fc', '2fc'))
    _one_of('normalization', self.normalization, NORMALIZATIONS)
    _one_of('backbone.normalization', self.backbone.normalization,
            ('',) + NORMALIZATIONS)
    _one_of('backbone.model_id', self.backbone.model_id,
            (18, 34, 50, 101, 152))
    _one_of('min_level', self.min_level, (2,))
    _one_of('max_level', self.max_level, (6,))
    _one_of('outer_boxes_scale', self.outer_boxes_scale, (1.0,))
    _one_of('roi_sampler.cascade_iou_thresholds',
            self.roi_sampler.cascade_iou_thresholds, (None,))
    _one_of('detection_head.class_agnostic_bbox_pred',
            self.detection_head.class_agnostic_bbox_pred, (False,))
    if self.include_mask:
      self._check_mask_branch()
    if self.normalization == 'group':
      self._check_groups()

  def _check_mask_branch(self):
    _one_of('mask_roi_aligner.crop_size',
            self.mask_roi_aligner.crop_size, (14,))
    _one_of('mask_head.upsample_factor', self.mask_head.upsample_factor, (2,))
    _one_of('mask_head.class_agnostic', self.mask_head.class_agnostic, (False,))
    source = int(self.fc_source[-1])
    if self.fully_connected_fusion and source > self.mask_head.num_convs:
      raise errors.InputError(
          f'task.model.fc_source is {self.fc_source!r}, but '
          f'task.model.mask_head.num_convs is {self.mask_head.num_convs}')
    if self.mask_sampler.num_sampled_masks > self.roi_sampler.num_sampled_rois:
      raise errors.InputError(
          'task.model.mask_sampler.num_sampled_masks is '
          f'{self.mask_sampler.num_sampled_masks}; it must be at most '
          'task.model.roi_sampler.num_sampled_rois, '
          f'{self.roi_sampler.num_sampled_rois}')

  def _check_groups(self):
    """GroupNorm needs 32 equal groups; the fc branch halves its channels."""
    channels = {'decoder': self.decoder.num_filters,
                'rpn_head': self.rpn_head.num_filters,
                'detection_head': self.detection_head.num_filters}
    if self.include_mask:
      halves = 2 if self.fully_connected_fusion else 1
      channels['mask_head'] = self.mask_head.num_filters / halves
    for part, number in channels.items():
      if number % 32:
        raise errors.InputError(
            f'task.model.{part}.num_filters is '
            f'{getattr(self, part).num_filters}, but task.model.normalization '
            'is group: every convolution must have a multiple of 32 channels')
    units = self.detection_head.fc_dims
    if (self.box_head == '2fc' or self.norm_after_fc) and (
        units % 32 or units < 64):
      raise errors.InputError(
          f'task.model.detection_head.fc_dims is {units}, but '
          'task.model.normalization is group: it must be a multiple of 32 and '
          'at least 64 (a group of one unit is always 0)')


@dataclasses.dataclass
class Parser(maskrcnn.Parser):
  """Model Garden's parser options, and image scales by edge.

  Attributes:
    short_edge: range of the shorter edge in pixels, drawn uniformly per image
      while training; its upper end is used for evaluation. Empty: images are
      fitted into `model.input_size` and jittered by aug_scale_min/max.
    long_edge: the longer edge is at most this; wins over `short_edge`.
  """
  short_edge: List[int] = dataclasses.field(default_factory=list)
  long_edge: int = 0


@dataclasses.dataclass
class DataConfig(maskrcnn.DataConfig):
  """Shards made by `panet data`, or by Model Garden's own converter."""
  dtype: str = 'float32'
  parser: Parser = dataclasses.field(default_factory=Parser)
  shuffle_buffer_size: int = 1000


@dataclasses.dataclass
class PANetTask(maskrcnn.MaskRCNNTask):
  """PANet on COCO-format data.

  Attributes:
    seed: fixes initial weights, sampling and augmentation; None draws anew.
    annotation_file: ground truth for evaluation; None reads it from the
      validation shards.
  """
  model: PANet = dataclasses.field(default_factory=PANet)
  train_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(is_training=True))
  validation_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(
          is_training=False, drop_remainder=False))
  losses: maskrcnn.Losses = dataclasses.field(
      default_factory=lambda: maskrcnn.Losses(l2_weight_decay=1e-4))
  seed: Optional[int] = None


def _experiment(function):
  """Registers a configuration under its function's name."""
  EXPERIMENTS.append(function.__name__)
  return exp_factory.register_config_factory(function.__name__)(function)


def _trainer(steps: List[int], learning_rates: List[float], *,
             warmup_steps: int, steps_per_loop: int, validation_interval: int,
             checkpoint_interval: int) -> cfg.TrainerConfig:
  """SGD with momentum 0.9; the rate changes at `steps[:-1]`."""
  return cfg.TrainerConfig(
      train_steps=steps[-1],
      validation_steps=-1,
      validation_interval=validation_interval,
      steps_per_loop=steps_per_loop,
      summary_interval=steps_per_loop,
      checkpoint_interval=checkpoint_interval,
      optimizer_config=optimization.OptimizationConfig({
          'optimizer': {'type': 'sgd', 'sgd': {'momentum': 0.9}},
          'learning_rate': {
              'type': 'stepwise',
              'stepwise': {
                  'boundaries': steps[:-1], 'values': learning_rates}},
          'warmup': {
              'type': 'linear',
              'linear': {
                  'warmup_steps': warmup_steps,
                  'warmup_learning_rate': learning_rates[0] / 3}}}))


def _coco(model: PANet, steps: List[int]) -> cfg.ExperimentConfig:
  """Section 4.2: 16 images a batch, multi-scale, 800/1000 for evaluation."""
  task = PANetTask(
      model=model,
      annotation_file='coco/annotations/instances_val2017.json',
      train_data=DataConfig(
          input_path='coco/train-*.tfrecord',
          is_training=True,
          global_batch_size=16,
          parser=Parser(
              aug_rand_hflip=True, short_edge=[400, 1400], long_edge=1400)),
      validation_data=DataConfig(
          input_path='coco/val-*.tfrecord',
          is_training=False,
          global_batch_size=8,
          drop_remainder=False,
          parser=Parser(short_edge=[800, 800], long_edge=1000)))
  return cfg.ExperimentConfig(
      task=task,
      runtime=cfg.RuntimeConfig(distribution_strategy='mirrored'),
      trainer=_trainer(
          steps, [0.02, 0.002], warmup_steps=500, steps_per_loop=100,
          validation_interval=10000, checkpoint_interval=2000))


@_experiment
def panet_coco() -> cfg.ExperimentConfig:
  """PANet with ResNet-50 on COCO, as in section 4.2."""
  return _coco(PANet(num_classes=81, input_size=[1024, 1024, 3]),
               [120000, 160000])


@_experiment
def panet_coco_box() -> cfg.ExperimentConfig:
  """The detector alone (AP^bb of Tables 2 and 3): no mask branch."""
  return _coco(
      PANet(num_classes=81, input_size=[1024, 1024, 3], include_mask=False),
      [60000, 80000])


@_experiment
def panet_shapes() -> cfg.ExperimentConfig:
  """The embedded default: a small PANet on generated scenes."""
  model = PANet(
      num_classes=0,
      input_size=[128, 128, 3],
      anchor=maskrcnn.Anchor(anchor_size=4.0),
      backbone=Backbone(model_id=18, width_multiplier=0.5),
      decoder=Neck(num_filters=32),
      rpn_head=maskrcnn.RPNHead(num_filters=32),
      detection_head=maskrcnn.DetectionHead(num_filters=32, fc_dims=128),
      mask_head=maskrcnn.MaskHead(num_filters=32),
      roi_generator=maskrcnn.ROIGenerator(
          num_proposals=200, test_num_proposals=200),
      roi_sampler=maskrcnn.ROISampler(num_sampled_rois=64),
      mask_sampler=maskrcnn.MaskSampler(num_sampled_masks=16),
      norm_activation=dataclasses.replace(
          PANet().norm_activation, norm_momentum=0.97))
  task = PANetTask(
      model=model,
      seed=1,
      train_data=DataConfig(
          input_path='runs/demo/data/train-*.tfrecord',
          is_training=True,
          global_batch_size=8,
          parser=Parser(aug_rand_hflip=True, mask_crop_size=56)),
      validation_data=DataConfig(
          input_path='runs/demo/data/val-*.tfrecord',
          is_training=False,
          global_batch_size=10,
          drop_remainder=False,
          parser=Parser(mask_crop_size=56)))
  return cfg.ExperimentConfig(
      task=task,
      runtime=cfg.RuntimeConfig(distribution_strategy='off'),
      trainer=_trainer(
          [800, 1000], [0.04, 0.004], warmup_steps=100, steps_per_loop=50,
          validation_interval=1000, checkpoint_interval=500))


def read(experiment: str, config_files: Sequence[str] = (),
         params_override: str = '', tpu: str = '') -> cfg.ExperimentConfig:
  """Reads an experiment with its overrides, in Model Garden's order.

  Args:
    experiment: a registered name, such as 'panet_coco'.
    config_files: YAML or JSON files, later ones win.
    params_override: YAML or JSON text, or a file; wins over the files.
    tpu: address of a TPU.

  Returns:
    The configuration, not locked.

  Raises:
    InputError: naming the experiment, the file or the key that is wrong.
  """
  try:
    params = exp_factory.get_exp_config(experiment)
  except LookupError as e:
    raise errors.InputError(
        f'unknown experiment {experiment!r}; there are '
        f'{", ".join(EXPERIMENTS)}') from e
  for path in config_files:
    if not os.path.isfile(path):
      raise errors.InputError(f'config file {path} does not exist')
    _override(params, path, f'config file {path}')
  if tpu:
    params.override({'runtime': {'tpu': tpu}})
  if params_override:
    _override(params, params_override, '--params_override')
  return params


def _override(params, source, where):
  before = params.as_dict()
  try:
    hyperparams.override_params_dict(params, source, is_strict=True)
    after = params.as_dict()
  except KeyError as e:  # "The key 'x' does not exist in <class '...'>. ..."
    key, owner = re.findall("'(.+?)'", e.args[0])[:2]
    raise errors.InputError(
        f'{where}: unknown key {key!r}; {owner.rsplit(".", 1)[-1]} has no such '
        'field') from e
  except AttributeError as e:
    raise errors.InputError(
        f'{where}: it must map keys to values, as in task: {{seed: 1}}') from e
  except (yaml.YAMLError, ValueError, TypeError, tf.errors.OpError) as e:
    reason = ' '.join(str(e).split())
    raise errors.InputError(f'{where}: {reason}') from e
  _check_kinds(before, after, where)


# What may follow a value of a kind. Some fields of Model Garden that are text
# by default take a list as well; what is None by default takes anything.
_KINDS = {
    bool: (bool, 'true or false'),
    int: (int, 'a whole number'),
    float: ((int, float), 'a number'),
    str: ((str, list, tuple), 'text'),
    list: ((list, tuple), 'a list'),
    tuple: ((list, tuple), 'a list'),
    dict: (Mapping, 'keys with values'),
}


def _check_kinds(before: Any, after: Any, where: str, field: str = ''):
  """Raises InputError where a value has not the kind of its predecessor."""
  kind, name = _KINDS.get(type(before), (object, ''))
  is_boolean = isinstance(after, bool)
  optional = after is None and type(before) not in (bool, dict)
  if not optional and (not isinstance(after, kind) or (
      is_boolean and kind not in (bool, object))):
    raise errors.InputError(
        f'{where}: {field} is {after!r}; it must be {name}')
  if isinstance(before, Mapping):
    for key, value in before.items():
      _check_kinds(value, after.get(key, value), where,
                   f'{field}.{key}' if field else key)
