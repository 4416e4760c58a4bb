"""Non-maximum suppression out of TensorFlow's own kernels, for exported graphs.

Model Garden's, made for TPUs, loops over tiles of boxes: right everywhere, but
an exported graph can say what it means in one op, which its runtime knows.
"""

import tensorflow as tf

from panet_tf.ops import formulations

_LEAST_RANK = 0.5  # A threshold below 1, the rank of the last box.


def non_max_suppression(
    boxes: tf.Tensor, scores: tf.Tensor, *, max_output_size: int,
    iou_threshold: float, score_threshold: float,
    formulation: str = formulations.KERNELS) -> tuple[tf.Tensor, tf.Tensor]:
  """Greedy suppression in each of several sets of boxes.

  A box with a larger IoU than `iou_threshold` with a better one is dropped. So
  are boxes with no coordinate above 0, which Model Garden pads with.

  Kernels put boxes of one score in an order of their own, which on plain
  backgrounds decides what is kept. Here it is the order they are given in:
  what the kernel sees for scores are ranks.

  Args:
    boxes: [sets, N, 4] float32, yxyx.
    scores: [sets, N] float32, best first.
    max_output_size: M, boxes kept in each set.
    iou_threshold: 0 to 1.
    score_threshold: scores up to it are dropped.
    formulation: one of `formulations.NAMES`; 'builtin' is one
      NonMaxSuppressionV4 per set, which TFLite has, but the number of sets must
      be static.

  Returns:
    boxes [sets, M, 4] and scores [sets, M], best first; zeros where fewer are
    left.
  """
  num_boxes = boxes.shape[1] or tf.shape(boxes)[1]
  valid = (scores > score_threshold) & tf.reduce_any(boxes > 0, -1)
  # num_boxes for the first, 1 for the last, exact in float32 up to 2 ** 24.
  ranks = tf.where(valid, tf.cast(tf.range(num_boxes, 0, -1), tf.float32), 0.0)
  if formulations.check(formulation) == formulations.BUILTIN:
    ranks = tf.stack([
        _one_set(*one_set, max_output_size, iou_threshold)
        for one_set in zip(
            tf.unstack(boxes), tf.unstack(ranks), strict=True)])
  else:
    _, ranks, _, _ = tf.image.combined_non_max_suppression(
        boxes[:, :, tf.newaxis], ranks[:, :, tf.newaxis], max_output_size,
        max_output_size, iou_threshold, _LEAST_RANK, clip_boxes=False)
  kept = tf.cast(ranks > 0, tf.float32)
  index = tf.minimum(num_boxes - tf.cast(ranks, tf.int32), num_boxes - 1)
  return (tf.gather(boxes, index, batch_dims=1) * kept[..., tf.newaxis],
          tf.gather(scores, index, batch_dims=1) * kept)


def _one_set(boxes, ranks, max_output_size, iou_threshold):
  """Ranks of the boxes that are kept, then zeros."""
  # TFLite's kernel returns an empty box again and again. A box of its own
  # outside of the image stands in for it: it touches no other, either.
  empty = tf.reduce_any(boxes[:, 2:] <= boxes[:, :2], -1, keepdims=True)
  index = tf.range(boxes.shape[0], dtype=tf.float32)[:, tf.newaxis]
  aside = -2.0 * (index + 1.0) + tf.constant([0.0, 0.0, 1.0, 1.0])
  chosen, count = tf.raw_ops.NonMaxSuppressionV4(
      boxes=tf.where(empty, aside, boxes), scores=ranks,
      max_output_size=max_output_size, iou_threshold=iou_threshold,
      score_threshold=_LEAST_RANK, pad_to_max_output_size=True)
  return tf.gather(ranks, chosen) * tf.cast(
      tf.range(max_output_size) < count, tf.float32)
