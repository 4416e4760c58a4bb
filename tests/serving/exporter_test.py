"""export.py: whole and proven, or nothing at all."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from panet_tf import errors
from panet_tf.configs import overrides
from panet_tf.data import image_bytes
from panet_tf.data import tfrecord_file
from panet_tf.inference import open_model
from panet_tf.serving import export_options
from panet_tf.serving import exporter
from panet_tf.serving.formats import saved_model
from panet_tf.serving.verification import report
from panet_tf.serving.verification import verify
from tests.support import exported as exported_lib
from tests.support import graph_outputs


@pytest.fixture(autouse=True, scope='module')
def _few_runs():
  """Latency of the fewest runs: seconds for each export otherwise."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(report, 'measure_latency', functools.partial(
        report.measure_latency, seconds=0.0))
    yield


@pytest.fixture(autouse=True, scope='module')
def _one_of_each(made):
  """Conversions are what takes the time; each is made once."""
  with exported_lib.written_once(made):
    yield


@pytest.fixture(name='image_dir', scope='module')
def _image_dir(tmp_path_factory, images):
  folder = tmp_path_factory.mktemp('images')
  for i, image in enumerate(images):
    Image.fromarray(image).save(folder / f'{i}.png')
  return str(folder)


def run(tiny_run, export_dir, image_dir, **options):
  return exporter.export(
      tiny_run, str(export_dir),
      export_options.Options(verify_images=image_dir, **options))


@pytest.fixture(name='exported', scope='module')
def _exported(tiny_run, image_dir, tmp_path_factory):
  """Folder of two exports of one checkpoint."""
  folder = tmp_path_factory.mktemp('exported') / 'panet'
  exporter.export(tiny_run, str(folder), export_options.Options(verify=False))
  run(tiny_run, folder, image_dir, input_type='image_bytes', batch_size=2,
      input_image_size='60,100')
  return folder


@pytest.fixture(name='signatures_of', scope='module')
def _signatures_of(exported):
  """{version: its signatures}; loading one takes seconds."""
  # What is loaded lives no longer than its owner.
  loaded = {version: tf.saved_model.load(str(exported / version))
            for version in '12'}
  yield {version: module.signatures for version, module in loaded.items()}


def test_versions_count_up_and_the_server_finds_its_files(exported):
  assert {p.name for p in exported.iterdir()} == {
      '1', '2', 'models.config', 'batching_parameters.txt',
      'export_report.json'}
  for version in '12':
    assert (exported / version / 'saved_model.pb').is_file()
    assert (exported / version / 'assets/labels.txt').read_text() == (
        'thing 1\nthing 2\nthing 3\nthing 4\n')
    assert (exported / version /
            'assets.extra/tf_serving_warmup_requests').is_file()
  assert os.stat(exported).st_mode & 0o777 == 0o755


def test_the_report_has_figures_sizes_ops_and_latency(exported):
  written = json.loads((exported / 'export_report.json').read_text())
  assert written['kind'] == 'saved_model'
  assert written['verified']['images'] == 4
  assert written['verified']['score_difference'] < 1e-4
  assert written['files']['2/saved_model.pb'] > 1e5
  assert written['ops']['CombinedNonMaxSuppression'] > 0
  assert written['latency']['exported_ms'] > 0


def test_signatures_take_what_was_asked_for(signatures_of):
  first, second = (signatures_of[version] for version in '12')

  def inputs(function):
    return function.structured_input_signature[1]['inputs']

  assert set(first) == {'serving_default', 'image_tensor', 'image_bytes',
                        'tf_example'}
  assert inputs(first['serving_default']).dtype == tf.uint8
  assert inputs(first['image_bytes']).shape.as_list() == [None]
  assert inputs(second['serving_default']).dtype == tf.string
  assert inputs(second['image_tensor']).shape.as_list() == [2, None, None, 3]


