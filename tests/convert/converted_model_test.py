"""Claims about what becomes of a converted model: prediction, export."""

import functools
import os

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import yaml

from panet_tf import errors
from panet_tf import files
from panet_tf import runs
from panet_tf.cli import convert_weights
from panet_tf.configs import overrides
from panet_tf.convert import coco_categories
from panet_tf.convert import official_release
from panet_tf.inference import predictor
from panet_tf.inference import preprocessing
from panet_tf.inference.exported import runtimes
from panet_tf.serving import export_options
from panet_tf.serving import exporter
from panet_tf.serving.verification import report
from tests.convert import release_keys
from tests.convert import torch_writer
from tests.support import exported as exported_lib

CONFIG = 'e2e_panet_R-50-FPN_2x_mask'
_PARAMS = {'task': {
    'model': dict(
        backbone={'width_multiplier': 0.125}, decoder={'num_filters': 64},
        roi_align={'use_xla': False}, rpn_head={'num_filters': 64},
        detection_head={'num_filters': 64, 'fc_dims': 64},
        roi_generator={'test_pre_nms_top_k': 40, 'test_num_proposals': 30},
        detection_generator={'max_num_detections': 8,
                             'pre_nms_score_threshold': 0.0},
        mask_head={'num_filters': 64}, input_size=[128, 128, 3]),
    'validation_data': {'parser': {
        'short_edge': [96, 96], 'long_edge': 128}}}}


@pytest.fixture(autouse=True, scope='module')
def _one_of_each(made):
  """A ResNet-50 is built once for every export and every comparison."""
  with exported_lib.written_once(made):
    yield


@pytest.fixture(name='run', scope='module')
def fixture_run(tmp_path_factory):
  """Folder of a converted model of 80 classes at small width."""
  folder = tmp_path_factory.mktemp('converted')
  arrays = release_keys.arrays(release_keys.shapes(stem=8, dim=64, fc=64))
  (folder / 'x.pth').write_bytes(
      torch_writer.zip_bytes(torch_writer.checkpoint(arrays)))
  out = str(folder / 'out')
  official_release.convert(
      str(folder / 'x.pth'), CONFIG, out, yaml.safe_dump(_PARAMS))
  return out


@pytest.fixture(name='detector', scope='module')
def fixture_detector(run):
  return predictor.Predictor(runs.Run.read(run))


