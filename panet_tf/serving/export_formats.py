"""What export.py writes for each --format."""

import os
from typing import NamedTuple

import numpy as np

from panet_tf.inference.exported import model_info
from panet_tf.serving import export_images
from panet_tf.serving import export_module
from panet_tf.serving import export_options
from panet_tf.serving.formats import graph_check
from panet_tf.serving.formats import onnx
from panet_tf.serving.formats import saved_model
from panet_tf.serving.formats import tf_serving
from panet_tf.serving.formats import tflite


class Written(NamedTuple):
  """An export in its temporary folder.

  Attributes:
    path: of the model.
    ops: how often the graph has each op.
    kind: key of `verify.TOLERANCES`.
  """
  path: str
  ops: dict[str, int]
  kind: str


def write(module: export_module.ExportModule, info: model_info.ModelInfo,
          folder: str, version: int,
          options: export_options.Options) -> Written:
  """Writes a model and what goes with it; a SavedModel as folder `version`.

  InputError if a format cannot hold this model, or lacks its package.
  """
  if options.format == 'onnx':
    path = os.path.join(folder, 'model.onnx')
    return Written(path, onnx.write(
        module, info, path, batch_size=options.batch_size), 'onnx')
  if options.format == 'tflite':
    path = os.path.join(folder, 'model.tflite')
    return Written(path, tflite.write(
        module, info, path, quant_type=options.quant_type,
        calibration=export_images.for_calibration(options.calibration_images)
    ), options.quant_type or 'tflite')
  path = os.path.join(folder, str(version))
  saved_model.write(module, info, path, batch_size=options.batch_size,
                    input_type=options.input_type or 'image_tensor')
  if problems := graph_check.check(path):
    raise RuntimeError(f'not plain TensorFlow: {problems}')  # Our defect.
  requests = tf_serving.warmup_requests(
      np.zeros([*info.preprocessing.canvas, 3], np.uint8), options.batch_size)
  if options.input_type in ('', *requests):  # A graph of its own to the server.
    requests['serving_default'] = requests[options.input_type or 'image_tensor']
  tf_serving.write_warmup(path, requests)
  tf_serving.write_configs(folder, options.batch_size)
  return Written(path, graph_check.ops_of(path), 'saved_model')


def next_version(export_dir: str) -> int:
  """Number of the next SavedModel in a folder, above all that is there."""
  names = os.listdir(export_dir) if os.path.isdir(export_dir) else []
  return 1 + max((int(name) for name in names if name.isdecimal()), default=0)
