"""The mask branch with fully-connected fusion (section 3.3, Figure 4).

"The main path is a small FCN, which consists of 4 consecutive convolutional
layers and 1 deconvolutional layer [...] We further create a short path from
layer conv3 to a fc layer. There are two 3x3 convolutional layers where the
second shrinks channels to half [...] A fc layer is used to predict a
class-agnostic foreground/background mask. [...] To obtain the final mask
prediction, mask of each class from FCN and foreground/background prediction
from fc are added."
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from panet_tf.modeling import adaptive_feature_pooling
from panet_tf.modeling.layers import configured
from panet_tf.modeling.layers import normalization

_MASK_SIZE = 28  # Twice that of the pooled grid.
MASK_FUSIONS = ('sum', 'max', 'product')
SOURCES = ('conv2', 'conv3', 'conv4')  # Of Table 5.


def fuse_masks(a: tf.Tensor, b: tf.Tensor, fusion: str) -> tf.Tensor:
  """Fuses logits of two mask predictions, which broadcast (Table 5).

  `fusion` is the 'sum' of the logits, the 'max' of the probabilities (or
  logits, which is the same), or the 'product' of the probabilities; what comes
  out are logits.
  """
  if fusion == 'sum':
    return a + b
  if fusion == 'max':
    return tf.maximum(a, b)
  # s(a) s(b) / (1 - s(a) s(b)) = 1 / (e^-a + e^-b + e^-(a+b)).
  a, b = a + tf.zeros_like(b), b + tf.zeros_like(a)
  return -tf.reduce_logsumexp(tf.stack([-a, -b, -a - b]), axis=0)


@tf_keras.utils.register_keras_serializable(package='PANet')
class FullyConnectedFusion(configured.Configured):
  """The mask head. Without its fc branch it is Mask R-CNN's."""

  def __init__(self, num_classes: int, num_convs: int = 4,
               num_filters: int = 256, num_levels: int = 4,
               fusion: str = 'max', fuse_after: str = 'first_layer',
               fc_branch: bool = True, source: str = 'conv3',
               mask_fusion: str = 'sum',
               norm: normalization.Normalization | None = None,
               norm_after_upconv: bool = True, fc_relu: bool = False,
               kernel_regularizer=None, **kwargs):
    """Initializes the head.

    Args:
      num_classes: classes with the background, which is class 0.
      num_convs: convolutions of the FCN branch.
      num_filters: their channels.
      num_levels: length of the list of pooled tensors; 1 for one level a box.
      fusion: 'max' or 'sum' over levels.
      fuse_after: 'first_layer' (between conv1 and conv2) or 'pooling'.
      fc_branch: whether the fc branch exists.
      source: 'conv3', 'conv2' or 'conv4': where the fc branch forks off.
      mask_fusion: 'sum', 'max' or 'product' of the branches, see `fuse_masks`.
      norm: normalization after every layer but the outputs.
      norm_after_upconv: whether also after the deconvolution; False in the
        release.
      fc_relu: whether a ReLU follows the fc layer. True in the release, where
        the branch can then only raise logits; the paper names none.
      kernel_regularizer: of all kernels.

    Raises:
      ValueError: for an unknown option, or groups that do not divide the
        (halved) channels.
    """
    super().__init__(**kwargs)
    if mask_fusion not in MASK_FUSIONS:
      raise ValueError(
          f'mask_fusion {mask_fusion!r}: expected one of {MASK_FUSIONS}.')
    self.num_classes, self.num_convs = num_classes, num_convs
    self.num_filters, self.num_levels = num_filters, num_levels
    self.fuse_after, self.fc_branch = fuse_after, fc_branch
    self.source, self.mask_fusion = source, mask_fusion
    self.norm_after_upconv, self.fc_relu = norm_after_upconv, fc_relu
    self.normalization = normalization.Normalization.of(norm)
    self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
    self.level_fusion = adaptive_feature_pooling.LevelFusion(
        fusion, name='level_fusion')
    self._create_fcn_branch()
    if fc_branch:
      self._create_fc_branch()

  def _create_fcn_branch(self):
    self.conv1 = adaptive_feature_pooling.first_layers(
        self._conv, 'conv1', self.num_levels, self.fuse_after)
    self.convs = {f'conv{i}': self._conv(f'conv{i}')
                  for i in range(2, self.num_convs + 1)}
    norm = (self.normalization if self.norm_after_upconv
            else normalization.NO_NORMALIZATION)
    self.upconv = tf_keras.layers.Conv2DTranspose(
        self.num_filters, 2, 2, use_bias=norm.conv_bias,
        kernel_initializer=normalization.he_fan_out(),
        kernel_regularizer=self.kernel_regularizer, name='upconv')
    self.upconv_norm = norm.layer('upconv_norm')
    self.classifier: Any = tf_keras.layers.Conv2D(
        self.num_classes, 1, kernel_initializer=normalization.he_fan_out(),
        kernel_regularizer=self.kernel_regularizer, name='classifier')

  def build(self, input_shape):
    """Builds the classifier, which `call` never calls as a layer."""
    with tf.name_scope(self.classifier.name):
      self.classifier.build([None, None, None, self.num_filters])
    super().build(input_shape)

  def _create_fc_branch(self):
    if self.source not in ('conv1', *self.convs):
      raise ValueError(f'source {self.source!r} is not one of the '
                       f"{self.num_convs} convolutions ('conv1', ...).")
    self.conv4_fc = self._conv('conv4_fc')
    self.conv5_fc = self._conv('conv5_fc', self.num_filters // 2)
    self.mask_fc = tf_keras.layers.Dense(
        _MASK_SIZE**2, kernel_initializer=normalization.gaussian(0.01),
        kernel_regularizer=self.kernel_regularizer, name='mask_fc')

  def _conv(self, name: str, filters: int | None = None):
    return normalization.ConvNorm(
        filters or self.num_filters, norm=self.normalization,
        kernel_regularizer=self.kernel_regularizer, name=name)

  def fuse(self, pooled: Sequence[tf.Tensor], training=None) -> tf.Tensor:
    """conv1 and the level fusion: [batch * num_boxes, 14, 14, filters]."""
    return adaptive_feature_pooling.fuse_levels(
        adaptive_feature_pooling.fold(pooled), self.conv1, self.level_fusion,
        training)

  def trunk(self, pooled, training=None) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Features before the classifier, and fc logits [m, 28, 28] or None."""
    x = {'conv1': self.fuse(pooled, training)}
    last = x['conv1']
    for name, conv in self.convs.items():
      last = x[name] = conv(last, training=training)
    up = tf.nn.relu(self.upconv_norm(self.upconv(last), training=training))
    if not self.fc_branch:
      return up, None
    return up, self._fc_mask(x[self.source], training)

  def _fc_mask(self, x: tf.Tensor, training) -> tf.Tensor:
    x = self.conv4_fc(x, training=training)
    x = self.conv5_fc(x, training=training)
    # The flattened order is (y, x, channel); the release has (channel, y, x).
    x = self.mask_fc(tf.reshape(x, [-1, x.shape[1:].num_elements()]))
    if self.fc_relu:
      x = tf.nn.relu(x)
    return tf.reshape(x, [-1, _MASK_SIZE, _MASK_SIZE])

  def call(self, inputs, training=None) -> tf.Tensor:
    """Mask logits [batch, num_boxes, 28, 28] of one class for each box.

    The inputs are [pooled, classes]: num_levels tensors [batch, num_boxes, 14,
    14, channels]; [batch, num_boxes] of any integer or float dtype.
    """
    pooled, classes = inputs
    up, fc = self.trunk(pooled, training)
    logits = self._logits_of(up, tf.reshape(tf.cast(classes, tf.int32), [-1]))
    if fc is not None:
      logits = fuse_masks(logits, fc, self.mask_fusion)
    return tf.reshape(logits, tf.concat(
        [tf.shape(pooled[0])[:2], [_MASK_SIZE, _MASK_SIZE]], 0))

  def _logits_of(self, x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """The classifier's output for one class of each box, [m, 28, 28].

    Selecting its weights first does not compute the other classes. Measured on
    CPU, 128 boxes, forward and backward: 21 ms for 100 ms with 81 classes, 21
    for 36 with 2.
    """
    # A product with one-hot rows: a gather of weights has a sparse gradient.
    # The rows are gathered, for TensorRT does not know tf.one_hot.
    one_hot = tf.constant(np.eye(self.num_classes), x.dtype)
    chosen = tf.gather(
        one_hot, tf.clip_by_value(classes, 0, self.num_classes - 1))
    kernel = tf.cast(self.classifier.kernel[0, 0], x.dtype)
    kernel = tf.matmul(chosen, kernel, transpose_b=True)
    bias = tf.linalg.matvec(chosen, tf.cast(self.classifier.bias, x.dtype))
    return tf.einsum('mhwc,mc->mhw', x, kernel) + bias[:, None, None]
