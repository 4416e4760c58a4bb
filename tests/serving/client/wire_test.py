"""What the client makes of servers that are broken, or not the right ones."""

import http.server
import json
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from panet_tf.serving.client import client
from panet_tf.serving.client import grpc
from panet_tf.serving.client import wire


@pytest.fixture(name='answering')
def _answering():
  """Starts a server that sends given bytes, in two parts."""
  started = []

  def start(body, status=200, pause=None):
    class Handler(http.server.BaseHTTPRequestHandler):

      def log_message(self, *unused):
        pass

      def do_POST(self):
        self.rfile.read(int(self.headers['Content-Length']))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body[:3])
        self.wfile.flush()
        if pause:
          pause.wait(20)
        self.wfile.write(body[3:])

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    started.append((server, pause))
    threading.Thread(target=server.serve_forever, args=[0.01]).start()
    return f'http://127.0.0.1:{server.server_port}/v1/models/panet'

  yield start
  for server, pause in started:
    if pause:
      pause.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize('body', [
    b'', b'<html>', b'[]', b'{"outputs": [1]}', b'[' * 100_000, b'\xff',
    b'{"predictions": []}'])
def test_an_answer_that_is_not_the_servers_is_refused(answering, body):
  with pytest.raises(wire.RefusedError, match='outputs'):
    client.open_server(answering(body), 10).predict('image_bytes', [b''])


def test_a_long_error_of_many_lines_becomes_one_line(answering):
  text = 'wrong\n\x1b[31m\tinput ' + 'x' * 10_000
  url = answering(json.dumps({'error': text}).encode(), 400)
  with pytest.raises(wire.RefusedError, match=r'400 wrong \[31m input') as e:
    client.open_server(url, 10).predict('image_bytes', [b''])
  assert len(str(e.value)) < 500 and str(e.value).isprintable()


def test_a_server_that_stalls_is_not_waited_for(answering):
  url = answering(b'{"outputs": {}}', pause=threading.Event())
  with pytest.raises(wire.RefusedError, match='no answer in 0.3 s'):
    client.open_server(url, 0.3).predict('image_bytes', [b''])


def test_an_endless_answer_is_cut(answering, monkeypatch):
  monkeypatch.setattr('panet_tf.serving.client.rest._MAX_ANSWER', 1 << 20)
  with pytest.raises(wire.RefusedError, match='more than 1 MB'):
    client.open_server(answering(b' ' * (3 << 20)), 10).predict(
        'image_bytes', [b''])


def _good():
  return {'detection_boxes': [[[1, 2, 3, 4.5], [0, 0, 0, 0]]],
          'detection_scores': [[0.5, 0]], 'detection_classes': [[7, 0]],
          'num_detections': [1], 'detection_masks': np.zeros([1, 2, 4, 4])}


@pytest.mark.parametrize('change', [
    {'detection_boxes': None}, {'detection_boxes': 'text'},
    {'detection_boxes': [[[1, 2, 3], [1, 2, 3]]]},
    {'detection_boxes': [[[1, 2, 3, 4], [1, 2, 3]]]},
    {'detection_boxes': [[[float('nan')] * 4] * 2]},
    {'detection_boxes': [[[0, 0, 1, 1e300]] * 2]},
    {'detection_scores': [[0.5]]}, {'detection_scores': [[None, 0]]},
    {'detection_classes': [[7.5, 0]]}, {'detection_classes': [[10**30, 0]]},
    {'num_detections': [3]}, {'num_detections': [-1]}, {'num_detections': 1},
    {'detection_masks': np.zeros([1, 2, 4, 5])},
    {'detection_masks': np.zeros([1, 2, 600, 600])},
    {'detection_masks': np.zeros([1, 2, 8, 7], bool)},
    {'detection_masks': np.zeros([1, 2, 7, 8], bool)},
    {'detection_masks': [[['a']]]},
])
def test_an_answer_of_another_kind_is_refused(change):
  assert len(wire.detections(_good(), 8, 8)) == 1
  with pytest.raises(wire.RefusedError, match=next(iter(change))):
    wire.detections(_good() | change, 8, 8)


def test_masks_of_a_batch_with_a_larger_image_are_cut():
  masks = np.random.default_rng(0).uniform(size=[1, 2, 10, 9]) < 0.5
  found = wire.detections(_good() | {'detection_masks': masks}, 8, 6)
  np.testing.assert_array_equal(
      found.masks.images(), masks[0, :1, :8, :6])


def test_an_answer_without_an_output_is_refused():
  for name in set(_good()) - {'detection_masks'}:
    outputs = _good()
    del outputs[name]
    with pytest.raises(wire.RefusedError, match=f'no {name}'):
      wire.detections(outputs, 8, 8)


@pytest.mark.parametrize('sizes', [[1 << 40, 1 << 40], [1 << 29], [-1]])
def test_a_small_message_cannot_ask_for_much_memory(sizes, monkeypatch):
  answer = predict_pb2.PredictResponse()
  tensor = answer.outputs['detection_boxes']
  tensor.dtype = tf.float32.as_datatype_enum
  tensor.float_val.append(1)
  for size in sizes:
    tensor.tensor_shape.dim.add(size=size)
  server = grpc.GrpcServer('grpc://127.0.0.1:1/panet', 1)
  monkeypatch.setattr(server, '_stub', type('Stub', (), {
      'Predict': lambda self, request, timeout: answer})())
  with pytest.raises(wire.RefusedError, match='detection_boxes is not a tens'):
    server.predict('image_bytes', [b''])
