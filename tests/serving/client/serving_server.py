"""A small TensorFlow Serving: its gRPC and REST wire around a SavedModel.

The official service classes of tensorflow-serving-api on loopback, and the REST
interface as https://www.tensorflow.org/tfx/serving/api_rest describes it, with
the statuses and error texts of its sources (http_rest_api_handler.cc,
json_tensor.cc). Batching and warm-up are left out. A process of its own: what
kills the server fails the test, and not the whole run.
"""

import base64
from concurrent import futures
import contextlib
import http.server
import json
import re
import subprocess
import sys
import threading

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

NAME = 'panet'
_PATH = re.compile(r'/v1/models/([^/:]+)(?:/versions/(\d+))?:predict')
_STATUS = {3: 400, 4: 504, 5: 404, 8: 429, 9: 412, 12: 501, 14: 503}
_GRPC_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Model:
  """One version of a SavedModel."""

  def __init__(self, folder):
    self._loaded = tf.saved_model.load(folder)

  def signature(self, name, model, version):
    """The function, and the TensorSpec of each input."""
    if model != NAME or version not in (None, 1):
      raise tf.errors.NotFoundError(
          None, None, f'Servable not found for request: Latest({model})')
    name = name or 'serving_default'
    if name not in self._loaded.signatures:
      raise tf.errors.InvalidArgumentError(
          None, None,
          f'Serving signature name: "{name}" not found in signature def')
    function = self._loaded.signatures[name]
    return function, function.structured_input_signature[1]

  def predict(self, function, specs, inputs):
    """name -> array; every problem is one of `tf.errors`."""
    if set(inputs) != set(specs):
      raise tf.errors.InvalidArgumentError(
          None, None, 'input size does not match signature: '
          f'{sorted(inputs)} vs {sorted(specs)}')
    for name, spec in specs.items():
      tensor = inputs[name] = tf.convert_to_tensor(inputs[name])
      if tensor.dtype != spec.dtype or not spec.shape.is_compatible_with(
          tensor.shape):
        raise tf.errors.InvalidArgumentError(
            None, None, f'{name} is {tensor.dtype.name} {tensor.shape}, '
            f'expected {spec.dtype.name} {spec.shape}')
    return {name: output.numpy()
            for name, output in function(**inputs).items()}


class _Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
  """PredictionService.Predict."""

  def __init__(self, model):
    self._model = model

  def Predict(self, request, context):
    """Answers, or aborts with the status of the error."""
    spec = request.model_spec
    version = spec.version.value if spec.HasField('version') else None
    try:
      function, specs = self._model.signature(
          spec.signature_name, spec.name, version)
      try:
        inputs = {name: tf.make_ndarray(tensor)
                  for name, tensor in request.inputs.items()}
      except (ValueError, TypeError) as e:
        raise tf.errors.InvalidArgumentError(None, None, str(e)) from e
      outputs = self._model.predict(function, specs, inputs)
    except tf.errors.OpError as e:
      context.abort(_GRPC_CODES[e.error_code], e.message)
    response = predict_pb2.PredictResponse()
    for name, output in outputs.items():
      response.outputs[name].CopyFrom(tf.make_tensor_proto(output))
    return response


class _Handler(http.server.BaseHTTPRequestHandler):
  """POST /v1/models/NAME[/versions/N]:predict."""
  model = None

  def log_message(self, *unused):
    pass

  def do_GET(self):
    self._send(400, {'error': f'Malformed request: GET {self.path}'})

  def do_POST(self):
    body = self.rfile.read(int(self.headers['Content-Length']))
    try:
      self._send(200, self._predict(body))
    except tf.errors.OpError as e:
      self._send(_STATUS.get(e.error_code, 500), {'error': e.message})

  def _send(self, status, answer):
    body = json.dumps(answer).encode()
    self.send_response(status)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  def _predict(self, body):
    match = _PATH.fullmatch(self.path)
    _require(match, f'Malformed request: POST {self.path}')
    try:
      request = json.loads(body)
    except (ValueError, RecursionError) as e:
      raise tf.errors.InvalidArgumentError(
          None, None, f'JSON Parse error: {e}') from e
    _require(isinstance(request, dict), 'Request JSON is not an object')
    _require(('instances' in request) != ('inputs' in request),
             'Missing or both of \'inputs\' and \'instances\' key')
    model, version = match.groups()
    function, specs = self.model.signature(
        request.get('signature_name', ''), model, version and int(version))
    columns = _columns(request, specs)
    inputs = {name: _tensor(columns[name], spec)
              for name, spec in specs.items() if name in columns}
    outputs = {name: output.tolist() for name, output in
               self.model.predict(function, specs, inputs).items()}
    if 'inputs' in request:
      return {'outputs': outputs}
    return {'predictions': [dict(zip(outputs, row, strict=True))
                            for row in zip(*outputs.values(), strict=True)]}


