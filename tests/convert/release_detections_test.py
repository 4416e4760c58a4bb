"""Claims about a converted model on an image that is not at its scale."""

import cv2
import numpy as np
import pytest
import tensorflow as tf
import yaml

from panet_tf import runs
from panet_tf.convert import official_release
from panet_tf.dataloaders import image_scaling
from panet_tf.inference import predictor
from panet_tf.inference import preprocessing
from panet_tf.inference.suite import ensemble
from panet_tf.ops import box_convention
from tests.convert import release_keys
from tests.convert import release_numpy
from tests.convert import torch_writer
from tests.support import release_masks

_PARAMS = {'task': {
    'model': dict(
        backbone={'width_multiplier': 0.125}, decoder={'num_filters': 64},
        roi_align={'use_xla': False}, rpn_head={'num_filters': 64},
        detection_head={'num_filters': 64, 'fc_dims': 64}, num_classes=4,
        roi_generator={'test_pre_nms_top_k': 80, 'test_num_proposals': 60},
        mask_head={'num_filters': 64}, input_size=[160, 160, 3]),
    'validation_data': {'parser': {
        'short_edge': [96, 96], 'long_edge': 160}}}}
SIZE = 44, 60
SCALE = 96 / 44


@pytest.fixture(name='run', scope='module')
def fixture_run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('converted')
  arrays = release_keys.arrays(
      release_keys.shapes(stem=8, dim=64, fc=64, classes=4))
  (folder / 'x.pth').write_bytes(
      torch_writer.legacy_bytes(torch_writer.checkpoint(arrays)))
  out = str(folder / 'out')
  official_release.convert(str(folder / 'x.pth'), 'e2e_panet_R-50-FPN_2x_mask',
                           out, yaml.safe_dump(_PARAMS))
  return out


@pytest.fixture(name='image')
def fixture_image():
  noise = np.random.default_rng(0).uniform(0, 255, [*SIZE, 3])
  return np.uint8(np.clip(3 * (cv2.GaussianBlur(noise, (0, 0), 1) - 85),
                          0, 255))


def release(model, image):
  """Rows (class, score, x1, y1, x2, y2) and masks; `im_detect_all`."""
  height, width = image.shape[:2]
  mean = np.float32([102.9801, 115.9465, 122.7717])
  scaled = cv2.resize(image[..., ::-1] - mean, None, None, fx=SCALE, fy=SCALE)
  padded = -(-np.array(scaled.shape[:2]) // 32) * 32
  blob = np.zeros([1, *padded, 3], np.float32)
  blob[0, :scaled.shape[0], :scaled.shape[1]] = scaled
  maps = model.features(blob)
  rois, scores = model.propose(maps, tf.constant([padded], tf.float32))
  rois = rois[:, :int(np.sum(np.asarray(scores) > 0))]
  logits, deltas = (np.asarray(x)[0] for x in model.classify(maps, rois))
  deltas = deltas.reshape(-1, 4, 4)[..., [1, 0, 3, 2]].reshape(-1, 16)
  boxes = release_numpy.clip(release_numpy.decode(
      box_convention.to_pixels(rois)[0].numpy()[:, [1, 0, 3, 2]] / SCALE,
      deltas, (10, 10, 5, 5)), height, width)
  rows = np.array(release_numpy.detections(
      boxes, tf.nn.softmax(logits).numpy()))
  masks = tf.sigmoid(model.segment(
      maps, box_convention.to_edges(
          np.float32(rows[np.newaxis, :, [3, 2, 5, 4]] * SCALE)),
      np.int32(rows[np.newaxis, :, 0])))[0]
  return rows, masks


def check(found, rows, masks):
  assert len(rows) == len(found) > 20
  np.testing.assert_array_equal(found.labels, rows[:, 0])
  np.testing.assert_allclose(found.scores, rows[:, 1], atol=1e-3)
  np.testing.assert_allclose(
      found.boxes[:, [1, 0, 3, 2]],
      rows[:, 2:] + [0, 0, 1, 1], atol=0.02)
  wanted = np.array([
      release_masks.paste(mask, row[2:], *SIZE)
      for mask, row in zip(np.asarray(masks), rows, strict=True)])
  assert wanted.any((1, 2)).sum() > 10
  different = found.masks.images() != wanted
  # Of pixels at the threshold, and boxes whose edges round otherwise.
  assert different.sum() <= 0.01 * wanted.sum()


@pytest.fixture(name='detector', scope='module')
def fixture_detector(run):
  return predictor.Predictor(runs.Run.read(run))


def test_its_detections_are_the_release_s(detector, image):
  check(detector.detect(image), *release(detector._model, image))


def test_stage_by_stage_they_are_the_same(run, detector, image):
  found = ensemble.Ensemble([runs.Run.read(run)]).detect(image)
  check(found, *release(detector._model, image))


def test_preprocessing_without_tensorflow_agrees(detector, image):
  parser = detector._parser
  inputs, info = parser.eval_image(tf.constant(image))
  made, made_info = preprocessing.Preprocessing.from_dict(
      parser.eval_rule())(image)
  np.testing.assert_allclose(made[0], inputs, atol=1e-2)
  np.testing.assert_allclose(made_info[0], info, rtol=1e-6)
  assert image_scaling.Pixels().exact_scale is False
