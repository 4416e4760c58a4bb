"""Configuration to model. The only file that knows both."""

from typing import Any

from official.vision.modeling import factory as official_factory
import tensorflow as tf
import tf_keras

from panet_tf.configs import panet as panet_config
from panet_tf.model_garden import nms
from panet_tf.modeling import adaptive_feature_pooling as pooling
from panet_tf.modeling import box_head
from panet_tf.modeling import decoder as neck
from panet_tf.modeling import fully_connected_fusion
from panet_tf.modeling import mask_sampler
from panet_tf.modeling import panet_model
from panet_tf.modeling.backbones import resnet
from panet_tf.modeling.layers import normalization
from panet_tf.modeling.proposals import portable_generators
from panet_tf.modeling.proposals import roi_generator
from panet_tf.modeling.proposals import rpn_head
from panet_tf.modeling.proposals import rpn_model
from panet_tf.modeling.proposals import stored_proposals
from panet_tf.ops import box_convention

_GROUP_NORM_EPSILON = 1e-5  # GroupNorm paper; Model Garden has no field for it.
_RPN_PARTS = ('backbone', 'decoder', 'rpn_head', 'roi_generator', 'min_level',
              'max_level', 'num_scales', 'aspect_ratios', 'anchor_size')


@tf.autograph.experimental.do_not_convert
def build_panet(
    config: panet_config.PANet,
    kernel_regularizer: tf_keras.regularizers.Regularizer | None = None,
) -> panet_model.PANetModel | rpn_model.RPNModel:
  """Builds PANet, or with all switches off Mask R-CNN; or one stage of it.

  Args:
    config: every option of the model; `num_classes` must be known.
    kernel_regularizer: for the kernels of all convolutions and fc layers.

  Returns:
    A model whose variables exist.

  Raises:
    InputError: if the configuration holds a value nothing understands.
  """
  config.check()
  nms.trace_once()
  norm = _normalization(config, config.normalization)
  backbone = _backbone(config, kernel_regularizer)
  decoder = neck.PANetDecoder(
      num_filters=config.decoder.num_filters,
      bottom_up_path=config.bottom_up_path, norm=norm,
      kernel_regularizer=kernel_regularizer, name='decoder')
  # Model Garden's proposals, samplers, detections; its heads are dropped.
  parts = dict(official_factory.build_maskrcnn(
      tf_keras.layers.InputSpec(shape=[None, *config.input_size]),
      config, backbone=backbone, decoder=decoder).get_config())
  parts.update(_generators(config, parts))
  if config.stages == 'detector':
    parts.update(rpn_head=stored_proposals.NoRPN(name='rpn_head'),
                 roi_generator=stored_proposals.StoredProposals())
  else:
    parts.update(rpn_head=_rpn_head(config, kernel_regularizer))
  if config.stages == 'rpn':
    model = rpn_model.RPNModel(**{name: parts[name] for name in _RPN_PARTS},
                               boxes=config.box_convention)
  else:
    parts.update(_heads(config, norm, kernel_regularizer))
    model = panet_model.PANetModel(**parts, boxes=config.box_convention)
  _create_variables(model, config)
  return model


def _create_variables(model, config):
  """Those of the heads, in the order and by the names of a call.

  A call would trace the generators and RoIAlign, too, which have no variables
  and are two thirds of all ops. Backbone and decoder have theirs already.
  """
  channels = config.decoder.num_filters
  levels = 4 if config.adaptive_feature_pooling else 1

  def pooled(aligner):
    size = aligner.crop_size
    return [tf.zeros([1, 1, size, size, channels]) for _ in range(levels)]

  with (tf.__internal__.FuncGraph('build').as_default(),
        tf.name_scope(model.name)):
    model.rpn_head({
        str(level): tf.zeros([1, 1, 1, channels])
        for level in range(config.min_level, config.max_level + 1)})
    if config.stages != 'rpn':
      model.detection_head[0](pooled(config.roi_aligner))
      if config.include_mask:
        model.mask_head([pooled(config.mask_roi_aligner), tf.zeros([1, 1])])
  model.built = True


