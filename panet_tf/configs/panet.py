"""Every option of PANet, with its paper default.

The configuration extends Model Garden's Mask R-CNN: anchors, proposals,
samplers, detection generator, losses and runtime keep its names and meaning.
The switches of the paper (section 3, Tables 3 to 5) are plain fields of
`PANet`. All of them off is the Mask R-CNN baseline.
"""

import dataclasses
import functools
from typing import Any

from official.modeling import hyperparams
from official.vision.configs import maskrcnn

from panet_tf import errors
from panet_tf.configs import backbone as backbone_lib
from panet_tf.configs import data as data_lib
from panet_tf.configs import inference as inference_config
from panet_tf.configs import stages as stages_lib
from panet_tf.modeling import adaptive_feature_pooling as pooling
from panet_tf.modeling import box_head
from panet_tf.modeling import fully_connected_fusion
from panet_tf.modeling.layers import normalization
from panet_tf.ops import box_convention as box_convention_lib
from panet_tf.ops import formulations

Backbone = backbone_lib.Backbone
PixelsConfig = backbone_lib.PixelsConfig
ParserConfig = data_lib.ParserConfig
DataConfig = data_lib.DataConfig

# Fields of Model Garden's heads that PANet has other fields, or no use, for.
_UNUSED = (
    'min_level', 'max_level', 'outer_boxes_scale',
    'roi_sampler.cascade_iou_thresholds',
    'detection_head.class_agnostic_bbox_pred',
    'detection_head.cascade_class_ensemble', 'detection_head.num_convs',
    'detection_head.num_fcs', 'detection_head.use_separable_conv',
    'rpn_head.use_separable_conv', 'roi_aligner.sample_offset',
    'norm_activation.activation', 'norm_activation.use_sync_bn')
_UNUSED_WITH_MASKS = (
    'mask_head.use_separable_conv', 'mask_head.class_agnostic',
    'mask_head.upsample_factor', 'mask_roi_aligner.crop_size',
    'mask_roi_aligner.sample_offset')


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

  @property
  def formulation(self) -> str:
    """`use_xla` as one of `ops.formulations.NAMES`."""
    return formulations.XLA if self.use_xla else formulations.KERNELS


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
    rpn_normalization: of the RPN head, '' for `normalization`; none in the
      release.
    norm_after_fc: a normalisation behind the fc of the 4conv1fc head.
    norm_after_upconv: the same behind the transposed convolution of the mask
      branch.
    legacy_boxes: anchors, clipping and pooling as in the release, see
      `ops.box_convention`.
    pixels: preprocessing.
    stages: 'both'; 'rpn' for proposals only; or 'detector', which takes them
      from `DataConfig.proposals` and has no RPN (section 4.1).
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
  rpn_normalization: str = ''
  norm_after_fc: bool = True
  norm_after_upconv: bool = True
  legacy_boxes: bool = False
  stages: str = 'both'
  pixels: PixelsConfig = dataclasses.field(default_factory=PixelsConfig)
  roi_align: RoIAlign = dataclasses.field(default_factory=RoIAlign)
  backbone: Backbone = dataclasses.field(default_factory=Backbone)
  decoder: Neck = dataclasses.field(default_factory=Neck)

  @property
  def box_convention(self) -> box_convention_lib.BoxConvention:
    """`legacy_boxes` as what layers and models take."""
    return (box_convention_lib.LAST_PIXEL if self.legacy_boxes
            else box_convention_lib.EDGES)

  def check(self):
    """Raises InputError for a value that no part of the model understands."""
    one_of = backbone_lib.one_of
    one_of('stages', self.stages, stages_lib.STAGES)
    one_of('pooling_fusion', self.pooling_fusion, pooling.FUSIONS)
    one_of('fuse_after', self.fuse_after, pooling.FUSE_AFTER)
    one_of('fc_source', self.fc_source, fully_connected_fusion.SOURCES)
    one_of('fc_fusion', self.fc_fusion, fully_connected_fusion.MASK_FUSIONS)
    one_of('box_head', self.box_head, box_head.KINDS)
    one_of('normalization', self.normalization, normalization.KINDS)
    one_of('rpn_normalization', self.rpn_normalization,
           ('',) + normalization.KINDS)
    self.pixels.check()
    self.backbone.check()
    defaults = PANet()
    for field in _UNUSED + _UNUSED_WITH_MASKS * self.include_mask:
      value, default = (functools.reduce(getattr, field.split('.'), config)
                        for config in (self, defaults))
      one_of(field, value, (default,))
    if self.include_mask:
      self._check_mask_branch()
    if self.normalization == 'group':
      self._check_groups()

  def check_detections(self, user: str):
    """InputError, naming the user, for what no portable generator does."""
    generator = self.detection_generator
    for name, wanted in (('soft_nms_sigma', None), ('apply_nms', True),
                         ('use_sigmoid_probability', False)):
      if getattr(generator, name) != wanted:
        raise errors.InputError(
            f'task.model.detection_generator.{name} is '
            f'{getattr(generator, name)}; {user} needs {wanted}')
    # Model Garden's loops let suppressed boxes suppress others below 0.5.
    if (generator.nms_iou_threshold < 0.5
        and generator.nms_version in ('v2', 'v3')):
      raise errors.InputError(
          'task.model.detection_generator.nms_iou_threshold is '
          f'{generator.nms_iou_threshold}, where nms_version '
          f'{generator.nms_version} drops too many boxes and {user} would not '
          'equal it; set nms_version: batched')

  def check_proposals(self):
    """Raises InputError for proposals that an export makes in another way."""
    generator = self.roi_generator
    # Model Garden's loops let suppressed boxes suppress others below 0.5.
    if (0.0 < generator.test_nms_iou_threshold < 0.5
        and not generator.use_batched_nms):
      raise errors.InputError(
          'task.model.roi_generator.test_nms_iou_threshold is '
          f'{generator.test_nms_iou_threshold}, where Model Garden drops too '
          'many boxes and no export would equal it; set use_batched_nms: true')

  def _check_mask_branch(self):
    if self.stages == 'rpn':
      raise errors.InputError(
          'task.model.include_mask is true, but task.model.stages is rpn, '
          'which has no mask branch; it must be false')
    head: Any = self.mask_head
    if (self.fully_connected_fusion
        and int(self.fc_source[-1]) > head.num_convs):
      raise errors.InputError(
          f'task.model.fc_source is {self.fc_source!r}, but '
          f'task.model.mask_head.num_convs is {head.num_convs}')
    sampler: Any = self.mask_sampler
    if sampler.num_sampled_masks > self.roi_sampler.num_sampled_rois:
      raise errors.InputError(
          'task.model.mask_sampler.num_sampled_masks is '
          f'{sampler.num_sampled_masks}; it must be at most '
          'task.model.roi_sampler.num_sampled_rois, '
          f'{self.roi_sampler.num_sampled_rois}')

  def _check_groups(self):
    """GroupNorm needs 32 equal groups; the fc branch halves its channels."""
    smallest = {'decoder': 1, 'detection_head': 1}
    if self.rpn_normalization in ('', 'group'):
      smallest['rpn_head'] = 1
    if self.include_mask:
      smallest['mask_head'] = 2 if self.fully_connected_fusion else 1
    for part, share in smallest.items():
      channels = getattr(self, part).num_filters
      if channels / share % 32:
        raise errors.InputError(
            f'task.model.{part}.num_filters is {channels}, but '
            'task.model.normalization is group: every convolution must have a '
            'multiple of 32 channels')
    units = self.detection_head.fc_dims
    if (self.box_head == '2fc' or self.norm_after_fc) and (
        units % 32 or units < 64):
      raise errors.InputError(
          f'task.model.detection_head.fc_dims is {units}, but '
          'task.model.normalization is group: it must be a multiple of 32 and '
          'at least 64 (a group of one unit is always 0)')


