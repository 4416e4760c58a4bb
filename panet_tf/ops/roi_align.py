"""ROIAlign, on one feature level and on all of them.

ROIAlign (section 3.2; Mask R-CNN, section 3) cuts a box into bins and averages
`sampling_ratio` x `sampling_ratio` bilinear samples per bin. It is linear in
the features, so one set of taps (a cell and a weight for every reading, see
`_taps`) defines it. Three formulations of it, each for what it does best:

* forward, 'xla': one gather per tap, accumulated by XLA in one fused loop;
* forward, 'kernels' and 'saved': TF's crop kernel;
* backward: the taps as a sparse matrix, transposed, times the gradient.

TPUs and TFLite know neither crop kernel nor sparse matrix: there, it is the sum
over taps, or on small maps two products of matrices, and TF's own gradient of
it ('builtin').

TF's own gradient of the crop kernel is not used: on CPU its threads add to the
same cells without a lock, so gradients of overlapping boxes get lost at random.
"""

from typing import Any

import tensorflow as tf

from panet_tf.ops import formulations

# Cells of replicated border around the map for the crop kernel. ROIAlign reads
# up to one cell outside; the second one keeps the kernel's own cut-off, which
# rounding moves, away from those samples.
_BORDER = 2
# Cells up to which matrix products beat gathers: in TFLite 9 times at 32 x 32
# and below, as much at 64 x 64 with 7 bins, where they also take more memory.
_SMALL_MAP = 2048


def _regions(boxes, stride, aligned):
  """Returns start and size [batch, num_boxes, 2] (yx) in feature cells."""
  boxes = tf.cast(boxes, tf.float32) / float(stride)
  start, end = boxes[..., :2], boxes[..., 2:]
  if aligned:
    return start - 0.5, end - start
  return start, tf.maximum(end - start, 1.0)


def _samples(start, size, length, output_size, sampling_ratio
            ) -> tuple[Any, Any]:
  """Returns the samples of one axis [batch, num_boxes, samples]: where, valid.

  A sample more than one cell outside of the map counts as zero.
  """
  steps = tf.range(output_size * sampling_ratio, dtype=tf.float32) + 0.5
  positions = start[..., tf.newaxis] + steps / sampling_ratio * (
      size[..., tf.newaxis] / output_size)
  valid = (positions >= -1.0) & (positions <= tf.cast(length, tf.float32))
  return positions, valid


def _taps(start, size, length, output_size, sampling_ratio) -> tuple[Any, Any]:
  """Returns cells and weights of one axis [batch, num_boxes, bins, taps]."""
  positions, valid = _samples(start, size, length, output_size, sampling_ratio)
  last = length - 1
  positions = tf.clip_by_value(positions, 0.0, tf.cast(last, tf.float32))
  # Clipped again as an integer: the cast of a NaN is any number.
  low = tf.clip_by_value(tf.cast(positions, tf.int32), 0, last)
  cells = tf.stack([low, tf.minimum(low + 1, last)], axis=-1)
  fraction = positions - tf.cast(low, tf.float32)
  weights = tf.stack([1.0 - fraction, fraction], axis=-1) * (
      tf.cast(valid, tf.float32)[..., tf.newaxis] / sampling_ratio)
  shape = tf.concat(
      [tf.shape(start), [output_size, 2 * sampling_ratio]], axis=0)
  return tf.reshape(cells, shape), tf.reshape(weights, shape)


def _map_taps(shape, start, size, output_size, sampling_ratio):
  """Returns (rows, row weights), (columns, column weights).

  A row is numbered through the whole batch, ready for a map flattened to
  [batch * height, width].
  """
  rows, row_weights = _taps(
      start[..., 0], size[..., 0], shape[1], output_size, sampling_ratio)
  rows += tf.reshape(tf.range(shape[0]) * shape[1], [-1, 1, 1, 1])
  return (rows, row_weights), _taps(
      start[..., 1], size[..., 1], shape[2], output_size, sampling_ratio)


def _pool_by_gathers(features, start, size, output_size, sampling_ratio):
  """Forward as a sum over taps. Slow unless XLA fuses it."""
  shape = tf.shape(features)
  (rows, row_weights), (columns, column_weights) = _map_taps(
      shape, start, size, output_size, sampling_ratio)
  cells = tf.reshape(features, [-1, shape[3]])
  pooled = 0.0
  for i in range(2 * sampling_ratio):
    for j in range(2 * sampling_ratio):
      index = (rows[..., i, tf.newaxis] * shape[2] +
               columns[..., tf.newaxis, :, j])
      weight = (row_weights[..., i, tf.newaxis] *
                column_weights[..., tf.newaxis, :, j])
      tap = tf.cast(tf.gather(cells, index), tf.float32)
      pooled += tap * weight[..., tf.newaxis]
  return pooled


