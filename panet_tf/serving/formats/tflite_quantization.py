"""Smaller and faster .tflite files, made of a float32 one.

Only layers with weights are quantised. Proposals, decoding, NMS and the
positions of ROIAlign stay float32: in 8 bits, coordinates on a canvas of 1344
pixels would have steps of 5.
"""

from collections.abc import Iterable
import contextlib
import io

from litert_quantizer import algorithm_manager
from litert_quantizer import calibrator as calibrator_lib
from litert_quantizer import qtyping
from litert_quantizer import quantizer as quantizer_lib
from litert_quantizer import recipe_manager
import numpy as np
import tqdm

from panet_tf.inference import preprocessing

# Model Garden's names. The last one has float32 inputs and outputs.
FLOAT16, DYNAMIC, INT8 = 'fp16', 'default', 'int8_full_fp32_io'
QUANT_TYPES = ('', FLOAT16, DYNAMIC, INT8)

_LAYERS = [qtyping.TFLOperationName[name] for name in (
    'CONV_2D', 'DEPTHWISE_CONV_2D', 'CONV_2D_TRANSPOSE', 'FULLY_CONNECTED')]
_SIGNATURE = 'serving_default'  # The converter's name for the only one.


def quantize(model: bytes, quant_type: str, rule: preprocessing.Preprocessing,
             calibration: Iterable[np.ndarray] = ()) -> bytes:
  """Quantises the content of a .tflite file, whose signature stays the same.

  Args:
    model: float32.
    quant_type: FLOAT16: weights are rounded to half precision; DYNAMIC: weights
      are 8-bit integers, and a layer's input becomes such when it runs; INT8:
      layers take and give 8-bit integers of ranges that calibration found.
    rule: image to network input.
    calibration: images [H, W, 3] uint8, RGB, for INT8.
  """
  recipe = _recipe(quant_type)
  ranges = _ranges(model, recipe, rule, calibration) if (
      quant_type == INT8) else None
  quantizer = quantizer_lib.Quantizer(model, recipe.get_quantization_recipe())
  with contextlib.redirect_stderr(io.StringIO()):  # A bar of half a second.
    done = quantizer.quantize(
        ranges, enable_progress_bar=False, enable_progress_report=False)
  return bytes(done.quantized_model or b'')


def _recipe(quant_type: str) -> recipe_manager.RecipeManager:
  """What to do with each kind of layer, whatever its name ('.*')."""
  recipe = recipe_manager.RecipeManager()
  for layer in _LAYERS:
    if quant_type == FLOAT16:
      recipe.add_weight_only_config(
          '.*', layer, 16,
          algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING)
    elif quant_type == DYNAMIC:
      recipe.add_dynamic_config('.*', layer, 8)
    else:
      recipe.add_static_config('.*', layer, 8, 8)
  return recipe


def _ranges(model, recipe, rule, calibration):
  """Least and greatest value of each tensor, running means over the images."""
  calibrator = calibrator_lib.Calibrator(
      model, mode=calibrator_lib.CalibrationMode.CALIBRATION_PROFILER_BASED)
  # One at a time: all at once, it would hold every network input in memory.
  for image in tqdm.tqdm(calibration, desc='calibrating', unit='image',
                         mininterval=1.0):
    inputs, image_info = rule(image)
    with contextlib.redirect_stderr(io.StringIO()):  # A bar for every image.
      calibrator.calibrate(
          {_SIGNATURE: [{'inputs': inputs, 'image_info': image_info}]}, recipe)
  return calibrator.get_model_qsvs()
