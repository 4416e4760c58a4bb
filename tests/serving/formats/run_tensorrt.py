"""tensorrt.py with the real converter of TensorFlow 2.17, on a CPU.

  python -I run_tensorrt.py TENSORRT.py SAVED_MODEL OUTPUT_DIR OPTIONS_JSON

Only the pass that replaces nodes by engines is missing: it replaces nothing.
Freezing, calibration and building runs, rewriting and saving are the real
ones. Prints the report as JSON and writes outputs.npz, of the first image.
"""

import importlib.util
import json
import sys
import types

import numpy as np
import tensorflow as tf
from tensorflow.python.compiler.tensorrt import trt_convert


class Converter(trt_convert.TrtGraphConverterV2):
  runs = 0

  def _run_conversion(self, meta_graph_def):
    return meta_graph_def.graph_def

  def convert(self, calibration_input_fn=None):
    return super().convert(self._counted(calibration_input_fn))

  def build(self, input_fn):
    return super().build(self._counted(input_fn))

  def _counted(self, input_fn):
    def batches():
      for batch in input_fn():
        Converter.runs += 1
        yield batch
    return input_fn and batches


def main(tensorrt_path, saved_model, output_dir, options):
  spec = importlib.util.spec_from_file_location('tensorrt', tensorrt_path)
  tensorrt = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(tensorrt)
  options = json.loads(options)
  missing = tensorrt.main([
      '--saved_model', saved_model, '--output_dir', output_dir,
      '--images', options['images']])
  # What a GPU and TensorRT would answer.
  trt_convert._check_trt_version_compatibility = lambda: None
  real = trt_convert.array_ops
  trt_convert.array_ops = types.SimpleNamespace(
      zeros=lambda shape: types.SimpleNamespace(device='GPU:0'))
  tensorrt._converter_class = lambda: Converter
  found = tensorrt.convert(saved_model, output_dir, **options)
  trt_convert.array_ops = real
  model = tf.saved_model.load(output_dir)
  paths = sorted(tf.io.gfile.glob(options['images']))
  batch = next(tensorrt.input_fn(paths, 'image', [1])())
  np.savez('outputs.npz', **{
      key: value.numpy()[0] for key, value in
      model.signatures['serving_default'](**batch).items()})
  print(json.dumps(
      {'missing': missing, 'report': found, 'runs': Converter.runs}))


if __name__ == '__main__':
  main(*sys.argv[1:])