def _pool_by_products(features, start, size, output_size, sampling_ratio):
  """Forward as weights of rows x map x weights of columns; static shapes."""
  batch, height, width, channels = features.shape
  num_boxes = start.shape[1]

  def weights(axis, length):
    positions, valid = _samples(
        start[..., axis], size[..., axis], length, output_size, sampling_ratio)
    positions = tf.clip_by_value(positions, 0.0, length - 1.0)
    distance = positions[..., tf.newaxis] - tf.range(length, dtype=tf.float32)  # pyright: ignore[reportArgumentType] - TensorFlow's stub of Tensor does not know `...`
    each = tf.nn.relu(1.0 - tf.abs(distance)) * tf.cast(
        valid, tf.float32)[..., tf.newaxis]
    return tf.reduce_mean(tf.reshape(each, [
        batch, num_boxes, output_size, sampling_ratio, length]), 3)

  cells = tf.reshape(
      tf.cast(features, tf.float32), [batch, height, width * channels])
  rows = tf.matmul(tf.reshape(
      weights(0, height), [batch, num_boxes * output_size, height]), cells)
  return tf.matmul(weights(1, width)[:, :, tf.newaxis], tf.reshape(
      rows, [batch, num_boxes, output_size, width, channels]))


def _pool_by_builtin_ops(features, start, size, output_size, sampling_ratio):
  """Forward with what every runtime has."""
  static = all(tf.TensorShape(x.shape).is_fully_defined()
               for x in (features, start))
  small = static and features.shape[1] * features.shape[2] <= _SMALL_MAP
  pool = _pool_by_products if small else _pool_by_gathers
  return pool(features, start, size, output_size, sampling_ratio)


# Reduced retracing: every level has its own shape, and TF would warn of that.
_pool_by_fused_gathers = tf.function(
    _pool_by_gathers, jit_compile=True, reduce_retracing=True)


def _pool_by_crops(features, start, size, output_size, sampling_ratio):
  """Forward with TF's crop kernel: one crop pixel per sample, then averaged."""
  shape = tf.shape(features)
  height, width, channels = shape[1], shape[2], features.shape[-1]
  # The kernel fills beyond the map where ROIAlign repeats the border.
  rows = tf.clip_by_value(tf.range(-_BORDER, height + _BORDER), 0, height - 1)
  columns = tf.clip_by_value(tf.range(-_BORDER, width + _BORDER), 0, width - 1)
  rows += height * tf.range(shape[0])[:, tf.newaxis]
  index = rows[..., tf.newaxis] * width + columns
  cells = tf.cast(tf.reshape(features, [-1, channels]), tf.float32)
  padded = tf.gather(cells, index)  # The kernel does not take bfloat16.

  y, y_valid = _samples(
      start[..., 0], size[..., 0], height, output_size, sampling_ratio)
  x, x_valid = _samples(
      start[..., 1], size[..., 1], width, output_size, sampling_ratio)
  # The kernel wants the first and the last sample, 1.0 being the last cell.
  corners = tf.stack([y[..., 0], x[..., 0], y[..., -1], x[..., -1]], axis=-1)
  extent = tf.cast(tf.stack([height, width, height, width]), tf.float32)
  corners = (corners + _BORDER) / (extent + (2 * _BORDER - 1))
  num_boxes = tf.shape(start)[1]
  samples = output_size * sampling_ratio
  crops = tf.image.crop_and_resize(
      padded, tf.reshape(corners, [-1, 4]),
      tf.repeat(tf.range(shape[0]), num_boxes), [samples, samples])

  valid = tf.reshape(y_valid[..., tf.newaxis] & x_valid[..., tf.newaxis, :],
                     [-1, samples, samples, 1])
  # Boxes clipped to the image have no invalid sample: save the pass over crops.
  crops = tf.cond(tf.reduce_all(valid), lambda: crops,
                  lambda: crops * tf.cast(valid, tf.float32))
  pooled = tf.nn.avg_pool2d(crops, sampling_ratio, sampling_ratio, 'VALID')
  return tf.reshape(
      pooled, [shape[0], num_boxes, output_size, output_size, channels])


