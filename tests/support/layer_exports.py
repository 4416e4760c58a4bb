"""A layer between a map and a map, run in what it was exported to."""

from ai_edge_litert import interpreter as litert
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx


def outputs(layer, x, folder):
  """{format: (what it makes of x, its ops)} of a layer's prediction.

  Args:
    layer: that has been called.
    x: [batch, height, width, channels] array.
    folder: where a SavedModel may go.
  """

  def make(shape):
    return tf.function(lambda x: layer(x, training=False),
                       input_signature=[tf.TensorSpec(shape, name='x')])

  function = make(x.shape)
  any_size = make([None, None, None, x.shape[-1]])
  module = tf.Module()
  module.variables_of_layer = layer.variables
  return {'saved_model': _saved_model(module, any_size, x, folder),
          'tflite': _tflite(module, function, x),
          'onnx': _onnx(any_size, x)}


def _saved_model(module, function, x, folder):
  tf.saved_model.save(
      module, str(folder),
      {'serving_default': function.get_concrete_function()},
      tf.saved_model.SaveOptions(experimental_custom_gradients=False))
  loaded = tf.saved_model.load(str(folder)).signatures['serving_default']
  found, = loaded(tf.constant(x)).values()
  graph = loaded.graph.as_graph_def()
  nodes = [*graph.node, *(
      node for f in graph.library.function for node in f.node_def)]
  return found.numpy(), [(node.op, '_gradient_op_type' in node.attr)
                         for node in nodes]


def _tflite(module, function, x):
  content = tf.lite.TFLiteConverter.from_concrete_functions(
      [function.get_concrete_function()], module).convert()
  # Without delegates: their kernels for groups are not everywhere.
  runner = litert.Interpreter(
      model_content=content, experimental_op_resolver_type=(
          litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES))
  ops = [op['op_name'] for op in runner._get_ops_details()]
  found, = runner.get_signature_runner()(x=x).values()
  return found, ops


def _onnx(function, x):
  model, _ = tf2onnx.convert.from_function(
      function, function.input_signature, opset=17)
  session = onnxruntime.InferenceSession(model.SerializeToString())
  found, = session.run(None, {'x': x})
  return found, [
      (node.op_type, next((a.i for a in node.attribute if a.name == 'group'),
                          1)) for node in model.graph.node]


def assert_equal(found, wanted, tolerance=1e-5):
  for name, (value, _) in found.items():
    np.testing.assert_allclose(
        value, wanted, rtol=0, atol=tolerance * np.abs(wanted).max(),
        err_msg=name)