def test_every_signature_detects_the_same(signatures_of, images, reference):
  signatures = signatures_of['1']
  for image in images:
    want = graph_outputs.of(reference.detect(image), [3, 7, 20, 90])
    count = len(want['detection_scores'])
    png = tf.io.encode_png(image)
    example = tf.train.Example()
    example.features.feature['image/encoded'].bytes_list.value.append(
        png.numpy())
    inputs = {'image_tensor': image[None], 'image_bytes': png[None],
              'tf_example': tf.constant([example.SerializeToString()])}
    for name, value in inputs.items():
      got = signatures[name](inputs=tf.convert_to_tensor(value))
      assert got['num_detections'] == [count]
      np.testing.assert_allclose(
          got['detection_scores'][0, :count], want['detection_scores'],
          atol=1e-4)
      np.testing.assert_allclose(
          got['detection_boxes'][0, :count], want['detection_boxes'],
          atol=0.05)
      np.testing.assert_allclose(
          got['detection_masks'][0, :count], want['detection_masks'], atol=1e-3)
      np.testing.assert_array_equal(
          got['detection_classes'][0, :count], want['detection_classes'])
      height, width = image.shape[:2]
      np.testing.assert_allclose(
          got['detection_boxes_normalized'] * [height, width, height, width],
          got['detection_boxes'], atol=1e-3)
      assert not np.any(got['detection_classes'][0, count:])


def test_images_of_several_sizes_are_one_batch_of_bytes(
    signatures_of, images, reference):
  signatures = signatures_of['1']
  got = signatures['image_bytes'](
      inputs=tf.stack([tf.io.encode_png(image) for image in images]))
  for i, image in enumerate(images):
    want = reference.detect(image).boxes
    np.testing.assert_allclose(
        got['detection_boxes'][i, :len(want)], want, atol=0.05)
    np.testing.assert_array_equal(got['image_info'][i, 0], image.shape[:2])


def test_no_images_are_answered_with_no_detections(signatures_of):
  signatures = signatures_of['1']
  for name, inputs in (('image_tensor', tf.zeros([0, 5, 5, 3], tf.uint8)),
                       ('image_bytes', tf.zeros([0], tf.string))):
    got = signatures[name](inputs=inputs)
    assert got['detection_boxes'].shape == (0, 10, 4)


@pytest.mark.parametrize('encoded', [b'', b'GIF89a', b'\xff\xd8\xff\xe0cut'])
def test_broken_bytes_are_an_error_and_the_model_goes_on(
    signatures_of, encoded):
  function = signatures_of['1']['image_bytes']
  with pytest.raises(tf.errors.InvalidArgumentError):
    function(inputs=tf.constant([encoded]))
  good = tf.io.encode_png(np.zeros([9, 9, 3], np.uint8))
  assert function(inputs=good[None])['num_detections'].shape == (1,)


def test_jpeg_pixels_are_those_that_predict_sees():
  rng = np.random.default_rng(1)
  coarse = rng.integers(0, 256, [6, 8, 3], np.uint8).repeat(8, 0).repeat(8, 1)
  encoded = tf.io.encode_jpeg(coarse, quality=70).numpy()
  np.testing.assert_array_equal(
      saved_model.decode_image(tf.constant(encoded)),
      image_bytes.decode_rgb(encoded))


def test_full_image_masks_are_those_that_predict_pastes(
    tiny_run, image_dir, tmp_path, images, reference):
  path = run(tiny_run, tmp_path / 'full', image_dir, full_image_masks=True,
             input_type='tflite')
  loaded = tf.saved_model.load(path)  # As long as its functions.
  network = loaded.signatures['serving_default']
  assert network.structured_input_signature[1]['inputs'].shape.as_list() == [
      None, 64, 64, 3]
  function = loaded.signatures['image_tensor']
  for image in images:
    want = reference(image).masks.images()
    got = function(inputs=tf.constant(image[None]))['detection_masks'].numpy()
    assert got.dtype == bool and got.shape == (1, 10, *image.shape[:2])
    union = np.count_nonzero(got[0, :len(want)] | want)
    assert np.count_nonzero(got[0, :len(want)] != want) <= 1e-3 * union


