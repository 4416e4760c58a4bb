"""Adaptive feature pooling (section 3.2, Figures 1c and 6).

"First, for each proposal, we map them to different feature levels [...]
ROIAlign is used to pool feature grids from each level. Then a fusion operation
(element-wise max or sum) is utilized to fuse feature grids from different
levels." The heads call `LevelFusion` after their first parameter layer.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any

import tensorflow as tf
import tf_keras

from panet_tf.modeling.layers import configured
from panet_tf.ops import box_convention
from panet_tf.ops import formulations
from panet_tf.ops import roi_align

# Boxes pool from these; level 6 is for proposals only.
LEVELS = ('2', '3', '4', '5')
# Of a list of levels.
FUSIONS: dict[str, Callable[[Sequence[tf.Tensor]], tf.Tensor]] = {
    'max': functools.partial(functools.reduce, tf.maximum),
    'sum': functools.partial(functools.reduce, tf.add)}
FUSE_AFTER = ('first_layer', 'pooling')


@tf_keras.utils.register_keras_serializable(package='PANet')
class AdaptiveFeaturePooling(configured.Configured):
  """Pools every box from every level."""

  def __init__(self, crop_size: int, sampling_ratio: int = 2,
               aligned: bool = True,
               boxes: box_convention.BoxConvention | str = box_convention.EDGES,
               formulation: str = formulations.KERNELS, **kwargs):
    """Initializes the pooling.

    Args:
      crop_size: cells of the pooled grid in each direction; 7 for boxes, 14
        for masks.
      sampling_ratio: samples per cell in each direction.
      aligned: half-pixel-correct ROIAlign; False for the release's.
      boxes: how they are pooled, up to the edge or, as in the release, to the
        index of the last pixel; or its name.
      formulation: of ROIAlign, one of `formulations.NAMES`.
    """
    super().__init__(**kwargs)
    self.crop_size = crop_size
    self.sampling_ratio = sampling_ratio
    self.aligned = aligned
    self.boxes = box_convention.of(boxes)
    self.formulation = formulations.check(formulation)

  def call(self, features: Mapping[str, tf.Tensor], boxes: tf.Tensor,
           training=None) -> list[tf.Tensor]:
    """Pools from levels 2, 3, 4, 5.

    Args:
      features: {'2'..'6'}: [batch, height / 2^level, width / 2^level,
        channels]; level 6 is not used.
      boxes: [batch, num_boxes, 4], yxyx, network-input pixels.
      training: not used; Model Garden passes it.

    Returns:
      Four tensors [batch, num_boxes, crop_size, crop_size, channels].
    """
    del training
    return self._pool({level: features[level] for level in LEVELS}, boxes)

  def _pool(self, features, boxes) -> list[tf.Tensor]:
    return roi_align.multilevel_roi_align(
        features, self.boxes.pooled(boxes), self.crop_size,
        sampling_ratio=self.sampling_ratio, aligned=self.aligned,
        formulation=self.formulation)

  def get_config(self) -> dict[str, Any]:
    """Returns the arguments, and `boxes` by name."""
    return dict(super().get_config(), boxes=self.boxes.name)


def assigned_level(boxes: tf.Tensor) -> tf.Tensor:
  """FPN's size rule: floor(4 + log2(sqrt(area) / 224)), clamped to 2..5.

  Of boxes [..., 4], yxyx, network-input pixels; [...] int32. An empty or
  inverted box goes to level 2.
  """
  size = tf.nn.relu(boxes[..., 2:] - boxes[..., :2])  # pyright: ignore[reportArgumentType] - TensorFlow's stub of Tensor does not know `...`
  area = tf.maximum(tf.reduce_prod(size, axis=-1), 1.)
  # Half of log2(area) and not log2(sqrt(area)): exact at 112, 224, 448. The
  # small constant is Detectron's, against rounding just below a power of two.
  level = 4. + .5 * tf.math.log(area / 224.**2) / tf.math.log(2.)
  return tf.cast(tf.clip_by_value(tf.floor(level + 1e-6), 2., 5.), tf.int32)


@tf_keras.utils.register_keras_serializable(package='PANet')
class SingleLevelPooling(AdaptiveFeaturePooling):
  """The baseline: pools each box from the one level its size selects.

  Takes the arguments of `AdaptiveFeaturePooling` and returns a list of one
  tensor. Each level pools as many boxes per image as the fullest image has
  there; 'xla' and 'builtin', whose shapes are static, pool all levels and
  select.
  """

  def call(self, features, boxes, training=None) -> list[tf.Tensor]:
    """As `AdaptiveFeaturePooling`, but a list of one tensor."""
    del training
    slot = assigned_level(boxes) - int(LEVELS[0])
    if self.formulation in (formulations.XLA, formulations.BUILTIN):
      pooled = tf.stack(super().call(features, boxes), axis=2)
      return [tf.gather(pooled, slot, axis=2, batch_dims=2)]
    pooled, position, offset = [], tf.zeros_like(slot), 0
    for i, level in enumerate(LEVELS):
      here = tf.cast(tf.equal(slot, i), tf.int32)
      chosen = self._chosen(here)
      pooled += self._pool({level: features[level]},
                           tf.gather(boxes, chosen, batch_dims=1))
      rank = tf.cumsum(here, axis=1) - 1
      position += here * (offset + rank)
      offset += tf.shape(chosen)[1]
    return [tf.gather(tf.concat(pooled, axis=1), position, batch_dims=1)]

  def _chosen(self, here: tf.Tensor) -> tf.Tensor:
    """Indices [batch, m] of the boxes of one level first, in their order."""
    most = tf.reduce_max(tf.reduce_sum(here, axis=1))
    most = tf.minimum(tf.maximum(most, 1), tf.shape(here)[1])
    order = tf.argsort(here, axis=1, direction='DESCENDING', stable=True)
    return order[:, :most]


@tf_keras.utils.register_keras_serializable(package='PANet')
class LevelFusion(configured.Configured):
  """Element-wise max or sum over levels (Table 4)."""

  def __init__(self, fusion: str = 'max', **kwargs):
    """`fusion`: max or sum."""
    super().__init__(**kwargs)
    self.fusion = fusion
    if fusion not in FUSIONS:
      raise ValueError(
          f'Level fusion {fusion!r}: expected '
          f'{" or ".join(map(repr, FUSIONS))}.')

  def call(self, levels: Sequence[tf.Tensor]) -> tf.Tensor:
    """Fuses tensors of one shape; a list of one passes through."""
    return FUSIONS[self.fusion](levels)


def first_layers(make: Callable[[str], tf_keras.layers.Layer], name: str,
                 num_levels: int, fuse_after: str
                ) -> dict[str, tf_keras.layers.Layer]:
  """One layer for each level, or one for all where they are fused before it."""
  if fuse_after not in FUSE_AFTER:
    raise ValueError(f'fuse_after {fuse_after!r}: expected {FUSE_AFTER}.')
  if fuse_after == 'pooling' or num_levels == 1:
    return {'fused': make(name)}
  return {f'level_{level}': make(f'{name}_level_{level}')
          for level in range(2, 2 + num_levels)}


def fuse_levels(pooled: Sequence[tf.Tensor], layers, fusion, training
               ) -> tf.Tensor:
  """Applies the first layers and the fusion, in the order they stand in."""
  if len(layers) == 1:
    return layers['fused'](fusion(pooled), training=training)
  if len(pooled) != len(layers):
    raise ValueError(f'Got {len(pooled)} pooled levels for the layers '
                     f'{sorted(layers)}: set num_levels={len(pooled)}.')
  return fusion([layers[key](x, training=training)
                 for key, x in zip(sorted(layers), pooled, strict=True)])


def fold(pooled: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
  """[batch, num_boxes, s, s, c] to [batch * num_boxes, s, s, c], each."""
  return [tf.reshape(x, [-1, *x.shape[2:]]) for x in pooled]
