"""Claims about converted models: every stage is the release's.

`release_numpy` says the release again; weights are random.
"""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import yaml

from panet_tf import errors
from panet_tf import factory
from panet_tf import files
from panet_tf import runs
from panet_tf.configs import experiments
from panet_tf.configs import official_release as official_release_lib
from panet_tf.convert import official_release
from panet_tf.convert import sources
from panet_tf.ops import box_convention
from tests.convert import release_keys
from tests.convert import release_numpy
from tests.convert import torch_writer

MASK, DET, TWO_FC = official_release_lib.CONFIGS
CONFIG_FILES = dict(zip((MASK, DET, TWO_FC), (
    'official_r50_mask', 'official_r50_det', 'official_r50_det_2fc'),
                        strict=True))
ROOT = pathlib.Path(__file__).resolve().parents[2]
HEIGHT, WIDTH = 96, 160  # No multiple of 64: N6 is larger than its share.
CLASSES = 4
_SMALL = dict(
    num_classes=CLASSES, input_size=[HEIGHT, WIDTH, 3],
    backbone={'width_multiplier': 0.125}, decoder={'num_filters': 64},
    roi_align={'use_xla': False}, rpn_head={'num_filters': 64},
    detection_head={'num_filters': 64, 'fc_dims': 256},
    roi_generator={'test_pre_nms_top_k': 80, 'test_num_proposals': 60},
    mask_head={'num_filters': 64})
SMALL = yaml.safe_dump({'task': {'model': _SMALL}})


def shapes_of(config, **widths):
  return release_keys.shapes(
      mask=config == MASK, two_fc=config == TWO_FC, **widths)


def small_arrays(config):
  return release_keys.arrays(shapes_of(
      config, stem=8, dim=64, fc=256, classes=CLASSES))


