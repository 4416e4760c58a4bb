"""ResNet and its kin: image to C2..C5. "We also take ResNet as the basic
structure" (3.1); ResNeXt-101, SE-ResNeXt-101, ResNet-269 and SENet are in the
entry that won COCO 2017 (4.2).

Padding is symmetric, as in Caffe and torchvision, so that their ImageNet
weights fit; so are the two places of the stride (`stride_in_1x1`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

from panet_tf.modeling.backbones import residual_block
from panet_tf.modeling.layers import configured
from panet_tf.modeling.layers import normalization


class Design(NamedTuple):
  """What tells one backbone from another, at 64 filters in stage 2.

  Attributes:
    blocks: in stages 2..5.
    bottleneck: whether a block is 1x1, 3x3, 1x1, and not 3x3 twice.
    groups: of the 3x3 convolutions.
    widths: channels of a bottleneck's first 1x1 and of its 3x3 convolution, in
      multiples of 64 in stage 2, of 128 in stage 3, and so on.
    se_reduction: channels for each unit of squeeze-and-excitation; 0: none.
    shortcut_size: kernel size of the projections in stages 3..5.
    deep_stem: three 3x3 convolutions instead of one 7x7.
    pool_padding: of the maximum before stage 2, above and below.
  """
  blocks: tuple[int, int, int, int]
  bottleneck: bool = True
  groups: int = 1
  widths: tuple[int, int] = (1, 1)
  se_reduction: int = 0
  shortcut_size: int = 1
  deep_stem: bool = False
  pool_padding: tuple[int, int] = (1, 1)


# ResNet and ResNeXt: torchvision/models/resnet.py, where "32x8d" is groups=32,
# width_per_group=8. SE-ResNeXt and SENet: pretrainedmodels/models/senet.py of
# Cadena's pretrained-models.pytorch, which kept Caffe's rounding up instead of
# padding in front of the maximum. Blocks of 269 as in timm's and GluonCV's 269
# layers: the paper does not say.
DESIGNS = {
    18: Design((2, 2, 2, 2), bottleneck=False),
    34: Design((3, 4, 6, 3), bottleneck=False),
    50: Design((3, 4, 6, 3)),
    101: Design((3, 4, 23, 3)),
    152: Design((3, 8, 36, 3)),
    269: Design((3, 30, 48, 8)),
    'resnext101_32x8d': Design((3, 4, 23, 3), groups=32, widths=(4, 4)),
    'resnext101_64x4d': Design((3, 4, 23, 3), groups=64, widths=(4, 4)),
    'se_resnext101_32x4d': Design(
        (3, 4, 23, 3), groups=32, widths=(2, 2), se_reduction=16,
        pool_padding=(0, 1)),
    'senet154': Design(
        (3, 8, 36, 3), groups=64, widths=(2, 4), se_reduction=16,
        shortcut_size=3, deep_stem=True, pool_padding=(0, 1)),
}


class DeepStem(tf_keras.layers.Layer):
  """SENet's first layer: 3x3 convolutions of 64, 64 and 128 channels."""

  def __init__(self, filters: int, name: str, **kwargs):
    """`filters`: of the first two convolutions; `kwargs`: of `ConvNorm`."""
    super().__init__(name=name)
    self.conv1 = normalization.ConvNorm(filters, 3, 2, name='conv1', **kwargs)
    self.conv2 = normalization.ConvNorm(filters, 3, name='conv2', **kwargs)
    self.conv3 = normalization.ConvNorm(2 * filters, 3, name='conv3', **kwargs)

  def call(self, x: tf.Tensor, training=None) -> tf.Tensor:
    """[batch, h, w, 3] to [batch, h / 2, w / 2, 2 * filters]."""
    for conv in (self.conv1, self.conv2, self.conv3):
      x = conv(x, training=training)
    return x


