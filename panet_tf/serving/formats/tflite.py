"""A checkpoint as one .tflite file, for phones and boards.

Of TFLite's built-in ops only, so that the plain interpreter runs it, without
TensorFlow and its "Flex" kernels: one image on a canvas of fixed size.
"""

import collections
from collections.abc import Iterable
from typing import Any

from ai_edge_litert.tools import flatbuffer_utils
import numpy as np
import tensorflow as tf

from panet_tf import files
from panet_tf.inference.exported import model_info
from panet_tf.serving import export_module
from panet_tf.serving.formats import tflite_metadata
from panet_tf.serving.formats import tflite_quantization


def write(module: export_module.ExportModule, info: model_info.ModelInfo,
          path: str, *, quant_type: str = '',
          calibration: Iterable[np.ndarray] = ()) -> dict[str, int]:
  """Writes a .tflite file.

  Its signature has the names of `ExportModule.network`, batch 1: `inputs`
  [1, *canvas, 3] and `image_info` [1, 4, 2], float32 in every file.

  Args:
    module: the model, of the formulation 'builtin'.
    info: its description.
    path: of the file.
    quant_type: '' for float32, or as `tflite_quantization.quantize` has it.
    calibration: images [H, W, 3] uint8, RGB, as the model will see; 8-bit
      layers need some 50 or more.

  Returns:
    `op_counts`.

  Raises:
    InputError: the file cannot be written.
    RuntimeError: the graph has an op that is not TFLite's.
  """
  rule = info.preprocessing
  content = _convert(module, rule.canvas)
  if quant_type:
    content = tflite_quantization.quantize(
        content, quant_type, rule, calibration)
  counts = op_counts(content)
  if others := [name for name in counts if name.startswith('CUSTOM ')]:
    raise RuntimeError(f'ops that are not TFLite\'s: {", ".join(others)}')
  # Last: the quantizer moves buffers to where readers of metadata do not look.
  content = tflite_metadata.add_metadata(content, info)
  with files.written_whole(path) as temporary, open(temporary, 'wb') as f:
    f.write(tflite_metadata.append_files(content, info))
  return counts


def _convert(module, canvas) -> bytes:
  """The float32 model."""
  @tf.function(input_signature=[
      tf.TensorSpec([1, *canvas, 3], tf.float32, 'inputs'),
      tf.TensorSpec([1, 4, 2], tf.float32, 'image_info')], autograph=False)
  def serve(inputs, image_info):
    return module.network(inputs, image_info)

  # The module itself would be saved with the calls of every Keras layer, which
  # takes longer than everything else.
  weights: Any = tf.Module()  # Tracks any attribute.
  weights.variables_of_model = module.model.variables
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
      [serve.get_concrete_function()], weights)
  return converter.convert()


def op_counts(content: bytes) -> dict[str, int]:
  """How often each op is in a .tflite file's content, most frequent first.

  {'CONV_2D': 65, ...}; an op that is not built in is 'CUSTOM name'.
  """
  model: Any = flatbuffer_utils.convert_bytearray_to_object(content)
  names: Any = [
      f'CUSTOM {code.customCode.decode()}' if code.customCode
      else flatbuffer_utils.opcode_to_name(model, i)
      for i, code in enumerate(model.operatorCodes)]
  return dict(collections.Counter(
      names[op.opcodeIndex] for graph in model.subgraphs
      for op in graph.operators).most_common())