def _pool_gradient(gradient, shape, start, size, output_size, sampling_ratio):
  """The adjoint of both forwards: [batch, height, width, channels]."""
  (rows, row_weights), (columns, column_weights) = _map_taps(
      shape, start, size, output_size, sampling_ratio)
  # Entry (bin, cell) of the matrix. Both indices are a sum of a y and an x
  # part, and so one broadcast addition makes them all; long inner dimensions
  # (all taps of a bin) make it fast.
  taps = 2 * sampling_ratio
  boxes = tf.reshape(tf.range(tf.size(rows) // (output_size * taps)),
                     [shape[0], -1, 1, 1])
  bins = tf.range(output_size)[:, tf.newaxis]
  y_bins = tf.zeros_like(rows) + (boxes * output_size + bins) * output_size
  y = tf.stack([y_bins, rows * shape[2]], axis=-1)
  x = tf.stack([tf.zeros_like(columns) + bins, columns], axis=-1)
  y = tf.cast(tf.repeat(y, taps, axis=3), tf.int64)
  x = tf.cast(tf.tile(x, [1, 1, 1, taps, 1]), tf.int64)
  indices = (tf.reshape(y, [-1, output_size, 1, 2 * taps**2]) +
             tf.reshape(x, [-1, 1, output_size, 2 * taps**2]))
  y = tf.repeat(row_weights, taps, axis=3)
  x = tf.tile(column_weights, [1, 1, 1, taps])
  weights = (tf.reshape(y, [-1, output_size, 1, taps**2]) *
             tf.reshape(x, [-1, 1, output_size, taps**2]))
  gradient = tf.reshape(tf.cast(gradient, tf.float32), [-1, shape[3]])
  matrix = tf.raw_ops.SparseTensorToCSRSparseMatrix(
      indices=tf.reshape(indices, [-1, 2]), values=tf.reshape(weights, [-1]),
      dense_shape=tf.cast(
          [tf.shape(gradient)[0], tf.reduce_prod(shape[:3])], tf.int64))
  # Transposed first: a product with `transpose_a` is three times slower, and
  # its threads share the output.
  matrix = tf.raw_ops.SparseMatrixTranspose(input=matrix, type=tf.float32)
  return tf.reshape(tf.raw_ops.SparseMatrixMatMul(a=matrix, b=gradient), shape)


def roi_align(features, boxes, output_size, *, stride, sampling_ratio=2,
              aligned=True, formulation=formulations.KERNELS):
  """Pools every box of every image from one feature map.

  No gradient flows to the boxes. Positions and sums are float32 whatever the
  dtype of the features.

  Args:
    features: [batch, height, width, channels], a floating dtype.
    boxes: [batch, num_boxes, 4], yxyx, network-input pixels.
    output_size: Bins per side.
    stride: Network-input pixels per feature cell.
    sampling_ratio: Samples per bin and side.
    aligned: True shifts by half a pixel, as pixel centres demand. False is the
      legacy Detectron convention: no shift, boxes at least one cell wide.
    formulation: One of `formulations.NAMES`. The backward pass of 'xla' and
      'kernels' is the same, never XLA: do not put it under an outer
      `jit_compile`. 'builtin', gathers, sums and products only, is the slowest
      in TensorFlow.

  Returns:
    [batch, num_boxes, output_size, output_size, channels], dtype of features.
  """
  if int(sampling_ratio) != sampling_ratio or sampling_ratio < 1:
    raise ValueError(
        f'sampling_ratio must be a positive integer, got {sampling_ratio}.')
  sizes = int(output_size), int(sampling_ratio)
  start, size = _regions(tf.stop_gradient(boxes), stride, aligned)
  builtin = formulations.check(formulation) == formulations.BUILTIN
  if builtin or isinstance(
      tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
    summed = _pool_by_builtin_ops if builtin else _pool_by_gathers
    return tf.cast(summed(features, start, size, *sizes), features.dtype)
  forward = (_pool_by_fused_gathers if formulation == formulations.XLA
             else _pool_by_crops)

  def pool(features):
    pooled = forward(features, start, size, *sizes)
    return tf.cast(pooled, features.dtype)

  @tf.custom_gradient
  def pool_with_gradient(features):
    shape = tf.shape(features)

    def gradient(upstream):
      result = _pool_gradient(upstream, shape, start, size, *sizes)
      return tf.cast(tf.ensure_shape(result, features.shape), features.dtype)

    return pool(features), gradient

  saved = formulation == formulations.SAVED
  pooled = (pool if saved else pool_with_gradient)(features)
  return tf.ensure_shape(pooled, [features.shape[0], boxes.shape[1],
                                  sizes[0], sizes[0], features.shape[-1]])


def multilevel_roi_align(features, boxes, output_size, **options):
  """`roi_align` of every level (Figure 1c), in ascending order.

  `features` are {level: [batch, height, width, channels]}, such as '2'..'5',
  whose strides are 2**level; boxes [batch, num_boxes, 4], yxyx, network-input
  pixels. One [batch, num_boxes, output_size, output_size, channels] per level;
  options are those of `roi_align`, but for the stride.
  """
  return [roi_align(features[level], boxes, output_size, stride=2**int(level),
                    **options) for level in sorted(features, key=int)]
