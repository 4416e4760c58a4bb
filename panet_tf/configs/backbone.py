"""The options of the backbone, and of the pixels that its weights expect."""

from collections.abc import Collection
import dataclasses
from typing import Any

from official.modeling import hyperparams

from panet_tf import errors
from panet_tf.configs import checks
from panet_tf.modeling.backbones import resnet
from panet_tf.modeling.layers import normalization

# Values of `backbone.model_id`, and of `backbone.name`.
DEPTHS = tuple(key for key in resnet.DESIGNS if isinstance(key, int))
NAMES = tuple(key for key in resnet.DESIGNS if isinstance(key, str))
BACKBONES = tuple(f'resnet{depth}' for depth in DEPTHS) + NAMES


def one_of(field: str, value: Any, allowed: Collection[Any]):
  """Raises InputError unless a field of `task.model` has an allowed value."""
  checks.one_of(f'task.model.{field}', value, allowed)


@dataclasses.dataclass
class Backbone(hyperparams.Config):
  """ResNet and its kin.

  Attributes:
    model_id: depth of a ResNet: 18, 34, 50, 101, 152 or 269.
    name: instead of a ResNet: resnext101_32x8d, resnext101_64x4d,
      se_resnext101_32x4d or senet154.
    width_multiplier: scales all channel counts, for small models; groups, too.
    stride_in_1x1: stride of a stage in its first 1x1 (as in Caffe, and the
      authors' release) instead of the 3x3 convolution.
    frozen_stages: 0 nothing, 1 the stem, 2 the stem and stage 2, and so on.
    normalization: as in `PANet`; '' takes over `PANet.normalization`.
    deformable_stages: of 3, 4 and 5: there the 3x3 convolutions of the
      bottlenecks are deformable. They take gigabytes in training, see
      `modeling.layers.deformable_conv`.
    modulated: these in their second version, with masks.
  """
  model_id: int = 50
  name: str = ''
  width_multiplier: float = 1.0
  stride_in_1x1: bool = False
  frozen_stages: int = 0
  normalization: str = ''
  deformable_stages: list[int] = dataclasses.field(default_factory=list)
  modulated: bool = False

  @property
  def key(self) -> int | str:
    """Which of `modeling.backbones.resnet.DESIGNS` it is."""
    return self.name or self.model_id

  def check(self):
    """Raises InputError for a backbone that there is not."""
    one_of('backbone.normalization', self.normalization,
           ('',) + normalization.KINDS)
    one_of('backbone.model_id', self.model_id, DEPTHS)
    one_of('backbone.name', self.name, ('',) + NAMES)
    if self.name and self.model_id != Backbone.model_id:
      raise errors.InputError(
          f'task.model.backbone.model_id is {self.model_id}, but '
          f'task.model.backbone.name is {self.name}; leave model_id out')
    # Of 64 channels or a multiple, in 32 groups or 64.
    if self.name and (
        self.width_multiplier <= 0 or self.width_multiplier * 32 % 1):
      raise errors.InputError(
          'task.model.backbone.width_multiplier is '
          f'{self.width_multiplier}; for the groups of {self.name} it must be '
          'a multiple of 1/32')
    for stage in self.deformable_stages:
      one_of('backbone.deformable_stages', stage, (3, 4, 5))
    if self.deformable_stages and not resnet.DESIGNS[self.key].bottleneck:
      raise errors.InputError(
          'task.model.backbone.deformable_stages is '
          f'{self.deformable_stages}, but model_id {self.model_id} has no '
          'bottlenecks; it must be empty, or model_id 50 or more')
    if self.modulated and not self.deformable_stages:
      raise errors.InputError(
          'task.model.backbone.modulated is true, but deformable_stages is '
          'empty; list stages of 3, 4 and 5')


@dataclasses.dataclass
class PixelsConfig(hyperparams.Config):
  """What the network sees of a pixel: (value - mean) / stddev.

  Belongs to the weights of the backbone, as `panet convert-weights` writes it.

  Attributes:
    color_order: 'rgb', or 'bgr' as in Caffe.
    mean: of each channel in that order, in 0..255. Empty: Model Garden's,
      which torchvision shares: 123.675, 116.28, 103.53.
    stddev: of each channel. Empty: 58.395, 57.12, 57.375.
  """
  color_order: str = 'rgb'
  mean: list[float] = dataclasses.field(default_factory=list)
  stddev: list[float] = dataclasses.field(default_factory=list)

  def check(self):
    """Raises InputError for what is no preprocessing."""
    one_of('pixels.color_order', self.color_order, ('rgb', 'bgr'))
    for name, least in (('mean', -1e3), ('stddev', 1e-6)):
      values = getattr(self, name)
      if values and not (len(values) == 3 and all(
          isinstance(x, (int, float)) and least <= x <= 1e3 for x in values)):
        raise errors.InputError(
            f'task.model.pixels.{name} is {values}; it must be empty or three '
            f'numbers of {least:g} to 1000, one for each channel')
    if self.color_order != 'rgb' and not (self.mean and self.stddev):
      raise errors.InputError(
          f'task.model.pixels.color_order is {self.color_order}, but mean or '
          'stddev is empty; both must be set, in that order of channels')
