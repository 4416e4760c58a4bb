"""ROIAlign as ONNX's own op, through a converter that knows no such op.

TensorFlow has no ROIAlign; `ops.roi_align` makes it of crops, with which the
demo's model takes 1.4 times as long as with ONNX's own. So the pooling layers
of the graph that is converted hold one op in place of ROIAlign, and the
converter's handler of that op writes RoiAlign.
"""

import functools

import tensorflow as tf

from panet_tf.modeling import panet_model


def with_placeholders(
    model: panet_model.PANetModel) -> panet_model.PANetModel:
  """The same layers and weights around pooling that only `HANDLERS` know."""
  parts = dict(model.get_config())
  for name in ('roi_aligner', 'mask_roi_aligner'):
    if parts[name] is not None:
      parts[name] = type(parts[name])(**parts[name].get_config())
      parts[name]._pool = functools.partial(_placeholders, parts[name])
  return panet_model.PANetModel(**parts)


def placeholder(features: tf.Tensor, boxes: tf.Tensor, output_size: int,
                stride: int, sampling_ratio: int, aligned: bool) -> tf.Tensor:
  """What stands for `roi_align.roi_align`; arguments and result as there.

  It is a CropAndResize whose inputs are those of RoiAlign, with the sampling
  ratio as its extrapolation value. TensorFlow cannot run it to any purpose.
  """
  boxes = tf.cast(boxes, tf.float32) / stride
  if not aligned:
    # The handler shifts by half a cell: not here. A box is at least one cell.
    # ONNX leaves it to runtimes whether its mode without shift does that.
    start, end = tf.split(boxes, 2, -1)
    boxes = tf.concat([start, tf.maximum(end, start + 1.0)], -1) + 0.5
  batch, num_boxes = tf.shape(boxes)[0], tf.shape(boxes)[1]
  pooled = tf.image.crop_and_resize(
      features, tf.reshape(tf.gather(boxes, [1, 0, 3, 2], axis=-1), [-1, 4]),
      tf.repeat(tf.range(batch), num_boxes), [output_size] * 2,
      extrapolation_value=sampling_ratio)
  pooled = tf.reshape(
      pooled, [batch, num_boxes, output_size, output_size, features.shape[-1]])
  return tf.ensure_shape(pooled, [None, boxes.shape[1], None, None, None])


def _placeholders(layer, features, boxes):
  """What a pooling layer pools of each level, by `placeholder`."""
  boxes = layer.boxes.pooled(boxes)
  return [placeholder(features[level], boxes, layer.crop_size, 2**int(level),
                      layer.sampling_ratio, layer.aligned)
          for level in sorted(features, key=int)]


def _roi_align(graph, node, unused_name, unused_args):
  """tf2onnx's handler of CropAndResize: `placeholder` to RoiAlign.

  Mode half_pixel shifts by half a cell, as pixel centres demand, and takes
  boxes of any size. output_half_pixel, which does not shift, also widens boxes
  to one cell in the runtimes.
  """
  import onnx
  image, boxes, image_index, _ = node.input
  height, width = (int(x) for x in node.inputs[3].get_tensor_value())
  ratio = node.get_attr_value('extrapolation_value')
  if ratio < 1 or ratio != int(ratio):
    raise ValueError(f'{node.name} is no placeholder of ROIAlign')
  shapes = [graph.get_shape(node.output[0])]
  dtypes = [graph.get_dtype(node.output[0])]
  graph.remove_node(node.name)
  channels_first = graph.make_node(
      'Transpose', [image], attr={'perm': [0, 3, 1, 2]})
  index = graph.make_node(
      'Cast', [image_index], attr={'to': onnx.TensorProto.INT64})
  pooled = graph.make_node(
      'RoiAlign', [channels_first.output[0], boxes, index.output[0]],
      attr={'output_height': height, 'output_width': width, 'mode': 'avg',
            'sampling_ratio': int(ratio), 'spatial_scale': 1.0,
            'coordinate_transformation_mode': 'half_pixel'})
  graph.make_node(
      'Transpose', pooled.output, attr={'perm': [0, 2, 3, 1]}, name=node.name,
      outputs=node.output, shapes=shapes, dtypes=dtypes)


HANDLERS = {'CropAndResize': (_roi_align, [])}
