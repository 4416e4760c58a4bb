"""Mask targets of the sampled foreground RoIs.

Replaces Model Garden's MaskSampler: that one copies every sampled mask, pads
it and interpolates with a gather whose gradient is never used, and it places
a sample half a mask cell off. One `crop_and_resize` does it exactly.
"""

import tensorflow as tf
import tf_keras

from panet_tf.modeling.layers import configured


def masks_in_rois(masks: tf.Tensor, mask_indices: tf.Tensor, boxes: tf.Tensor,
                  rois: tf.Tensor, size: int) -> tf.Tensor:
  """What part of each object's mask lies where in a RoI.

  Args:
    masks: [M, h, w] float32 in 0..1, each covering its object's box.
    mask_indices: [N] int32, which mask belongs to each RoI.
    boxes: [N, 4], yxyx, the boxes that those masks cover.
    rois: [N, 4], yxyx, in the same frame as `boxes`.
    size: height and width of the result.

  Returns:
    [N, size, size] float32: the mask, bilinear at the centres of the cells of
    the RoI, 0 outside of the mask's box, or less than half a mask cell inside.
  """
  mask_size = tf.cast(tf.shape(masks)[1:3], tf.float32)
  origin = boxes[:, :2]
  extent = tf.maximum(boxes[:, 2:] - origin, 1e-3)
  half_cell = (rois[:, 2:] - rois[:, :2]) / (2 * size)

  def mask_coordinates(points):
    # Cell centres are at whole coordinates, so the box's edge is at -0.5.
    return ((points - origin) / extent * mask_size - 0.5) / (mask_size - 1)

  crops = tf.concat([
      mask_coordinates(rois[:, :2] + half_cell),
      mask_coordinates(rois[:, 2:] - half_cell)], axis=1)
  targets = tf.image.crop_and_resize(
      tf.expand_dims(masks, -1), crops, mask_indices, [size, size])
  return tf.squeeze(targets, -1)


@tf_keras.utils.register_keras_serializable(package='PANet')
class MaskSampler(configured.Configured):
  """Takes the first foreground RoIs and their mask targets."""

  def __init__(self, mask_target_size: int, num_sampled_masks: int, **kwargs):
    """Initializes the sampler.

    Args:
      mask_target_size: height and width of a target.
      num_sampled_masks: RoIs an image gives; where it has fewer foreground
        RoIs, background ones follow, with class 0, which the loss ignores.
    """
    super().__init__(**kwargs)
    self.mask_target_size = mask_target_size
    self.num_sampled_masks = num_sampled_masks

  def call(self, rois, matched_gt_boxes, matched_gt_classes,
           matched_gt_indices, gt_masks):
    """Samples, with Model Garden's arguments.

    Args:
      rois: [B, R, 4], yxyx, network-input pixels.
      matched_gt_boxes: [B, R, 4], the object of each RoI.
      matched_gt_classes: [B, R], 0 for background.
      matched_gt_indices: [B, R], index into the M objects, -1 for none.
      gt_masks: [B, M, h, w], each covering its object's box.

    Returns:
      rois [B, K, 4], classes [B, K], targets [B, K, size, size] float32.
    """
    _, chosen = tf.math.top_k(
        tf.cast(matched_gt_classes > 0, tf.int32), k=self.num_sampled_masks)
    rois, boxes, classes, indices = (
        tf.gather(x, chosen, batch_dims=1)
        for x in (rois, matched_gt_boxes, matched_gt_classes,
                  matched_gt_indices))
    batch, num_masks = tf.shape(gt_masks)[0], tf.shape(gt_masks)[1]
    flat_indices = tf.cast(tf.maximum(indices, 0), tf.int32) + (
        tf.range(batch)[:, tf.newaxis] * num_masks)
    size = self.mask_target_size
    targets = masks_in_rois(
        tf.reshape(tf.cast(gt_masks, tf.float32),
                   tf.concat([[-1], tf.shape(gt_masks)[2:]], 0)),
        tf.reshape(flat_indices, [-1]),
        tf.reshape(tf.cast(boxes, tf.float32), [-1, 4]),
        tf.reshape(tf.cast(rois, tf.float32), [-1, 4]), size)
    return rois, classes, tf.reshape(
        targets, [-1, self.num_sampled_masks, size, size])