def image(height, width):
  rng = np.random.default_rng(height)
  coarse = rng.uniform(0, 255, [height // 8, width // 8, 3])
  return coarse.repeat(8, 0).repeat(8, 1).astype(np.uint8)


def test_categories_have_coco_s_ids_and_names(run, detector):
  written = files.read_json(os.path.join(run, files.DATASET_INFO))
  assert written['categories'] == detector.categories
  assert len(detector.categories) == 80
  assert detector.categories[0] == {'label': 1, 'id': 1, 'name': 'person'}
  assert detector.categories[79] == {
      'label': 80, 'id': 90, 'name': 'toothbrush'}
  missing = set(range(1, 91)) - set(coco_categories.CATEGORIES)
  assert missing == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def test_names_are_those_of_coco_s_annotations(shared_dir):
  path = shared_dir / 'data' / 'coco_tiny'
  found = sorted(path.rglob('instances_*.json'))
  assert found
  for category in files.read_json(found[0])['categories']:
    assert coco_categories.CATEGORIES[category['id']] == category['name']


def test_pixels_are_bgr_less_means_on_a_tight_canvas(detector):
  """The release pads to 32; group normalization would see more."""
  parser = detector._parser
  pixels = image(96, 112)
  inputs, info = parser.predict_image(tf.constant(pixels))
  assert inputs.shape == [96, 128, 3]
  np.testing.assert_array_equal(info[1], [96, 112])
  np.testing.assert_allclose(
      inputs[:, :112],
      pixels[..., ::-1] - np.float32([102.9801, 115.9465, 122.7717]),
      atol=1e-4)
  assert not np.any(inputs[:, 112:])
  # Others keep the canvas, and TensorFlow-free preprocessing agrees with it.
  inputs, info = parser.eval_image(tf.constant(pixels))
  assert inputs.shape == [128, 128, 3]
  rule = preprocessing.Preprocessing.from_dict(parser.eval_rule())
  made, made_info = rule(pixels)
  np.testing.assert_allclose(made[0], inputs, atol=1e-4)
  np.testing.assert_array_equal(made_info[0], info)


def test_each_image_is_predicted_on_its_own_canvas(detector):
  """As the model gives on just that input, boxes over the scale."""
  images = [image(96, 112), image(96, 96)]
  found = list(detector.detect_many(images))
  for pixels, detections in zip(images, found, strict=True):
    inputs, info = detector._parser.predict_image(tf.constant(pixels))
    outputs = detector._model(
        inputs[tf.newaxis], info[tf.newaxis, 1], training=False)
    count = int(outputs['num_detections'][0])
    assert count == 8
    np.testing.assert_allclose(
        detections.boxes, outputs['detection_boxes'][0, :count], atol=1e-3)


def assert_near(found, expected):
  """Masks may differ where a probability is near the threshold."""
  assert len(expected) == 8
  np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
  np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
  wanted = expected.masks.images()
  assert np.mean(found.masks.images() != wanted) < 1e-3 and wanted.any()


SHAPES = (96, 112), (40, 120), (48, 56)  # On 96 x 128, 64 x 128, 96 x 128.


@pytest.fixture(name='exported', scope='module')
def fixture_exported(run, tmp_path_factory):
  """By export.py's own way, which compares it on these images."""
  folder = tmp_path_factory.mktemp('exported')
  for i, shape in enumerate(SHAPES):
    Image.fromarray(image(*shape)).save(folder / f'{i}.png')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(report, 'measure_latency', functools.partial(
        report.measure_latency, seconds=0.0))
    return exporter.export(run, str(folder / 'out'), export_options.Options(
        verify_images=str(folder), input_type='tflite'))


@pytest.fixture(name='saved_model_detector', scope='module')
def fixture_saved_model_detector(exported):
  return runtimes.SavedModelPredictor(exported)


@pytest.mark.parametrize('shape', SHAPES)
def test_a_saved_model_has_a_canvas_for_each_image(
    saved_model_detector, detector, shape):
  pixels = image(*shape)
  assert_near(saved_model_detector(pixels), detector(pixels))
  one_canvas = detector._parser.eval_image(tf.constant(pixels))[0].shape
  assert one_canvas == [128, 128, 3]


def test_images_of_several_sizes_are_a_batch_each_on_its_canvas(
    saved_model_detector, detector):
  images = [image(*shape) for shape in SHAPES]
  signatures = saved_model_detector._model.signatures
  found = signatures['image_bytes'](
      inputs=tf.stack([tf.io.encode_png(pixels) for pixels in images]))
  assert found['detection_masks'].shape == [3, 8, 28, 28]
  for i, wanted in enumerate(map(detector.detect, images)):
    np.testing.assert_allclose(
        found['detection_boxes'][i], wanted.boxes, atol=1e-3)
    np.testing.assert_array_equal(found['image_info'][i, 0], SHAPES[i])
  none = signatures['image_tensor'](
      inputs=tf.zeros([0, 5, 5, 3], tf.uint8))
  assert none['detection_boxes'].shape == [0, 8, 4]


def test_the_network_s_own_input_may_have_any_size(
    run, saved_model_detector, detector):
  pixels = image(96, 112)
  inputs, image_info = runs.Run.read(run).parser.predict_image(
      tf.constant(pixels))
  found = saved_model_detector._model.signatures['serving_default'](
      inputs=inputs[tf.newaxis], image_info=image_info[tf.newaxis])
  np.testing.assert_allclose(
      found['detection_boxes'][0], detector.detect(pixels).boxes,
      atol=1e-3)


def test_masks_as_large_as_the_image_are_not_exported(run, tmp_path):
  with pytest.raises(errors.InputError, match='legacy_boxes is true, and no'):
    exporter.export(run, str(tmp_path / 'out'), export_options.Options(
        full_image_masks=True))


def test_other_formats_have_one_canvas_and_say_so(tiny_run, tmp_path, capsys):
  """Of any model with such boxes and canvases, compared on it."""
  Image.fromarray(image(48, 56)).save(tmp_path / 'x.png')
  out = exporter.export(tiny_run, str(tmp_path / 'out'), export_options.Options(
      format='onnx', verify_images=str(tmp_path)), overrides.Overrides(
          params_override='task.model.legacy_boxes=true,'
          'task.validation_data.parser.pad_to=32'))
  assert 'note: --format=onnx has one canvas' in capsys.readouterr().out
  assert runtimes.OnnxPredictor(out).info.preprocessing.canvas == (64, 64)


def test_the_verb_says_what_is_wrong_in_one_line(tmp_path):
  import argparse
  parser = argparse.ArgumentParser()
  convert_weights.add_verb(parser.add_subparsers(required=True))
  args = parser.parse_args([
      'convert-weights', 'official', '--checkpoint', str(tmp_path / 'no.pth'),
      '--config', f'{CONFIG}.yaml', '--output_dir', str(tmp_path / 'out')])
  with pytest.raises(errors.InputError, match='No such file'):
    args.run(args)
  args = parser.parse_args([
      'convert-weights', 'imagenet', '--source', 'keras',
      '--file', str(tmp_path / 'no.h5'), '--output_dir', str(tmp_path / 'out')])
  with pytest.raises(errors.InputError, match='no.h5'):
    args.run(args)
  assert not os.listdir(tmp_path)
