"""The client over real gRPC and REST connections to a real SavedModel."""

import base64
import dataclasses
import io
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zlib

import grpc
import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from panet_tf import errors
from panet_tf.cli import main
from panet_tf.data import tfrecord_file
from panet_tf.serving.client import client
from panet_tf.serving.client import wire
from panet_tf.serving.formats import tf_serving
from panet_tf.structures import paste_masks
from tests.serving.client import serving_server

WIRES = ['rest', 'grpc']


@pytest.fixture(scope='module', name='urls')
def _urls(tiny_saved_model):
  with serving_server.serve(tiny_saved_model) as urls:
    yield urls


@pytest.fixture(name='server', params=WIRES)
def _server(request, urls):
  return client.open_server(urls[request.param], 60)


def _encoded(image, kind='png', **options):
  stream = io.BytesIO()
  Image.fromarray(image).save(stream, kind, **options)
  return stream.getvalue()


@pytest.fixture(scope='module', name='expected')
def _expected(reference, images):
  """Of each image what the checkpoint gives, with ids instead of labels."""
  ids = np.array([category['id'] for category in reference.categories])
  found = [reference.detect(image) for image in images]
  assert all(map(len, found))
  return [dataclasses.replace(one, labels=ids[one.labels - 1])
          for one in found]


def _check(found, expected):
  np.testing.assert_allclose(found.boxes, expected.boxes, atol=0.05)
  np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
  np.testing.assert_allclose(
      found.masks.probabilities, expected.masks.probabilities, atol=1e-4)
  np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize('mode', client.MODES)
def test_both_wires_and_modes_give_what_the_checkpoint_gives(
    server, mode, expected, images):
  for image, detections in zip(images, expected, strict=False):
    inputs = image[np.newaxis] if mode == 'tensor' else [_encoded(image)]
    found = wire.detections(
        server.predict(client.MODES[mode], inputs), *image.shape[:2])
    _check(found, detections)


def test_images_of_many_sizes_share_a_request(server, images):
  outputs = server.predict('image_bytes', [_encoded(x) for x in images])
  assert np.shape(outputs['detection_boxes'])[::2] == (len(images), 4)


def test_a_version_is_asked_for(urls, images):
  for url in urls.values():
    outputs = client.open_server(f'{url}/versions/1', 60).predict(
        'image_bytes', [_encoded(images[0])])
    assert 'num_detections' in outputs
    with pytest.raises(wire.NoServerError, match='Servable not found'):
      client.open_server(f'{url}/versions/2', 60).predict('image_bytes', [b''])


def test_the_warm_up_requests_are_answered_alike(urls, tmp_path, images):
  tf_serving.write_warmup(
      str(tmp_path), tf_serving.warmup_requests(images[0]))
  address = urls['grpc'].split('/')[2]
  found = []
  with grpc.insecure_channel(address) as channel:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    for record in tfrecord_file.records(str(tmp_path / tf_serving.WARMUP)):
      log = prediction_log_pb2.PredictionLog.FromString(record)
      answer = stub.Predict(log.predict_log.request, timeout=60)
      found.append(tf.make_ndarray(answer.outputs['detection_boxes']))
  assert len(found) == 3 and found[0].any()
  np.testing.assert_allclose(found[1:], found[:1] * 2, atol=1e-4)