@tf.autograph.experimental.do_not_convert
def build_backbone(config: panet_config.PANet) -> tf_keras.Model:
  """The backbone alone, whose variables exist; see `build_panet`."""
  config.check()
  backbone = _backbone(config, None)
  backbone(tf_keras.Input([None, None, 3]), training=False)
  return backbone


def _normalization(config, kind):
  official = config.norm_activation
  return normalization.Normalization(
      kind, official.norm_momentum,
      _GROUP_NORM_EPSILON if kind == 'group' else official.norm_epsilon)


def _backbone(config, kernel_regularizer):
  options = config.backbone
  return resnet.ResNet(
      options.key, options.width_multiplier, options.stride_in_1x1,
      options.frozen_stages,
      norm=_normalization(
          config, options.normalization or config.normalization),
      kernel_regularizer=kernel_regularizer,
      deformable_stages=options.deformable_stages, modulated=options.modulated,
      name='backbone')


def _generators(config, parts):
  """Kernels instead of Model Garden's batched NMS, see there.

  Boxes of the release are clipped in the midst of it: kernels, too.
  """
  boxes = config.box_convention
  legacy = boxes != box_convention.EDGES
  arguments = {'boxes': boxes} if legacy else {}
  proposals, detections = (
      parts[name].get_config()
      for name in ('roi_generator', 'detection_generator'))
  generator = (portable_generators.PortableROIGenerator
               if config.roi_generator.use_batched_nms or legacy
               else roi_generator.ROIGenerator)
  made = {'roi_generator': generator(**proposals, **arguments)}
  if config.detection_generator.nms_version == 'batched' or legacy:
    made['detection_generator'] = (
        portable_generators.PortableDetectionGenerator(
            **detections, **arguments))
  return made


def _rpn_head(config, kernel_regularizer):
  return rpn_head.RPNHead(
      config.min_level, config.max_level,
      config.anchor.num_scales * len(config.anchor.aspect_ratios),
      num_convs=config.rpn_head.num_convs,
      num_filters=config.rpn_head.num_filters,
      norm=_normalization(
          config, config.rpn_normalization or config.normalization),
      kernel_regularizer=kernel_regularizer, name='rpn_head')


def _heads(config, norm, kernel_regularizer):
  """The second stage."""
  shared: dict[str, Any] = dict(
      num_classes=config.num_classes,
      num_levels=4 if config.adaptive_feature_pooling else 1,
      fusion=config.pooling_fusion, fuse_after=config.fuse_after,
      norm=norm, kernel_regularizer=kernel_regularizer)
  parts = dict(
      roi_aligner=_pooling(config, config.roi_aligner.crop_size),
      detection_head=box_head.AdaptiveBoxHead(
          kind=config.box_head, num_filters=config.detection_head.num_filters,
          fc_dims=config.detection_head.fc_dims,
          norm_after_fc=config.norm_after_fc, name='detection_head', **shared))
  if config.include_mask:
    crop_size = config.mask_roi_aligner.crop_size
    parts.update(
        mask_roi_aligner=_pooling(config, crop_size),
        mask_sampler=mask_sampler.MaskSampler(
            2 * crop_size, config.mask_sampler.num_sampled_masks),
        mask_head=fully_connected_fusion.FullyConnectedFusion(
            num_convs=config.mask_head.num_convs,
            num_filters=config.mask_head.num_filters,
            fc_branch=config.fully_connected_fusion, source=config.fc_source,
            mask_fusion=config.fc_fusion, fc_relu=config.fc_relu,
            norm_after_upconv=config.norm_after_upconv, name='mask_head',
            **shared))
  return parts


def _pooling(config, crop_size):
  layer = (pooling.AdaptiveFeaturePooling if config.adaptive_feature_pooling
           else pooling.SingleLevelPooling)
  options = config.roi_align
  return layer(crop_size, options.sampling_ratio, options.aligned,
               config.box_convention, options.formulation)
