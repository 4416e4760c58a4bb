"""Which anchors train the RPN, and towards what (Faster R-CNN's rules).

Gives what Model Garden's RpnAnchorLabeler gives, but for the draw of anchors,
several times faster: a box is compared with the anchors of those levels only
where it may matter, an intersection is a product of an extent per row and one
per column, and offsets are computed for the few anchors that have any.
"""

import numpy as np
from official.vision.utils.object_detection import box_list
from official.vision.utils.object_detection import faster_rcnn_box_coder
import tensorflow as tf

# Bounds of an IoU are rounded otherwise than the IoU itself.
_ROUNDING = 1.001


class RPNTargets:
  """Labels the anchors of one canvas."""

  def __init__(self, anchor_boxes: dict[str, np.ndarray], match_threshold=0.7,
               unmatched_threshold=0.3, batch_size=256, fg_fraction=0.5):
    """Keeps the anchors level by level.

    Args:
      anchor_boxes: {level: [h, w, anchors * 4]} float32, yxyx, network-input
        pixels, every shape of anchor at every cell of a grid.
      match_threshold: an anchor of at least this IoU with an object is
        foreground, and so is each object's best anchor.
      unmatched_threshold: one of a lower IoU with all of them is background.
      batch_size: anchors that train, of one image.
      fg_fraction: share of foreground that is not exceeded.
    """
    self._levels = {
        level: _Level(np.asarray(boxes)) for level, boxes in
        anchor_boxes.items()}
    self._anchors = np.concatenate(
        [np.reshape(boxes, [-1, 4]) for boxes in anchor_boxes.values()])
    self._thresholds = match_threshold, unmatched_threshold
    self._batch_size = batch_size
    self._most_foreground = int(fg_fraction * batch_size)

  def __call__(self, boxes: tf.Tensor, seed: tf.Tensor) -> tuple[
      dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Draws and labels anchors.

    Args:
      boxes: [N, 4] float32, yxyx, network-input pixels, none empty; N may be 0.
      seed: [2] int.

    Returns:
      {level: [h, w, anchors]} int32, 1 foreground, 0 background, -1 neither;
      {level: [h, w, anchors * 4]} float32, offsets ty, tx, th, tw of foreground
      anchors, drawn or not, 0 elsewhere.
    """
    match_threshold, unmatched_threshold = self._thresholds
    best, favourites = self._match(boxes)
    # An object's favourite is foreground, whatever its IoU.
    best = tf.tensor_scatter_nd_update(
        best, favourites[:, tf.newaxis], tf.fill(tf.shape(favourites), 2.0))
    foreground = tf.where(best >= match_threshold)[:, 0]
    background = tf.where(best < unmatched_threshold)[:, 0]

    seeds = tf.random.split(seed, 2)
    positive = _draw(foreground, self._most_foreground, seeds[0])
    negative = _draw(background, self._batch_size - tf.size(positive), seeds[1])
    num_anchors = len(self._anchors)
    scores = tf.tensor_scatter_nd_update(
        tf.fill([num_anchors], -1),
        tf.concat([positive, negative], 0)[:, tf.newaxis],
        tf.concat([tf.ones_like(positive, tf.int32),
                   tf.zeros_like(negative, tf.int32)], 0))
    offsets = tf.scatter_nd(
        foreground[:, tf.newaxis], self._offsets(boxes, foreground, favourites),
        tf.constant([num_anchors, 4], tf.int64))
    return self._by_level(scores, 1), self._by_level(offsets, 4)

  def _match(self, boxes):
    """Best IoU of each anchor [A], and each object's favourite anchor [N].

    IoUs below `unmatched_threshold` may be given as 0.
    """
    bounds = tf.stack(
        [level.bounds(boxes) for level in self._levels.values()], 1)
    most = tf.reduce_max(bounds, 1, keepdims=True)
    compared = bounds >= tf.minimum(self._thresholds[1], 0.5 * most)
    best, values, favourites = self._compare(boxes, compared)
    # A level that was left out has no say, unless its bound is as good as what
    # an object has found elsewhere.
    sufficient = tf.reduce_all(compared | (bounds < values[:, tf.newaxis]))
    best, _, favourites = tf.cond(
        sufficient, lambda: (best, values, favourites),
        lambda: self._compare(boxes, tf.ones_like(compared)))
    return best, favourites

  def _compare(self, boxes, compared):
    """Best IoU of each anchor, of each object, and where the latter is.

    What boxes [N, 4] are compared with says `compared` [N, levels] bool.
    """
    best, start = [], 0
    values = tf.zeros([tf.shape(boxes)[0]])
    favourites = tf.zeros([tf.shape(boxes)[0]], tf.int64)
    for i, level in enumerate(self._levels.values()):
      own = tf.where(compared[:, i])
      level_best, value, favourite = level.compare(tf.gather_nd(boxes, own))
      best.append(level_best)
      # The first of equal anchors is the favourite.
      value = tf.tensor_scatter_nd_update(tf.fill(tf.shape(values), -1.0), own,
                                          value)
      favourite = tf.scatter_nd(
          own, start + favourite, tf.shape(favourites, tf.int64))
      better = value > values
      favourites = tf.where(better, favourite, favourites)
      values = tf.where(better, value, values)
      start += level.size
    return tf.concat(best, 0), values, favourites

  def _offsets(self, boxes, foreground, favourites):
    """Encoded boxes of foreground anchors: of the object that wants it as its
    favourite, or else of the one that it overlaps most."""
    anchors = tf.gather(self._anchors, foreground)
    heights, widths = (
        _overlap(anchors[:, i, tf.newaxis], anchors[:, i + 2, tf.newaxis],
                 boxes[:, i], boxes[:, i + 2]) for i in (0, 1))
    iou = _iou(heights * widths, _area(anchors)[:, tf.newaxis], _area(boxes))
    # Of several objects with one favourite the first has it.
    claims = tf.where(foreground[:, tf.newaxis] == favourites, 2.0, iou)
    # No object at all: argmax must not see an empty axis.
    owner = tf.argmax(tf.pad(claims, [[0, 0], [0, 1]], constant_values=-1.0), 1)
    encode = faster_rcnn_box_coder.FasterRcnnBoxCoder().encode
    return encode(box_list.BoxList(tf.gather(boxes, owner)),
                  box_list.BoxList(anchors))

  def _by_level(self, values, depth):
    """Cuts [A, ...] into {level: [h, w, anchors * depth]}."""
    sizes = [level.size for level in self._levels.values()]
    return {
        name: tf.reshape(part, [*level.grid, -1]) for (name, level), part in
        zip(self._levels.items(), tf.split(tf.reshape(values, [-1, depth]),
                                           sizes), strict=True)}


class _Level:
  """Anchors of one level, kept as extents of rows and of columns."""

  def __init__(self, boxes):
    """boxes: [h, w, anchors * 4]."""
    boxes = boxes.reshape([*boxes.shape[:2], -1, 4]).astype(np.float32)
    self.grid, self.num_shapes = boxes.shape[:2], boxes.shape[2]
    self.size = boxes[..., 0].size
    # [shapes, h, 1] and [shapes, 1, w]: the long axes last, for speed.
    self._top, self._bottom = (
        boxes[:, :1, :, i].transpose([2, 0, 1]) for i in (0, 2))
    self._left, self._right = (
        boxes[:1, :, :, i].transpose([2, 0, 1]) for i in (1, 3))
    self._area = (self._bottom - self._top) * (self._right - self._left)

  def bounds(self, boxes):
    """[N] of [N, 4]: no anchor here has a higher IoU with an object."""
    intersections, areas = 1.0, _area(boxes)[:, tf.newaxis]
    for i, extent in ((0, self._bottom - self._top),
                      (1, self._right - self._left)):
      intersections *= tf.minimum(
          boxes[:, i + 2, tf.newaxis] - boxes[:, i, tf.newaxis],
          extent.max((1, 2)))
    unions = tf.maximum(areas + self._area.min((1, 2)) - intersections,
                        tf.maximum(areas, self._area.min((1, 2))))
    return tf.reduce_max(intersections / unions, 1) * _ROUNDING

  def compare(self, boxes):
    """Best IoU of each anchor [h * w * shapes], of each box, and its place."""
    top, left, bottom, right = tf.unstack(
        boxes[:, :, tf.newaxis, tf.newaxis, tf.newaxis], axis=1)
    iou = _iou(_overlap(top, bottom, self._top, self._bottom) *
               _overlap(left, right, self._left, self._right), self._area,
               _area(boxes)[:, tf.newaxis, tf.newaxis, tf.newaxis])
    best = tf.maximum(tf.reduce_max(iou, 0), 0.0)  # -inf without boxes
    best = tf.reshape(tf.transpose(best, [1, 2, 0]), [-1])
    # The first of the best ones as anchors are numbered: shapes run fastest.
    flat = tf.reshape(iou, [-1, self.num_shapes, self.size // self.num_shapes])
    cells = tf.argmax(flat, 2)
    values = tf.reduce_max(flat, 2)
    value = tf.reduce_max(values, 1)
    places = cells * self.num_shapes + np.arange(self.num_shapes)
    place = tf.reduce_min(tf.where(
        values == value[:, tf.newaxis], places, places.dtype.max), 1)
    return best, value, place


def _overlap(start, stop, other_start, other_stop):
  return tf.maximum(
      tf.minimum(stop, other_stop) - tf.maximum(start, other_start), 0.0)


def _area(boxes):
  return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _iou(intersections, anchor_areas, areas):
  """In Model Garden's order of operations, for the same roundings."""
  return intersections / ((anchor_areas + areas) - intersections)


def _draw(indices, count, seed):
  """At most `count` of `indices` [n], all subsets as likely."""
  n = tf.size(indices)
  count = tf.minimum(n, count)
  # The kernel takes no empty vector of ranks.
  places = tf.random.experimental.index_shuffle(  # pyright: ignore[reportAttributeAccessIssue] - it is there
      tf.range(tf.maximum(count, 1)), seed, tf.maximum(n - 1, 0))
  return tf.gather(indices, places[:count])
