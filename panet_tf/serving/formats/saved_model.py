"""A SavedModel that plain TensorFlow loads: images in, detections out.

It holds variables and functions only. Keras layers saved along would want
their Python classes back.
"""

import tempfile
from typing import Any

import tensorflow as tf

from panet_tf.configs import checks
from panet_tf.inference.exported import model_info
from panet_tf.ops import full_image_masks as full_image_masks_lib
from panet_tf.serving import export_module

INPUT_TYPES = ('image_tensor', 'image_bytes', 'tf_example')
# An export for `--input_type=tflite` has this one, too.
NETWORK_INPUT = 'tflite'
_ENCODED = {'image/encoded': tf.io.FixedLenFeature([], tf.string)}


def write(module: export_module.ExportModule, info: model_info.ModelInfo,
          folder: str, *, input_type: str = 'image_tensor',
          batch_size: int | None = None):
  """Writes the SavedModel.

  Its signatures take `inputs` and give what `ExportModule.network` gives, and
  `image_info` [B, 4, 2]:
    image_tensor: [B, H, W, 3] uint8, RGB, images of one size;
    image_bytes: [B], JPEG, PNG, GIF (first frame) or BMP files of any sizes;
    tf_example: [B], tf.train.Example with 'image/encoded';
    tflite: [B, *canvas, 3] and `image_info`, the network's own input.
  With `info.full_image_masks`, detection_masks are [B, N, H, W] bool, H and W
  those of the largest image of the batch. With `parser.pad_to` images go
  through the network one by one, each on a canvas of its own, and `tflite`
  takes one image of any size.

  Args:
    module: the model.
    info: its description; becomes an asset, with a file of labels.
    folder: to write, must not exist.
    input_type: the signature that `serving_default` is; InputError for another.
    batch_size: B; None takes any.
  """
  checks.one_of('--input_type', input_type, (*INPUT_TYPES, NETWORK_INPUT))
  functions = _Signatures(module, info.full_image_masks)
  encoded = [tf.TensorSpec([batch_size], tf.string, 'inputs')]
  specs = {
      'image_tensor': [
          tf.TensorSpec([batch_size, None, None, 3], tf.uint8, 'inputs')],
      'image_bytes': encoded, 'tf_example': encoded}
  if input_type == NETWORK_INPUT:
    specs[NETWORK_INPUT] = [
        tf.TensorSpec(spec.shape, spec.dtype, name)
        for spec, name in zip(functions.network_input(batch_size),
                              ('inputs', 'image_info'), strict=True)]
  signatures = {
      name: tf.function(
          getattr(functions, name), input_signature=spec, autograph=False
          ).get_concrete_function()
      for name, spec in specs.items()}
  signatures['serving_default'] = signatures[input_type]
  holder: Any = tf.Module(name='panet')  # Tracks any attribute.
  holder.weights = list(module.model.variables)
  with tempfile.TemporaryDirectory() as assets:
    holder.assets = [tf.saved_model.Asset(path)
                     for path in model_info.write_assets(info, assets)]
    tf.saved_model.save(
        holder, folder, signatures,
        tf.saved_model.SaveOptions(experimental_custom_gradients=False))