def test_an_export_that_differs_leaves_nothing(
    tiny_run, image_dir, tmp_path, monkeypatch):
  write = saved_model.write.__wrapped__

  def damaged(module, *args, **kwargs):
    kernel = next(v for v in module.model.variables
                  if 'class_logits/kernel' in v.name)
    whole = kernel.numpy()
    kernel.assign(whole * 1.05)
    write(module, *args, **kwargs)
    kernel.assign(whole)

  monkeypatch.setattr(saved_model, 'write', damaged)
  with pytest.raises(verify.ExportMismatch) as info:
    run(tiny_run, tmp_path / 'exported', image_dir)
  assert '\n' not in str(info.value)
  assert not list(tmp_path.iterdir())


def test_a_failed_export_keeps_what_was_there(
    tiny_run, image_dir, tmp_path, monkeypatch):
  folder = tmp_path / 'exported'
  (folder / '4').mkdir(parents=True)
  (folder / 'export_report.json').write_text('{}')

  def fails(*unused, **kwargs):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(verify, 'compare', fails)
    with pytest.raises(KeyboardInterrupt):
      run(tiny_run, folder, image_dir)
  assert sorted(p.name for p in folder.iterdir()) == [
      '4', 'export_report.json']
  assert (folder / 'export_report.json').read_text() == '{}'
  # No unproven version stands beside a report that says "verified".
  path = exporter.export(tiny_run, str(folder),
                       export_options.Options(verify=False))
  assert path == str(folder / '5')
  assert not (folder / 'export_report.json').exists()


@pytest.mark.parametrize('format_, quant_type', [
    ('onnx', ''), ('tflite', ''), ('tflite', 'fp16')])
def test_other_formats_are_one_file_and_its_report(
    tiny_run, image_dir, tmp_path, images, reference, format_, quant_type):
  path = run(tiny_run, tmp_path / 'x', image_dir, format=format_,
             quant_type=quant_type)
  assert path == str(tmp_path / 'x' / f'model.{format_}')
  assert sorted(p.name for p in (tmp_path / 'x').iterdir()) == [
      'export_report.json', f'model.{format_}']
  written = json.loads((tmp_path / 'x/export_report.json').read_text())
  assert written['kind'] == (quant_type or format_)
  assert not any('Flex' in op or 'CUSTOM' in op for op in written['ops'])
  got = open_model.open_model(path).detect(images[0])
  np.testing.assert_allclose(
      got.scores, reference.detect(images[0]).scores,
      atol=0.02 if quant_type else 1e-4)


def test_warm_up_asks_every_signature_that_takes_images(
    exported, signatures_of):
  for version, default in (('1', tf.uint8), ('2', tf.string)):
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in
            tfrecord_file.records(str(
                exported / version /
                'assets.extra/tf_serving_warmup_requests'))]
    asked = {log.predict_log.request.model_spec.signature_name:
             log.predict_log.request.inputs['inputs'] for log in logs}
    assert set(asked) == {'serving_default', 'image_tensor', 'image_bytes',
                          'tf_example'}
    assert asked['serving_default'].dtype == default.as_datatype_enum
    for name, inputs in asked.items():
      found = signatures_of[version][name](inputs=tf.make_ndarray(inputs))
      assert len(found['num_detections']) == inputs.tensor_shape.dim[0].size


def test_export_py_says_a_mistake_in_one_line(tiny_run, tmp_path):
  done = subprocess.run(
      [sys.executable, str(pathlib.Path(__file__).parents[2] / 'export.py'),
       f'--checkpoint_path={tiny_run}', f'--export_dir={tmp_path / "x"}',
       '--format=tflite', '--quant_type=int4'],
      capture_output=True, text=True, check=False)
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1].startswith('error: --quant_type is')
  assert 'Traceback' not in done.stderr
  assert not (tmp_path / 'x').exists()