def _require(condition, message):
  if not condition:
    raise tf.errors.InvalidArgumentError(None, None, message)


def _is_object(value):
  return isinstance(value, dict) and list(value) != ['b64']


def _columns(request, specs):
  """Name of each input -> its nested lists."""
  value = request.get('inputs', request.get('instances'))
  if 'inputs' in request:
    if _is_object(value):
      return value
  else:
    _require(isinstance(value, list) and value,
             'Expecting \'instances\' value to be a non-empty list')
    if all(map(_is_object, value)):
      _require(all(set(row) == set(specs) for row in value),
               'instances is a list of objects without every named input')
      return {name: [row[name] for row in value] for name in specs}
  _require(len(specs) == 1, 'no named inputs, but the model has several')
  return {next(iter(specs)): value}


def _tensor(value, spec):
  """Nested lists as the signature's type; a float is no integer."""
  def leaf(item):
    if isinstance(item, list):
      return [leaf(x) for x in item]
    if spec.dtype == tf.string:
      if isinstance(item, dict) and isinstance(item.get('b64'), str):
        try:
          return base64.b64decode(item['b64'], validate=True)
        except ValueError as e:
          raise tf.errors.InvalidArgumentError(
              None, None, 'Unable to base64 decode') from e
      _require(isinstance(item, str), f'JSON Value: {item} is not a string')
      return item.encode()
    _require(isinstance(item, int) and not isinstance(item, bool),
             f'JSON Value: {item!r:.40} is not of expected type: uint8')
    return item
  dtype = object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype
  try:
    array = np.array(leaf(value), dtype)
    if array.size == 0:  # [] says nothing of the dimensions within.
      array = array.reshape([0] * spec.shape.rank)
    return tf.constant(array, spec.dtype)
  except (ValueError, OverflowError, TypeError) as e:
    raise tf.errors.InvalidArgumentError(None, None, str(e)) from e


def main(folder):
  """Serves a version's folder until stdin ends; prints both URLs."""
  model = Model(folder)
  grpc_server = grpc.server(
      futures.ThreadPoolExecutor(4),
      options=[('grpc.max_receive_message_length', -1)])
  prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
      _Servicer(model), grpc_server)
  grpc_port = grpc_server.add_insecure_port('127.0.0.1:0')
  rest_server = http.server.ThreadingHTTPServer(
      ('127.0.0.1', 0), type('Handler', (_Handler,), {'model': model}))
  grpc_server.start()
  threading.Thread(target=rest_server.serve_forever, daemon=True).start()
  print(json.dumps({
      'rest': f'http://127.0.0.1:{rest_server.server_port}/v1/models/{NAME}',
      'grpc': f'grpc://127.0.0.1:{grpc_port}/{NAME}'}), flush=True)
  sys.stdin.read()


@contextlib.contextmanager
def serve(folder):
  """Yields {'rest': URL, 'grpc': URL} of a server in a process of its own."""
  with subprocess.Popen(
      [sys.executable, __file__, folder], text=True, stdin=subprocess.PIPE,
      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
    line = process.stdout.readline()
    assert line, 'the server did not start'
    yield json.loads(line)
    assert process.poll() is None, 'the server died'
    process.kill()


if __name__ == '__main__':
  main(sys.argv[1])
