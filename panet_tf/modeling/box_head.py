"""The box branch on adaptively pooled features (sections 3.2, 4.2, Figure 6).

"Pooled feature grids go through one parameter layer independently, which is
followed by the fusion operation, to enable network to adapt features." Two fc
layers, or the heavier head: "4 consecutive 3x3 convolutional layers shared by
box classification and box regression, instead of two fc layers".
"""

from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from panet_tf.modeling import adaptive_feature_pooling
from panet_tf.modeling.layers import configured
from panet_tf.modeling.layers import normalization

KINDS = ('4conv1fc', '2fc')


@tf_keras.utils.register_keras_serializable(package='PANet')
class AdaptiveBoxHead(configured.Configured):
  """Classifies and regresses boxes from features pooled on several levels."""

  def __init__(self, num_classes: int, kind: str = '4conv1fc',
               num_filters: int = 256, fc_dims: int = 1024,
               num_levels: int = 4, fusion: str = 'max',
               fuse_after: str = 'first_layer',
               norm: normalization.Normalization | None = None,
               norm_after_fc: bool = True, kernel_regularizer=None, **kwargs):
    """Initializes the head.

    Args:
      num_classes: classes with the background, which is class 0.
      kind: '4conv1fc', the heavier head, or '2fc'.
      num_filters: channels of the convolutions of '4conv1fc'.
      fc_dims: units of the fc layers.
      num_levels: length of the list of pooled tensors; 1 for one level a box.
      fusion: 'max' or 'sum' over levels.
      fuse_after: 'first_layer', or 'pooling' for right behind ROIAlign.
      norm: normalization after every layer but the two outputs.
      norm_after_fc: whether also after the fc layer of '4conv1fc'; False in
        the release. '2fc' always has it after both.
      kernel_regularizer: of all kernels.

    Raises:
      ValueError: for an unknown kind, fusion or fuse_after.
    """
    super().__init__(**kwargs)
    if kind not in KINDS:
      raise ValueError(f'Box head kind {kind!r}: expected one of {KINDS}.')
    self.num_classes, self.kind = num_classes, kind
    self.num_filters, self.fc_dims = num_filters, fc_dims
    self.normalization = normalization.Normalization.of(norm)
    self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
    self.level_fusion = adaptive_feature_pooling.LevelFusion(
        fusion, name='level_fusion')
    if kind == '2fc':
      self.fc1 = adaptive_feature_pooling.first_layers(
          self._fc, 'fc1', num_levels, fuse_after)
      self.fc2 = self._fc('fc2')
    else:
      self.conv1 = adaptive_feature_pooling.first_layers(
          self._conv, 'conv1', num_levels, fuse_after)
      self.conv2 = self._conv('conv2')
      self.conv3 = self._conv('conv3')
      self.conv4 = self._conv('conv4')
      self.fc = self._fc('fc', None if norm_after_fc
                         else normalization.NO_NORMALIZATION)
    self.class_logits = self._output(num_classes, 0.01, 'class_logits')
    self.box_deltas = self._output(4 * num_classes, 0.001, 'box_deltas')

  def _conv(self, name: str) -> normalization.ConvNorm:
    return normalization.ConvNorm(
        self.num_filters, norm=self.normalization,
        kernel_regularizer=self.kernel_regularizer, name=name)

  def _fc(self, name: str, norm=None) -> normalization.DenseNorm:
    return normalization.DenseNorm(
        self.fc_dims, norm=norm or self.normalization,
        kernel_regularizer=self.kernel_regularizer, name=name)

  def _output(self, units: int, stddev: float, name: str):
    return tf_keras.layers.Dense(
        units, kernel_initializer=normalization.gaussian(stddev),
        kernel_regularizer=self.kernel_regularizer, name=name)

  def fuse(self, pooled: Sequence[tf.Tensor], training=None) -> tf.Tensor:
    """The first layer and the fusion, on folded [batch * num_boxes, ...]."""
    x = adaptive_feature_pooling.fold(pooled)
    if self.kind == '2fc':
      x = [tf.reshape(level, [-1, level.shape[1:].num_elements()])
           for level in x]
    return adaptive_feature_pooling.fuse_levels(
        x, self.fc1 if self.kind == '2fc' else self.conv1, self.level_fusion,
        training)

  def features(self, pooled: Sequence[tf.Tensor], training=None) -> tf.Tensor:
    """[batch * num_boxes, fc_dims]: what both outputs read."""
    x = self.fuse(pooled, training)
    if self.kind == '2fc':
      return self.fc2(x, training=training)
    for conv in (self.conv2, self.conv3, self.conv4):
      x = conv(x, training=training)
    # The flattened order is (y, x, channel); the release has (channel, y, x).
    x = tf.reshape(x, [-1, x.shape[1:].num_elements()])
    return self.fc(x, training=training)

  def call(self, pooled: Sequence[tf.Tensor], training=None
          ) -> tuple[tf.Tensor, tf.Tensor]:
    """Classifies and regresses.

    Args:
      pooled: num_levels tensors [batch, num_boxes, 7, 7, channels].

    Returns:
      class_logits: [batch, num_boxes, num_classes], before the softmax.
      box_deltas: [batch, num_boxes, 4 * num_classes], class-major, dy dx dh dw.
    """
    x = self.features(pooled, training)
    x = tf.reshape(x, tf.concat([tf.shape(pooled[0])[:2], [self.fc_dims]], 0))
    return self.class_logits(x), self.box_deltas(x)