def test_another_input_size_is_exported_and_verified_alike(exported):
  written = json.loads((exported / 'export_report.json').read_text())
  assert written['canvas'] == [64, 128]
  assert open_model.open_model(
      str(exported / '2')).info.preprocessing.canvas == (64, 128)


@pytest.mark.parametrize('options, words', [
    ({'format': 'keras'}, 'saved_model, tflite, onnx, tftrt'),
    ({'format': 'onnx', 'input_type': 'image_bytes'}, '--input_type'),
    ({'input_type': 'pixels'}, 'tf_example'),
    ({'format': 'tflite', 'full_image_masks': True}, '--full_image_masks'),
    ({'quant_type': 'fp16'}, '--quant_type'),
    ({'format': 'tflite', 'quant_type': 'int4'}, 'int8_full_fp32_io'),
    ({'format': 'tflite', 'quant_type': 'int8_full_fp32_io'}, '--calibration'),
    ({'format': 'tflite', 'calibration_images': '.'}, '--calibration'),
    ({'verify': False}, '--verify_images'),
    ({'format': 'tflite', 'batch_size': 2}, '--batch_size'),
    ({'batch_size': 0}, '--batch_size'),
    ({'input_image_size': '64'}, 'HEIGHT,WIDTH'),
    ({'input_image_size': '0,64'}, 'HEIGHT,WIDTH'),
    ({'input_image_size': '64,99999'}, '8192'),
    ({'format': 'tftrt'}, 'serving/formats/tensorrt.py'),
], ids=str)
def test_options_that_cannot_be_are_one_line(
    tiny_run, image_dir, tmp_path, options, words):
  with pytest.raises(errors.InputError, match=words) as info:
    run(tiny_run, tmp_path / 'exported', image_dir, **options)
  assert '\n' not in str(info.value)
  assert not list(tmp_path.iterdir())


def test_nothing_to_verify_on_is_one_line(tiny_run, tmp_path):
  with pytest.raises(errors.InputError, match='--verify_images'):
    run(tiny_run, tmp_path / 'exported', '')
  with pytest.raises(errors.InputError, match='--verify_images .* no image'):
    run(tiny_run, tmp_path / 'exported', str(tmp_path / 'nothing'))


def test_a_place_where_no_export_can_go_is_one_line(
    tiny_run, image_dir, tmp_path):
  (tmp_path / 'file').write_text('mine')
  (tmp_path / 'link').symlink_to(tmp_path / 'nowhere')
  for name in (tmp_path / 'file', tmp_path / 'link', ''):
    with pytest.raises(errors.InputError, match='must be a folder'):
      run(tiny_run, name, image_dir)
  with pytest.raises(errors.InputError, match='folder of the training'):
    run(tiny_run, tiny_run, image_dir)


def test_another_data_sets_names_are_refused(image_dir, tiny_run, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(tiny_run, folder)
  (folder / 'dataset.json').write_text(json.dumps(
      {'categories': [{'label': 1, 'id': 1, 'name': 'one'}]}))
  with pytest.raises(errors.InputError, match='1 categories, the model 4'):
    run(str(folder), tmp_path / 'x', image_dir)


@pytest.mark.parametrize('override, words', [
    ('task.model.detection_generator.soft_nms_sigma=0.5', 'soft_nms_sigma'),
    ('task.model.detection_generator.nms_iou_threshold=0.3',
     'nms_version: batched'),
    ('task.model.roi_generator.test_nms_iou_threshold=0.4',
     'use_batched_nms: true')])
def test_what_no_export_has_is_one_line(
    tiny_run, image_dir, tmp_path, override, words):
  with pytest.raises(errors.InputError, match=words):
    exporter.export(tiny_run, str(tmp_path / 'x'), export_options.Options(
        verify_images=image_dir), overrides.Overrides(params_override=override))
  assert not list(pathlib.Path(tmp_path).iterdir())