def _odd():
  """Name -> image bytes, and whether the model answers."""
  rng = np.random.default_rng(0)

  def image(*shape):
    return rng.integers(0, 256, shape, np.uint8)

  jpeg = _encoded(image(64, 64, 3), 'jpeg')
  return {
      'one pixel': (_encoded(image(1, 1, 3)), True),
      'long': (_encoded(image(5000, 40, 3)), True),
      'grey': (_encoded(image(48, 64)), True),
      'RGBA': (_encoded(image(48, 64, 4)), True),
      'a PNG called .jpg': (_encoded(image(48, 64, 3)), True),
      'zero bytes': (b'', False),
      'text': (b'not an image', False),
      'a truncated JPEG': (jpeg[:len(jpeg) // 2], False),
      'a truncated PNG': (_encoded(image(64, 64, 3))[:2000], False),
      'a PNG that claims 2**31 pixels': (_huge_png(), False),
  }


def _huge_png():
  header = b'IHDR' + (65536).to_bytes(4) + (32768).to_bytes(4) + bytes(
      [8, 2, 0, 0, 0])
  crc = zlib.crc32(header)
  return b'\x89PNG\r\n\x1a\n' + (13).to_bytes(4) + header + crc.to_bytes(4)


@pytest.mark.parametrize('name', _odd())
def test_an_odd_image_is_answered_or_refused_and_the_server_goes_on(
    server, name, images):
  data, answers = _odd()[name]
  if answers:
    height, width = Image.open(io.BytesIO(data)).size[::-1]
    outputs = server.predict('image_bytes', [data])
    boxes = wire.detections(outputs, height, width).boxes
    assert np.all(boxes >= 0) and np.all(boxes <= [height, width] * 2)
  else:
    with pytest.raises(wire.RefusedError) as e:
      server.predict('image_bytes', [data])
    assert '\n' not in str(e.value)
  assert 'num_detections' in server.predict(
      'image_bytes', [_encoded(images[0])])


@pytest.mark.parametrize('shape', [(1, 1), (5000, 40)])
def test_odd_sizes_are_answered_as_tensors(server, shape):
  outputs = server.predict('image_tensor', np.zeros([1, *shape, 3], np.uint8))
  wire.detections(outputs, *shape)


def test_a_batch_of_no_images_is_answered_with_none(server):
  for signature, inputs in (
      ('image_bytes', np.zeros([0], object)),
      ('image_tensor', np.zeros([0, 64, 64, 3], np.uint8))):
    try:
      outputs = server.predict(signature, inputs)
    except wire.RefusedError as e:
      assert '\n' not in str(e)
    else:
      assert len(outputs['num_detections']) == 0


@pytest.mark.parametrize('signature, inputs, message', [
    ('nothing', [b''], 'Serving signature name: "nothing" not found'),
    ('image_tensor', np.zeros([64, 64, 3], np.uint8), 'expected uint8'),
    ('image_tensor', np.zeros([1, 64, 64, 4], np.uint8), 'expected uint8'),
    ('image_tensor', np.zeros([1, 8, 8, 3], np.float32), 'uint8'),
    ('image_tensor', [b'image'], 'uint8'),
    ('tf_example', [b'no example'], 'parse'),
])
def test_a_wrong_input_is_refused_with_its_reason(
    server, images, signature, inputs, message):
  with pytest.raises(wire.RefusedError, match=message):
    server.predict(signature, inputs)
  assert 'num_detections' in server.predict(
      'image_bytes', [_encoded(images[0])])


def _post(url, body):
  """Status and JSON of a request that the client would not make."""
  request = urllib.request.Request(f'{url}:predict', body)
  try:
    with urllib.request.urlopen(request, timeout=60) as answer:
      return answer.status, json.loads(answer.read())
  except urllib.error.HTTPError as e:
    return e.code, json.loads(e.read())


@pytest.mark.parametrize('body', [
    b'', b'{"instances": [', b'[]', b'{}', b'[' * 100_000,
    b'{"instances": []}', b'{"inputs": {"other": [1]}}', b'\xff\xfe',
    b'{"signature_name": "image_bytes", "inputs": [{"b64": "?"}]}',
    b'{"signature_name": "image_tensor", "inputs": [[[[256, 0, 0]]]]}',
    b'{"signature_name": "image_tensor", "inputs": [[[[0.5, 0, 0]]]]}',
    b'{"signature_name": "image_tensor", "inputs": [[[1, 2], [1]]]}',
])
def test_a_malformed_request_gets_a_status_and_the_server_goes_on(
    urls, images, body):
  status, answer = _post(urls['rest'], body)
  assert status == 400 and list(answer) == ['error']
  client.open_server(urls['rest'], 60).predict(
      'image_bytes', [_encoded(images[0])])


def test_rows_and_columns_are_answered_alike(urls, images):
  """What other clients than ours send."""
  image = {'b64': base64.b64encode(_encoded(images[1])).decode()}
  answers = [_post(urls['rest'], json.dumps(
      {'signature_name': 'image_bytes', **request}).encode())[1]
             for request in ({'instances': [image]},
                             {'instances': [{'inputs': image}]},
                             {'inputs': [image]},
                             {'inputs': {'inputs': [image]}})]
  rows = [answer['predictions'][0] for answer in answers[:2]]
  columns = [{name: value[0] for name, value in answer['outputs'].items()}
             for answer in answers[2:]]
  assert rows[0]['num_detections'] > 0
  assert rows[0] == rows[1] == columns[0] == columns[1]


def _folder(tmp_path, images):
  folder = tmp_path / 'images'
  folder.mkdir()
  for number, image in enumerate(images):
    (folder / f'{number}.png').write_bytes(_encoded(image))
  return folder


@pytest.mark.parametrize('name, mode', [
    ('rest', 'base64'), ('rest', 'tensor'), ('grpc', 'base64')])
def test_the_verb_draws_and_writes_results(
    urls, tmp_path, images, expected, tiny_saved_model, name, mode):
  folder, output = _folder(tmp_path, images), tmp_path / 'out'
  assert main.main([
      'serve-client', '--url', urls[name], '--images', str(folder),
      '--output_dir', str(output), '--mode', mode, '--score_threshold', '0.01',
      '--labels', f'{tiny_saved_model}/assets/panet.json']) == 0
  results = json.loads((output / 'predictions.json').read_text())
  for number, image in enumerate(images):
    picture = np.asarray(Image.open(output / f'{number}.png'))
    assert picture.shape[0] % image.shape[0] == 0
    found = [x for x in results if x['image_id'] == f'{number}.png']
    wanted = expected[number]
    boxes = np.array([x['bbox'] for x in found])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(
        boxes[:, [1, 0, 3, 2]], wanted.boxes, atol=0.05)
    assert [x['category_id'] for x in found] == wanted.labels.tolist()
    masks = np.array([mask_utils.decode(x['segmentation']) for x in found])
    assert np.mean(masks == wanted.masks.images()) > 0.999


def test_a_broken_image_is_one_line_and_the_others_go_on(
    urls, tmp_path, images, capsys):
  folder, output = _folder(tmp_path, images[:2]), tmp_path / 'out'
  jpeg = _encoded(images[0], 'jpeg')
  broken = {'cut.jpg': jpeg[:len(jpeg) // 2], 'empty.png': b'',
            'text.png': b'text'}
  for name, data in broken.items():
    (folder / name).write_bytes(data)
  grey = Image.fromarray(images[0]).convert('L')
  grey.save(folder / 'grey.png')
  Image.fromarray(images[0]).save(folder / 'png.jpg', 'png')
  assert client.run(urls['rest'], str(folder), str(output)) == 1
  lines = [line for line in capsys.readouterr().err.splitlines()
           if 'error' in line]
  assert len(lines) == len(broken)
  for name, line in zip(sorted(broken), lines, strict=False):
    assert name in line
  assert sorted(path.name for path in output.iterdir()) == [
      '0.png', '1.png', 'grey.png', 'png.png', 'predictions.json']


_WITHOUT_TENSORFLOW = """
import sys
for name in ('tensorflow', 'tensorflow_serving', 'grpc', 'official'):
  sys.modules[name] = None
from panet_tf.cli import main
sys.exit(main.main(sys.argv[1:]))
"""


def test_rest_needs_no_tensorflow_and_grpc_says_so(urls, tmp_path, images):
  folder = _folder(tmp_path, images[:1])
  def run(url, output):
    return subprocess.run(
        [sys.executable, '-c', _WITHOUT_TENSORFLOW, 'serve-client', '--url',
         url, '--images', folder, '--output_dir', tmp_path / output],
        text=True, capture_output=True, check=False)
  assert not run(urls['rest'], 'rest').returncode
  assert (tmp_path / 'rest' / '0.png').exists()
  failed = run(urls['grpc'], 'grpc')
  assert failed.returncode == 2
  assert failed.stderr.count('\n') == 1 and 'needs tensorflow' in failed.stderr


def _free_port():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


@pytest.mark.parametrize('url', [
    'http://127.0.0.1:{}/v1/models/panet', 'grpc://127.0.0.1:{}/panet'])
def test_a_dead_server_is_one_line(tmp_path, images, url, capsys):
  folder, output = _folder(tmp_path, images), tmp_path / 'out'
  url = url.format(_free_port())
  assert main.main(['serve-client', '--url', url, '--images', str(folder),
                   '--output_dir', str(output)]) == 2
  lines = [line for line in capsys.readouterr().err.splitlines()
           if 'error' in line]
  assert len(lines) == 1 and url in lines[0]
  assert not list(output.iterdir())


@pytest.mark.parametrize('name', WIRES)
def test_a_model_that_is_not_there_is_one_line(urls, tmp_path, images, name):
  folder = _folder(tmp_path, images)
  with pytest.raises(errors.InputError, match='Servable not found.*other'):
    client.run(urls[name].replace('panet', 'other'), str(folder),
               str(tmp_path / 'out'))


@pytest.mark.parametrize('url', [
    'http://host:8501', 'http://host:8501/v1/models/panet:predict',
    'ftp://host/v1/models/panet', 'grpc://host/panet', 'grpc://host:8500',
    'file:///v1/models/panet', 'http://a b/v1/models/panet', ''])
def test_another_kind_of_url_is_refused(url):
  with pytest.raises(errors.InputError, match='should be'):
    client.open_server(url, 1)


@pytest.mark.parametrize('labels, message', [
    ('none.json', 'No such file'), ('labels.txt', 'not a description')])
def test_labels_must_be_the_exports_description(
    tmp_path, images, labels, message):
  (tmp_path / 'labels.txt').write_text('a\nb\n')
  with pytest.raises(errors.InputError, match=message):
    client.run('http://127.0.0.1:1/v1/models/panet',
               str(_folder(tmp_path, images)), str(tmp_path / 'out'),
               labels=str(tmp_path / labels))


def test_full_image_masks_are_drawn_and_written_as_they_are(
    tmp_path, images, monkeypatch):
  image = images[1]
  boxes = np.float32([[4, 8, 40, 50]])
  mask = paste_masks.paste_mask(
      np.ones([28, 28]), boxes[0], *image.shape[:2]).astype(bool)
  outputs = {
      'detection_boxes': boxes[None], 'detection_scores': [[0.9]],
      'detection_classes': [[90]], 'num_detections': [1],
      'detection_masks': mask[None, None]}
  monkeypatch.setattr(client, 'open_server', lambda *unused: type(
      'Server', (), {'predict': lambda *unused: outputs})())
  client.run('', str(_folder(tmp_path, [image])), str(tmp_path / 'out'))
  result, = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
  assert result['category_id'] == 90
  np.testing.assert_array_equal(
      mask_utils.decode(result['segmentation']), mask)