class _Signatures:
  """The functions of a SavedModel, named as their signatures."""

  def __init__(self, module, full_image_masks):
    self._module = module
    self._full_image_masks = full_image_masks
    # One function for all signatures: the graph is stored and traced once.
    self._outputs = tf.function(
        self._detections, input_signature=self.network_input(None),
        autograph=False)

  def network_input(self, batch_size):
    """Specifications of images and image_info."""
    canvas = self._module.parser.eval_rule()['canvas']
    if self._module.parser.pad_to:
      batch_size, canvas = 1, [None, None]
    return (tf.TensorSpec([batch_size, *canvas, 3], tf.float32),
            tf.TensorSpec([batch_size, 4, 2], tf.float32))

  def image_tensor(self, inputs):
    return self._detect(inputs, tf.identity, [None, None, 3])

  def image_bytes(self, inputs):
    return self._detect(inputs, decode_image, [])

  def tf_example(self, inputs):
    return self.image_bytes(
        tf.io.parse_example(inputs, _ENCODED)['image/encoded'])

  def tflite(self, inputs, image_info):
    return self._finished(self._outputs(inputs, image_info))

  def _detect(self, inputs, decode, shape):
    parser = self._module.parser
    place = parser.predict_image if parser.pad_to else parser.eval_image

    def on_canvas(image):
      return place(decode(tf.ensure_shape(image, shape)))

    run = self._one_by_one if parser.pad_to else self._together
    return self._finished(run(inputs, on_canvas))

  def _finished(self, outputs):
    if self._full_image_masks:
      outputs = dict(outputs, detection_masks=_full_image(outputs))
    return outputs

  def _together(self, inputs, on_canvas):
    """Images one by one to the canvas, all of them through the network."""
    images_spec, info_spec = self.network_input(None)
    with tf.device('cpu:0'):
      images, image_info = tf.map_fn(on_canvas, inputs, fn_output_signature=(
          tf.TensorSpec(images_spec.shape[1:], tf.float32),
          tf.TensorSpec(info_spec.shape[1:], tf.float32)))
    return self._outputs(images, image_info)

  def _one_by_one(self, inputs, on_canvas):

    def one(inputs):
      image, image_info = on_canvas(inputs)
      outputs = self._outputs(image[tf.newaxis], image_info[tf.newaxis])
      return {key: value[0] for key, value in outputs.items()}

    found = self._outputs.get_concrete_function().structured_outputs
    return tf.map_fn(one, inputs, parallel_iterations=1, fn_output_signature={
        key: tf.TensorSpec(value.shape[1:], value.dtype)
        for key, value in found.items()})

  def _detections(self, images, image_info) -> dict[str, tf.Tensor]:
    batch = tf.shape(images)[0]
    # Not every convolution kernel takes a batch of no images.
    missing = [0, tf.cast(tf.equal(batch, 0), tf.int32)]
    if not self._module.parser.pad_to:
      images = tf.pad(images, [missing, [0, 0], [0, 0], [0, 0]])
      image_info = tf.pad(
          image_info, [missing, [0, 0], [0, 0]], constant_values=1.0)
    outputs = dict(
        self._module.network(images, image_info), image_info=image_info)
    return {key: tf.identity(value[:batch]) for key, value in outputs.items()}


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
  """An encoded image, as [H, W, 3] uint8; see `write` for the kinds.

  A JPEG has the pixels that `panet predict` sees. TensorFlow's default is a
  faster transform, up to 22 grey levels away on photographs.
  """
  image = tf.cond(
      tf.io.is_jpeg(encoded),
      lambda: tf.io.decode_jpeg(encoded, 3, dct_method='INTEGER_ACCURATE'),
      lambda: tf.io.decode_image(encoded, 3, expand_animations=False))
  return tf.ensure_shape(image, [None, None, 3])


def _full_image(outputs):
  """Masks [B, N, H, W] bool; costs what the detections of an image need."""
  batch = tf.shape(outputs['num_detections'])[0]
  missing = tf.cast(tf.equal(batch, 0), tf.int32)  # A loop needs one.
  masks, boxes, counts, sizes = (
      tf.pad(x, [[0, missing]] + [[0, 0]] * (len(x.shape) - 1)) for x in (
          outputs['detection_masks'], outputs['detection_boxes'],
          outputs['num_detections'], outputs['image_info'][:, 0]))
  height, width = tf.unstack(
      tf.cast(tf.maximum(tf.reduce_max(sizes, 0), 1), tf.int32))
  num_rows = boxes.shape[1]

  def one(image):
    masks, boxes, count = image
    count = tf.maximum(count, 1)  # The kind of no result at all is unknown.
    pasted = full_image_masks_lib.paste(
        masks[:count], boxes[:count], (height, width))
    return tf.pad(pasted, [[0, num_rows - count], [0, 0], [0, 0]])

  return tf.map_fn(
      one, [masks, boxes, counts], fn_output_signature=tf.TensorSpec(
          [num_rows, None, None], tf.bool))[:batch]