@tf_keras.utils.register_keras_serializable(package='PANet')
class ResNet(configured.Configured, tf_keras.Model):
  """A backbone of `DESIGNS` without its classifier."""

  def __init__(self, model_id: int | str = 50,
               width_multiplier: float = 1.0,
               stride_in_1x1: bool = False, frozen_stages: int = 0,
               norm: normalization.Normalization | None = None,
               kernel_regularizer=None,
               deformable_stages: Sequence[int] = (), modulated: bool = False,
               **kwargs):
    """Initializes the backbone.

    Args:
      model_id: a key of `DESIGNS`.
      width_multiplier: of channels, and of groups: channels in a group stay.
      stride_in_1x1: where bottlenecks stride; True in Caffe and the release.
      frozen_stages: 0 freezes nothing, 1 the stem, 2 the stem and stage 2
        (the release), up to 5. Frozen kernels and normalization do not train,
        the normalization keeps its moving statistics.
      norm: normalization after every convolution.
      kernel_regularizer: of the kernels.
      deformable_stages: of 3..5, see `ResidualBlock`.
      modulated: see there.

    Raises:
      ValueError: for an unknown model_id or stage, or a width that the groups
        do not divide.
    """
    super().__init__(**kwargs)
    if model_id not in DESIGNS:
      raise ValueError(f'ResNet {model_id}: expected one of {list(DESIGNS)}.')
    if not 0 <= frozen_stages <= 5:
      raise ValueError(f'frozen_stages {frozen_stages}: expected 0 to 5.')
    design = DESIGNS[model_id]
    if not set(deformable_stages) <= (
        {3, 4, 5} if design.bottleneck else set()):
      raise ValueError(f'deformable_stages {list(deformable_stages)}: expected '
                       'some of 3, 4 and 5, of a backbone with bottlenecks.')
    self.model_id, self.width_multiplier = model_id, width_multiplier
    self.stride_in_1x1, self.frozen_stages = stride_in_1x1, frozen_stages
    self.normalization = normalization.Normalization.of(norm)
    self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
    self.deformable_stages = tuple(deformable_stages)
    self.modulated = modulated
    width = int(64 * width_multiplier)
    if design.deep_stem:
      self.stem = DeepStem(width, 'stem', **self._stage_kwargs(1))
    else:
      self.stem = normalization.ConvNorm(
          width, 7, 2, name='stem', **self._stage_kwargs(1))
    self.stages = {str(level): self._stage(level, width * 2**(level - 2))
                   for level in range(2, 6)}
    self._freeze()

  def _stage_kwargs(self, stage: int) -> dict[str, Any]:
    if stage <= self.frozen_stages:
      return dict(norm=self.normalization.as_frozen())
    return dict(norm=self.normalization,
                kernel_regularizer=self.kernel_regularizer)

  def _stage(self, level: int, filters: int):
    design = self.design
    groups = max(int(design.groups * self.width_multiplier), 1)
    return [residual_block.ResidualBlock(
        filters, design.bottleneck, strides=2 if level > 2 and i == 0 else 1,
        stride_in_1x1=self.stride_in_1x1,
        projection=i == 0 and (design.bottleneck or level > 2),
        groups=groups, widths=design.widths, se_reduction=design.se_reduction,
        shortcut_size=design.shortcut_size if level > 2 else 1,
        deformable=level in self.deformable_stages, modulated=self.modulated,
        name=f'res{level}_{i}', **self._stage_kwargs(level))
            for i in range(design.blocks[level - 2])]

  def _freeze(self):
    frozen = [self.stem] if self.frozen_stages else []
    for level in range(2, self.frozen_stages + 1):
      frozen += self.stages[str(level)]
    for layer in frozen:
      layer.trainable = False

  @tf_keras.Model.trainable.setter
  def trainable(self, value: bool):
    """Sets all layers but the frozen ones, which stay frozen."""
    tf_keras.Model.trainable.fset(self, value)  # pyright: ignore[reportOptionalCall] - Keras's has a setter
    if value:
      self._freeze()

  @property
  def design(self) -> Design:
    """Of `DESIGNS`."""
    return DESIGNS[self.model_id]

  @property
  def output_specs(self) -> Mapping[str, tf.TensorShape]:
    """Shapes of the output by level."""
    expansion = 4 if self.design.bottleneck else 1
    width = int(64 * self.width_multiplier) * expansion
    return {str(level): tf.TensorShape([None, None, None,
                                        width * 2**(level - 2)])
            for level in range(2, 6)}

  def call(self, images: tf.Tensor, training=None) -> Mapping[str, tf.Tensor]:
    """Images [batch, height, width, 3], normalized, multiples of 32, to
    {'2'..'5'}: [batch, height / 2^level, width / 2^level, channels]."""
    x = self.stem(images, training=training)
    # Zeros are a neutral padding for the maximum of a ReLU's output.
    pad = list(self.design.pool_padding)
    x = tf.nn.max_pool2d(tf.pad(x, [[0, 0], pad, pad, [0, 0]]), 3, 2, 'VALID')
    c = {}
    for level, blocks in sorted(self.stages.items()):
      for block in blocks:
        x = block(x, training=training)
      c[level] = x
    return c
