"""Region proposal network head on N2..N6.

The paper takes proposals "from an independently trained RPN" (section 4.1); the
release trains it jointly, on N2..N5 and N6. The convolutions are shared over
the levels, the normalization is each level's own, as in Model Garden: the
statistics of the levels differ.
"""

from collections.abc import Mapping

import tensorflow as tf
import tf_keras

from panet_tf.modeling.layers import configured
from panet_tf.modeling.layers import normalization


@tf_keras.utils.register_keras_serializable(package='PANet')
class RPNHead(configured.Configured):
  """Scores and regresses the anchors of every level."""

  def __init__(self, min_level: int = 2, max_level: int = 6,
               num_anchors_per_location: int = 3, num_convs: int = 1,
               num_filters: int = 256,
               norm: normalization.Normalization | None = None,
               kernel_regularizer=None, **kwargs):
    """Initializes the head.

    Args:
      min_level: finest level.
      max_level: coarsest level.
      num_anchors_per_location: anchors at each cell of a level.
      num_convs: 3x3 convolutions before the outputs.
      num_filters: their channels.
      norm: normalization after each.
      kernel_regularizer: of all kernels.

    Raises:
      ValueError: where the groups of GroupNorm do not divide the filters.
    """
    super().__init__(**kwargs)
    self.min_level, self.max_level = min_level, max_level
    self.normalization = normalization.Normalization.of(norm)
    self.normalization.check(num_filters)
    self.kernel_regularizer = tf_keras.regularizers.get(kernel_regularizer)
    self.conv, self.norm = {}, {}
    for i in range(1, num_convs + 1):
      self.conv[f'{i}'] = self._conv(
          num_filters, 3, 0.01, f'conv{i}',
          use_bias=self.normalization.conv_bias)
      for level in self._levels:
        name = f'norm{i}_level_{level}'
        self.norm[f'{i}_level_{level}'] = self.normalization.layer(name)
    anchors = num_anchors_per_location
    self.scores = self._conv(anchors, 1, 1e-5, 'scores')
    self.boxes = self._conv(4 * anchors, 1, 1e-5, 'boxes')

  @property
  def _levels(self):
    return [str(i) for i in range(self.min_level, self.max_level + 1)]

  def _conv(self, filters: int, kernel_size: int, stddev: float, name: str,
            use_bias: bool = True) -> tf_keras.layers.Conv2D:
    return tf_keras.layers.Conv2D(
        filters, kernel_size, padding='same', use_bias=use_bias, name=name,
        kernel_initializer=normalization.gaussian(stddev),
        kernel_regularizer=self.kernel_regularizer)

  def call(self, n: Mapping[str, tf.Tensor], training=None
          ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """{'2'..'6'}: [batch, height, width, channels] to two of these levels.

    Returns:
      scores: [batch, height, width, anchors], before the sigmoid.
      boxes: [batch, height, width, 4 * anchors], anchor-major, dy dx dh dw.
    """
    scores, boxes = {}, {}
    for level in self._levels:
      x = n[level]
      for i, conv in self.conv.items():
        norm = self.norm[f'{i}_level_{level}']
        x = tf.nn.relu(norm(conv(x), training=training))
      scores[level], boxes[level] = self.scores(x), self.boxes(x)
    return scores, boxes