class Pair:
  """A converted model and the same weights in NumPy, on one image."""

  def __init__(self, config, params_override=SMALL, arrays=None):
    params = official_release.read_params(config, params_override)
    self.config, self.params = config, params
    arrays = small_arrays(config) if arrays is None else arrays
    self.model = factory.build_panet(params.task.model)
    official_release.set_weights(self.model, arrays, 'x.pth')
    self.release = release_numpy.Release(arrays)
    height, width = params.task.model.input_size[:2]
    rng = np.random.default_rng(1)
    coarse = rng.uniform(-128, 128, [1, 3, height // 8, width // 8])
    self.image = np.float32(coarse.repeat(8, 2).repeat(8, 3))
    self.shape = tf.constant([[height, width]], tf.float32)
    self.size = height, width


@pytest.fixture(scope='module', params=[MASK, TWO_FC])
def pair(request):
  return Pair(request.param)


def nchw(x):
  return np.moveaxis(np.asarray(x), -1, -3)


def xyxy(boxes):
  return np.asarray(boxes)[..., [1, 0, 3, 2]]


def check(actual, expected, tolerance=1e-3):
  assert actual.shape == expected.shape
  np.testing.assert_allclose(
      actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def deltas(x):
  """dy dx dh dw to dx dy dw dh."""
  x = np.asarray(x)
  return x.reshape(*x.shape[:-1], -1, 4)[..., [1, 0, 3, 2]].reshape(x.shape)


def check_stages(pair, tolerance=1e-3, num_boxes=None):
  """Stage by stage, each from what the model's stage before it gives."""
  model, release = pair.model, pair.release
  c = model.backbone(np.moveaxis(pair.image, 1, -1), training=False)
  expected_c = release.backbone(pair.image.astype(float))
  for level, expected in zip('2345', expected_c, strict=True):
    check(nchw(c[level]), expected, tolerance)
  n = model.features(np.moveaxis(pair.image, 1, -1))
  expected_n = release.neck(expected_c)
  for level, expected in zip('23456', expected_n, strict=True):
    check(nchw(n[level]), expected, tolerance)
  scores, boxes = model.rpn_head(n, training=False)
  expected_scores, expected_boxes = release.rpn(expected_n)
  for i, level in enumerate('23456'):
    check(nchw(scores[level]), expected_scores[i], tolerance)
    check(nchw(deltas(boxes[level])), expected_boxes[i], tolerance)
  rois, roi_scores = model.propose(n, pair.shape)
  generator = model.roi_generator.get_config()
  expected_rois, expected_roi_scores = release_numpy.proposals(
      [nchw(scores[level])[0] for level in '23456'],
      [nchw(deltas(boxes[level]))[0] for level in '23456'], pair.size,
      generator['test_pre_nms_top_k'], generator['test_num_proposals'])
  count = len(expected_rois)
  pixels = box_convention.to_pixels(rois)
  check(xyxy(pixels)[0, :count], expected_rois, 1e-5)
  check(np.asarray(roi_scores)[0, :count], expected_roi_scores, 1e-5)
  assert not np.any(rois[0, count:])
  rois, pixels = (
      x[:, :min(count, num_boxes or count)] for x in (rois, pixels))
  logits, box_deltas = model.classify(n, rois)
  maps = [nchw(n[level])[0].astype(float) for level in '2345']
  expected = release.box_head(release_numpy.pool(maps, xyxy(pixels)[0], 7))
  check(np.asarray(logits)[0], expected[0], tolerance)
  check(deltas(box_deltas)[0], expected[1], tolerance)
  if model.mask_head is not None:
    expected = release.mask_head(release_numpy.pool(maps, xyxy(pixels)[0], 14))
    classes = np.arange(rois.shape[1]) % expected.shape[1]
    masks = model.segment(n, rois, tf.constant(classes[np.newaxis]))
    check(np.asarray(masks)[0],
          expected[np.arange(len(classes)), classes], tolerance)


def test_every_stage_is_the_release(pair):
  check_stages(pair, 1e-4)
  assert len(pair.release.used) == len(pair.release._weights)


def test_anchors_are_rounded_and_end_on_pixels(pair):
  n = pair.model.features(np.moveaxis(pair.image, 1, -1))
  for level, boxes in pair.model.anchors(n).items():
    ours = xyxy(box_convention.to_pixels(tf.reshape(boxes, [-1, 4])))
    expected = release_numpy.anchors(int(level), *n[level].shape[1:3])
    np.testing.assert_array_equal(ours, expected)
  # Those of Faster R-CNN of old, which MATLAB counted from 1.
  np.testing.assert_array_equal(
      release_numpy.base_anchors(16, 128) + 1,
      [[-83, -39, 100, 56], [-55, -55, 72, 72], [-35, -79, 52, 96]])


def test_detections_are_the_release_s(pair):
  """The whole call; there boxes end at edges, one pixel further."""
  image = np.moveaxis(pair.image, 1, -1)
  found = pair.model(image, pair.shape, training=False)
  n = pair.model.features(image)
  rois, scores = pair.model.propose(n, pair.shape)
  rois = rois[:, :int(np.sum(np.asarray(scores) > 0))]
  logits, box_deltas = pair.model.classify(n, rois)
  boxes = release_numpy.clip(release_numpy.decode(
      xyxy(box_convention.to_pixels(rois))[0], deltas(box_deltas)[0],
      (10, 10, 5, 5)), *pair.size)
  expected = release_numpy.detections(boxes, tf.nn.softmax(logits[0]).numpy())
  count = int(found['num_detections'][0])
  assert count == len(expected) > 20
  expected = np.array(expected)
  np.testing.assert_array_equal(
      found['detection_classes'][0, :count], expected[:, 0])
  np.testing.assert_allclose(
      found['detection_scores'][0, :count], expected[:, 1], atol=1e-5)
  np.testing.assert_allclose(
      xyxy(found['detection_boxes'])[0, :count],
      expected[:, 2:] + [0, 0, 1, 1], atol=1e-3)
  if pair.model.mask_head is not None:
    masks = tf.sigmoid(pair.model.segment(
        n, found['detection_boxes'], found['detection_classes']))
    np.testing.assert_allclose(
        masks[0, :count], found['detection_masks'][0, :count], atol=1e-5)


def write(path, arrays):
  path.write_bytes(torch_writer.legacy_bytes(torch_writer.checkpoint(arrays)))
  return str(path)


def test_a_converted_model_is_a_run_that_loads(pair, tmp_path):
  """Converted, saved, loaded: the same outputs."""
  checkpoint = write(tmp_path / 'x.pth', small_arrays(pair.config))
  out = str(tmp_path / 'out')
  written = official_release.convert(checkpoint, pair.config, out, SMALL)
  assert {'checkpoint', files.PARAMS} <= set(written)
  assert sorted(os.listdir(out)) == written
  run = runs.Run.read(out)
  assert run.model_config.as_dict() == pair.params.task.model.as_dict()
  image = np.moveaxis(pair.image, 1, -1)
  expected = pair.model(image, pair.shape, training=False)
  before = [v.numpy() for v in pair.model.variables]
  for v in pair.model.variables:
    v.assign(tf.zeros_like(v))
  runs.restore(pair.model, run.checkpoint)
  for v, value in zip(pair.model.variables, before, strict=True):
    np.testing.assert_array_equal(v, value)
  found = pair.model(image, pair.shape, training=False)
  np.testing.assert_array_equal(
      found['detection_boxes'], expected['detection_boxes'])


@pytest.mark.parametrize('change, message', [
    (lambda a: a.pop('RPN.FPN_RPN_conv.bias'),
     'lacks RPN.FPN_RPN_conv.bias'),
    (lambda a: a.update({'Box_Head.extra.weight': np.ones(3, np.float32)}),
     'no place for: Box_Head.extra.weight'),
    (lambda a: a.update({'RPN.FPN_RPN_conv.weight': np.ones(
        [64, 64, 1, 1], np.float32)}),
     r'RPN.FPN_RPN_conv.weight has the shape \[64, 64, 1, 1\]; it must be '
     r'\[64, 64, 3, 3\]'),
    (lambda a: a['Box_Outs.cls_score.bias'].fill(np.nan),
     'Box_Outs.cls_score.bias has numbers that are not finite'),
    (lambda a: a.update({'Box_Outs.cls_score.bias': np.full(4, 1e39)}),
     'Box_Outs.cls_score.bias has numbers that are not finite'),
    (lambda a: a.update({'Box_Outs.cls_score.bias': np.ones(4, np.int64)}),
     'Box_Outs.cls_score.bias has numbers of the type int64; they must be '
     'floating-point')])
def test_a_wrong_key_is_named_and_nothing_changes(pair, change, message):
  arrays = small_arrays(pair.config)
  arrays['Conv_Body.conv_top.1.bias'] += 1
  change(arrays)
  before = [v.numpy() for v in pair.model.variables]
  with pytest.raises(errors.InputError, match=message) as e:
    official_release.set_weights(pair.model, arrays, 'x.pth')
  assert '\n' not in str(e.value)
  for v, value in zip(pair.model.variables, before, strict=True):
    np.testing.assert_array_equal(v, value)


def test_a_model_of_another_configuration_is_refused(pair):
  other = {MASK: TWO_FC, TWO_FC: MASK}[pair.config]
  missing = {MASK: 'Box_Head.conv1_head.0.0', TWO_FC: 'Box_Head.fc1.0.0'}
  with pytest.raises(errors.InputError,
                     match=f'lacks {missing[pair.config]}.weight'):
    official_release.set_weights(pair.model, small_arrays(other), 'x.pth')
  if pair.config == MASK:
    return
  arrays = small_arrays(TWO_FC) | {
      key: value for key, value in small_arrays(MASK).items()
      if key.startswith('Mask')}
  with pytest.raises(errors.InputError, match='no place for: Mask_Head'):
    official_release.set_weights(pair.model, arrays, 'x.pth')


def test_nothing_is_written_for_a_checkpoint_that_is_refused(tmp_path):
  path = write(tmp_path / 'x.pth', small_arrays(MASK))
  out = str(tmp_path / 'out')
  with pytest.raises(errors.InputError, match="--config is 'x'"):
    official_release.convert(path, 'x', out)
  with open(path, 'r+b') as f:
    f.truncate(100_000)
  with pytest.raises(errors.InputError, match='truncated'):
    official_release.convert(path, MASK, out, SMALL)
  assert os.listdir(tmp_path) == ['x.pth']


@pytest.mark.parametrize('field, value', [
    ('bottom_up_path', False), ('adaptive_feature_pooling', False),
    ('fuse_after', 'pooling'), ('fully_connected_fusion', False),
    ('normalization', 'sync_batch'), ('mask_head', {'num_convs': 5}),
    ('rpn_head', {'num_convs': 2}), ('backbone', {'model_id': 18}),
    ('num_classes', 0)])
def test_an_override_that_the_weights_do_not_fill_is_refused(field, value):
  override = yaml.safe_dump({'task': {'model': {field: value}}})
  with pytest.raises(errors.InputError, match=f'task.model.{field}') as e:
    official_release.read_params(MASK, override)
  assert '\n' not in str(e.value)


def test_a_folder_in_use_is_named_before_anything_is_read(tmp_path):
  (tmp_path / 'mine').write_text('x')
  with pytest.raises(errors.InputError, match='is not empty'):
    official_release.convert('absent.pth', MASK, str(tmp_path))


def test_a_link_to_an_empty_folder_is_filled(tmp_path):
  (tmp_path / 'real').mkdir()
  (tmp_path / 'link').symlink_to(tmp_path / 'real')
  with files.folder_written_whole(str(tmp_path / 'link')) as folder:
    pathlib.Path(folder, 'x').write_text('x')
  assert os.listdir(tmp_path / 'real') == ['x']
  assert sorted(os.listdir(tmp_path)) == ['link', 'real']


def test_a_folder_with_files_is_left_alone(tmp_path):
  (tmp_path / 'mine').write_text('x')
  with pytest.raises(errors.InputError, match='is not empty'):
    with files.folder_written_whole(str(tmp_path)):
      pass
  with pytest.raises(RuntimeError):
    with files.folder_written_whole(str(tmp_path / 'new')) as folder:
      pathlib.Path(folder, 'half').write_text('x')
      raise RuntimeError
  assert os.listdir(tmp_path) == ['mine']


@pytest.mark.parametrize('config', official_release_lib.CONFIGS)
def test_keys_are_those_of_the_released_modules(config, shared_dir):
  listed = files.read_json(shared_dir / 'parity' / 'state_dict_keys.json')
  assert shapes_of(config) == {
      key: tuple(shape) for key, shape, _ in listed[config]}


def test_every_variable_has_one_key(pair):
  entries = list(official_release.entries(pair.model))
  assert {e.key: e.shape for e in entries} == shapes_of(
      pair.config, stem=8, dim=64, fc=256, classes=CLASSES)
  placed = [id(e.variable) for e in entries]
  placed += [
      id(w) for _, c in sources.places(pair.model.backbone)
      for w in (c.norm.moving_mean, c.norm.moving_variance)]
  assert sorted(placed) == sorted(id(v) for v in pair.model.variables)


@pytest.mark.parametrize('config', official_release_lib.CONFIGS)
def test_a_config_file_is_what_its_checkpoint_is_converted_to(config):
  path = ROOT / 'configs' / 'coco' / f'{CONFIG_FILES[config]}.yaml'
  task = experiments.read('panet_official_release', [str(path)]).task
  expected = official_release.read_params(config).task
  assert task.model.as_dict() == expected.model.as_dict()
  assert config in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize('config', official_release_lib.CONFIGS)
def test_every_stage_is_the_release_at_full_width(config):
  override = yaml.safe_dump({'task': {'model': {
      'input_size': [HEIGHT, WIDTH, 3], 'roi_align': {'use_xla': False}}}})
  check_stages(Pair(config, override, release_keys.arrays(shapes_of(config))),
               num_boxes=20)
