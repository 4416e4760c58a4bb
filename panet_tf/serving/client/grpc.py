"""TensorFlow Serving's gRPC interface; its messages import TensorFlow."""

import math
import re

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from panet_tf import errors
from panet_tf.serving.client import wire

_URL = re.compile(
    r'grpc://([^/@\s]+:\d+)/([^/:\s]+)(?:/versions/(\d{1,18}))?')
_NO_MODEL = (
    grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED)


class GrpcServer:
  """A model behind grpc://host:8500/panet, without encryption."""

  def __init__(self, url: str, timeout: float):
    """As `client.open_server`; connects at the first request."""
    match = _URL.fullmatch(url)
    if not match:
      raise errors.InputError(
          f'--url {url!r} should be grpc://HOST:8500/NAME, or that with '
          '/versions/NUMBER')
    target, self._name, self._version = match.groups()
    self._url, self._timeout = url, timeout
    channel = grpc.insecure_channel(target, options=[
        ('grpc.max_receive_message_length', wire.MAX_ANSWER),
        ('grpc.max_send_message_length', -1)])
    self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

  def predict(self, signature: str,
              inputs: list[bytes] | np.ndarray) -> dict[str, np.ndarray]:
    """`wire.OUTPUTS` as arrays; else as `rest.RestServer.predict`."""
    request = predict_pb2.PredictRequest()  # pyright: ignore[reportAttributeAccessIssue] - the module makes its classes at import
    request.model_spec.name = self._name
    request.model_spec.signature_name = signature
    if self._version:
      request.model_spec.version.value = int(self._version)
    request.inputs['inputs'].CopyFrom(tf.make_tensor_proto(inputs))
    try:
      answer = self._stub.Predict(request, timeout=self._timeout)
    except grpc.RpcError as e:
      kind = wire.NoServerError if e.code() in _NO_MODEL else wire.RefusedError
      raise kind(f'{self._url}: {e.code().name} '
                 f'{wire.one_line(e.details() or "")}') from e
    return {name: self._array(name, answer.outputs[name])
            for name in wire.OUTPUTS if name in answer.outputs}

  def _array(self, name, tensor):
    """As an array; a short message can claim a shape that fills the memory."""
    sizes = [dim.size for dim in tensor.tensor_shape.dim]
    try:
      size = math.prod(sizes) * tf.as_dtype(tensor.dtype).size
      if min(sizes, default=0) < 0 or size > wire.MAX_ANSWER:
        raise ValueError('negative or too large')
      return tf.make_ndarray(tensor)
    except (ValueError, TypeError) as e:
      raise wire.RefusedError(
          f'{self._url}: {name} is not a tensor, or larger than '
          f'{wire.MAX_ANSWER >> 20} MB') from e
