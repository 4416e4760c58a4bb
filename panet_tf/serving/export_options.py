"""The flags of export.py as one object, and what does not go together."""

import dataclasses
import re

from panet_tf import errors
from panet_tf.configs import checks
from panet_tf.configs import panet as panet_config
from panet_tf.serving.formats import tensorrt
from panet_tf.serving.formats import tflite_quantization as tflite

_MAX_EDGE = 8192  # Of a canvas: 768 MiB of float32 input.
FORMATS = ('saved_model', 'tflite', 'onnx', 'tftrt')


@dataclasses.dataclass(frozen=True)
class Options:
  """What to export.

  Attributes:
    format: one of FORMATS.
    input_type: what `serving_default` of a SavedModel takes, see
      `saved_model.write`; '' is image_tensor. Other formats take the network's
      input, 'tflite'.
    batch_size: of a SavedModel or ONNX file; None takes any.
    input_image_size: 'H,W' that images are fitted into; '' does as evaluation.
    full_image_masks: a SavedModel's masks cover the image.
    quant_type: of TFLite: '', 'fp16', 'default' (int8 weights) or
      'int8_full_fp32_io' (int8 arithmetic).
    calibration_images: folder or glob, for int8.
    verify: whether the export is run beside the checkpoint.
    verify_images: folder or glob; '' takes the first of the validation shards.
  """
  format: str = 'saved_model'
  input_type: str = ''
  batch_size: int | None = None
  input_image_size: str = ''
  full_image_masks: bool = False
  quant_type: str = ''
  calibration_images: str = ''
  verify: bool = True
  verify_images: str = ''

  def check(self):
    """Raises InputError for options that do not go together."""
    checks.one_of('--format', self.format, FORMATS)
    if self.format == 'tftrt':
      raise errors.InputError(
          '--format=tftrt: TensorFlow has no TensorRT after 2.17; export '
          '--format=saved_model, then run panet_tf/serving/formats/tensorrt.py '
          f'on it in {tensorrt.CONTAINER} (docs/serving.md)')
    is_saved_model = self.format == 'saved_model'
    if not is_saved_model and self.input_type not in ('', 'tflite'):
      raise errors.InputError(
          f'--input_type is {self.input_type}, but --format={self.format} '
          "takes the network's own input (tflite); image_tensor, image_bytes "
          'and tf_example go with --format=saved_model')
    if not is_saved_model and self.full_image_masks:
      raise errors.InputError(
          f'--full_image_masks goes with --format=saved_model: a {self.format} '
          "file has one size of input, and its masks are in their boxes' frame")
    if self.batch_size is not None and self.batch_size < 1:
      raise errors.InputError(
          f'--batch_size is {self.batch_size}; it must be at least 1')
    if self.format == 'tflite' and self.batch_size not in (None, 1):
      raise errors.InputError(
          f'--batch_size is {self.batch_size}; a TFLite file takes one image')
    if self.verify_images and not self.verify:
      raise errors.InputError('--verify_images goes with --verify')
    self._check_quantization()
    _ = self.canvas

  @property
  def canvas(self) -> list[int] | None:
    """Height and width of `input_image_size`; InputError if it is odd."""
    text = self.input_image_size
    if not text:
      return None
    match = re.fullmatch(r'\s*(\d{1,5})\s*,\s*(\d{1,5})\s*', text)
    size = [int(edge) for edge in match.groups()] if match else [0]
    if not all(0 < edge <= _MAX_EDGE for edge in size):
      raise errors.InputError(
          f'--input_image_size is {text!r}; it must be HEIGHT,WIDTH, each from '
          f'1 to {_MAX_EDGE}')
    return size

  def check_model(self, model: panet_config.PANet):
    """Raises InputError for what a model has not."""
    if self.full_image_masks and not model.include_mask:
      raise errors.InputError('--full_image_masks: this model has no masks '
                              '(task.model.include_mask is false)')
    if self.full_image_masks and model.legacy_boxes:
      raise errors.InputError(
          '--full_image_masks: task.model.legacy_boxes is true, and no graph '
          'pastes masks as the release does; leave it out, and `panet predict` '
          'pastes them')

  def _check_quantization(self):
    for name in ('quant_type', 'calibration_images'):
      if getattr(self, name) and self.format != 'tflite':
        raise errors.InputError(
            f'--{name} goes with --format=tflite, not {self.format}')
    if self.quant_type not in tflite.QUANT_TYPES:
      raise errors.InputError(
          f'--quant_type is {self.quant_type!r}; it must be one of '
          f'{", ".join(map(repr, tflite.QUANT_TYPES))}')
    if bool(self.calibration_images) != (self.quant_type == tflite.INT8):
      raise errors.InputError(
          f'--calibration_images and --quant_type={tflite.INT8} go together: '
          'give 50 to 100 of the training images')