@dataclasses.dataclass
class PANetTask(maskrcnn.MaskRCNNTask):
  """PANet on COCO-format data.

  Attributes:
    inference: scales, flips, voting and ensembles of prediction.
    seed: fixes initial weights, sampling and augmentation; None draws anew.
    annotation_file: ground truth for evaluation; None reads it from the
      validation shards.
    init_labels: for an init_checkpoint of other classes. For each label of
      this model, from 1 on, the checkpoint's label whose weights of the last
      layers it takes; 0 for none. Empty: the checkpoint's classes are these,
      or, where it has more or fewer, none is taken.
  """
  model: PANet = dataclasses.field(default_factory=PANet)
  train_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(is_training=True))
  validation_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(
          is_training=False, drop_remainder=False))
  losses: maskrcnn.Losses = dataclasses.field(
      default_factory=lambda: maskrcnn.Losses(l2_weight_decay=1e-4))
  inference: inference_config.Inference = dataclasses.field(
      default_factory=inference_config.Inference)
  seed: int | None = None
  init_labels: list[int] = dataclasses.field(default_factory=list)

  def used_data(self, mode: str) -> list[data_lib.DataConfig]:
    """What a mode of train.py reads."""
    return [data for data, part in (
        (self.train_data, 'train'), (self.validation_data, 'eval'))
            if part in mode]

  def check(self, mode: str):
    """Raises InputError for what does not go with a mode of train.py.

    Only data that it reads is checked.
    """
    used = self.used_data(mode)
    stages_lib.check_task(self, used)
    for data in used:
      data.check(self)
    # What Model Garden has here and we do not.
    for field, right in (
        ('use_coco_metrics', True), ('use_wod_metrics', False),
        ('use_approx_instance_metrics', False), ('allow_image_summary', False)):
      if getattr(self, field) != right:
        raise errors.InputError(
            f'task.{field} is {getattr(self, field)}; it must be {right}: '
            "evaluation is by COCO's metrics, without pictures")
    if 'train' in mode:
      self._check_initial_weights()

  def _check_initial_weights(self):
    path, modules = self.init_checkpoint, self.init_checkpoint_modules
    if self.init_labels and not (path and modules == 'all'):
      raise errors.InputError(
          f'task.init_labels is {self.init_labels}, but task.init_checkpoint '
          f'is {path!r} and task.init_checkpoint_modules {modules!r}: labels '
          'go with a checkpoint of all modules')
    named = [modules] if isinstance(modules, str) else list(modules)
    if path and modules != 'all' and not (
        named and {'backbone', 'decoder'}.issuperset(named)):
      raise errors.InputError(  # Model Garden loads nothing, without a word.
          f'task.init_checkpoint_modules is {modules!r}; it must be all, or of '
          'backbone and decoder')
