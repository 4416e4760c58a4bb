"""The whole neck as one decoder, for Model Garden's own models too.

Importing this module makes `decoder: {type: panet}` known to Model Garden at
any levels: its RetinaNet, say, then has a bottom-up path behind its pyramid.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from official.modeling import hyperparams
from official.vision.modeling.decoders import factory
import tensorflow as tf
import tf_keras

from panet_tf.model_garden import decoder_configs
from panet_tf.modeling import bottom_up_path as path
from panet_tf.modeling import feature_pyramid
from panet_tf.modeling.layers import configured
from panet_tf.modeling.layers import normalization


@tf_keras.utils.register_keras_serializable(package='PANet')
class PANetDecoder(configured.Configured, tf_keras.Model):
  """Backbone levels to N levels: pyramid, bottom-up path, coarser levels."""

  def __init__(self, min_level: int = 2, max_level: int = 6,
               num_filters: int = 256, bottom_up_path: bool = True,
               coarser_levels: str = 'subsample',
               norm: normalization.Normalization | None = None,
               activation: str | None = 'relu', kernel_regularizer=None,
               **kwargs):
    """Initializes the decoder.

    Args:
      min_level: finest level, in and out.
      max_level: coarsest level out.
      num_filters: channels of every level.
      bottom_up_path: False for a plain feature pyramid.
      coarser_levels: than the backbone's; 'subsample', every other row and
        column (the paper's N6), or 'conv', stride-2 3x3 ones as in RetinaNet.
      norm: normalization after every convolution.
      activation: of the bottom-up path; of 'conv' levels before the next one.
      kernel_regularizer: of the convolution kernels.

    Raises:
      ValueError: for an unknown coarser_levels.
    """
    super().__init__(**kwargs)
    if coarser_levels not in ('subsample', 'conv'):
      raise ValueError(f'coarser_levels {coarser_levels!r}: expected one of '
                       "('subsample', 'conv').")
    self.min_level, self.max_level = min_level, max_level
    self.num_filters, self.coarser_levels = num_filters, coarser_levels
    self.normalization = normalization.Normalization.of(norm)
    self.activation: Any = tf_keras.activations.get(activation)
    self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
    self.feature_pyramid = feature_pyramid.FeaturePyramid(
        num_filters, self.normalization, self.kernel_regularizer,
        name='feature_pyramid')
    self.bottom_up_path = path.BottomUpPath(
        num_filters, self.normalization, activation, self.kernel_regularizer,
        name='bottom_up_path') if bottom_up_path else None

  def build(self, input_shape: Mapping[str, tf.TensorShape]):
    """Creates coarser_6 and so on, for 'conv'."""
    backbone_max = max(int(level) for level in input_shape)
    if str(self.min_level) not in input_shape:
      raise ValueError(f'min_level {self.min_level} is not among the levels '
                       f'{sorted(input_shape)} of the backbone.')
    self.coarser = {}
    if self.coarser_levels == 'conv':
      self.coarser = {
          str(level): normalization.ConvNorm(
              self.num_filters, 3, 2, self.normalization, None,
              kernel_initializer=normalization.xavier_fan_in(),
              kernel_regularizer=self.kernel_regularizer,
              name=f'coarser_{level}')
          for level in range(backbone_max + 1, self.max_level + 1)}
    super().build(input_shape)

  def call(self, c: Mapping[str, tf.Tensor], training=None
          ) -> Mapping[str, tf.Tensor]:
    """Decodes.

    Args:
      c: backbone maps by level: [batch, height / 2^level, width / 2^level,
        channels]. Levels outside min_level..max_level are not used.

    Returns:
      n: min_level..max_level, as strings, each with num_filters channels.
    """
    levels = [level for level in sorted(c, key=int)
              if self.min_level <= int(level) <= self.max_level]
    n = self.feature_pyramid({k: c[k] for k in levels}, training=training)
    if self.bottom_up_path is not None:
      n = self.bottom_up_path(n, training=training)
    n = {level: n[level] for level in levels}
    for level in range(int(levels[-1]) + 1, self.max_level + 1):
      n[str(level)] = self._coarser(n[str(level - 1)], str(level), training)
    return n

  def _coarser(self, finer: tf.Tensor, level: str, training) -> tf.Tensor:
    if self.coarser_levels == 'subsample':
      return path.subsample(finer)
    if str(int(level) - 1) in self.coarser:
      finer = self.activation(finer)
    return self.coarser[level](finer, training=training)

  @property
  def output_specs(self) -> Mapping[str, tf.TensorShape]:
    """Shapes of the output by level."""
    return {str(level): tf.TensorShape([None, None, None, self.num_filters])
            for level in range(self.min_level, self.max_level + 1)}


@dataclasses.dataclass
class PANet(hyperparams.Config):
  """`decoder: {type: panet, panet: ...}` of a Model Garden model."""
  num_filters: int = 256
  bottom_up_path: bool = True
  coarser_levels: str = 'conv'  # As Model Garden's FPN; the paper: subsample.


decoder_configs.add('panet', PANet)


@factory.register_decoder_builder('panet')
def build_panet_decoder(input_specs, model_config, l2_regularizer=None
                       ) -> PANetDecoder:
  """Builds the decoder for Model Garden, from its model config."""
  del input_specs  # The layers read the shapes they are called with.
  config = model_config.decoder.get()
  norm = model_config.norm_activation
  return PANetDecoder(
      model_config.min_level, model_config.max_level, config.num_filters,
      config.bottom_up_path, config.coarser_levels,
      normalization.Normalization(
          'sync_batch' if norm.use_sync_bn else 'batch', norm.norm_momentum,
          norm.norm_epsilon),
      norm.activation, l2_regularizer)
