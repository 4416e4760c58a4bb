"""An ONNX file detects what the checkpoint detects, in onnxruntime."""

import os
import sys

import numpy as np
from official.vision.configs import maskrcnn
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf import runs
from panet_tf.configs import panet
from panet_tf.inference import predictor
from panet_tf.inference import preprocessing
from panet_tf.inference.exported import model_info
from panet_tf.ops import roi_align
from panet_tf.serving import export_module
from panet_tf.serving.formats import onnx as panet_onnx
from panet_tf.serving.formats import onnx_ops
from tests.support import exported
from tests.support import graph_outputs
from tests.support import tiny
from tests.support import tiny_run as tiny_run_lib

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('tf2onnx')

# Between them the other choice of every switch.
_GROUP_BOXES = tiny.group_params(
    include_mask=False, pooling_fusion='sum', fuse_after='pooling',
    backbone=panet.Backbone(
        model_id=18, width_multiplier=0.125, normalization='frozen'),
    # With 64 units, two in a group, rounding errors grow a hundredfold.
    detection_head=maskrcnn.DetectionHead(num_filters=32, fc_dims=512))
_SINGLE_LEVEL = tiny.params(
    adaptive_feature_pooling=False, bottom_up_path=False, box_head='2fc',
    fc_source='conv2', fc_fusion='product', fc_relu=True,
    normalization='frozen',
    roi_align=panet.RoIAlign(use_xla=False, aligned=False, sampling_ratio=1))


@pytest.fixture(autouse=True, scope='module')
def _one_of_each(made):
  """Models are built once; what is written here is written here."""
  with exported.written_once(made):
    yield


def _write(run, path, **options):
  """Writes a run as ONNX; returns the description that went with it."""
  made = runs.Run.read(run)
  module = export_module.ExportModule(made)
  info = model_info.ModelInfo(
      made.categories,
      preprocessing.Preprocessing.from_dict(module.parser.eval_rule()),
      include_mask=made.model_config.include_mask)
  panet_onnx.write.__wrapped__(module, info, str(path), **options)
  return info


def _inputs(run, images):
  """inputs [B, H, W, 3] and image_info [B, 4, 2] as evaluation makes them."""
  parser = tiny.parser(runs.Run.read(run).model_config, is_training=False)
  made = [parser.eval_image(tf.constant(image)) for image in images]
  return {name: np.stack([x.numpy() for x in arrays])
          for name, arrays in zip(
              ('inputs', 'image_info'), zip(*made, strict=True), strict=True)}


def _run(path, inputs):
  session = onnxruntime.InferenceSession(path)
  names = [output.name for output in session.get_outputs()]
  return dict(zip(names, session.run(names, inputs), strict=True))


def _check(outputs, reference, images, score_atol=1e-4):
  """Every row equals the checkpoint's detection, or is 0 beyond the last."""
  ids = [c['id'] for c in reference.categories]
  for i, image in enumerate(images):
    wanted = graph_outputs.of(reference.detect(image), ids)
    count = outputs['num_detections'][i]
    assert count == len(wanted['detection_scores']) > 0
    found = {key: outputs[key][i, :count] for key in wanted}
    np.testing.assert_array_equal(
        found['detection_classes'], wanted['detection_classes'])
    for key, atol in (('detection_boxes', 1e-2), ('detection_masks', 1e-3),
                      ('detection_scores', score_atol)):
      if key in wanted:
        np.testing.assert_allclose(
            found[key], wanted[key], rtol=0, atol=atol, err_msg=key)
    np.testing.assert_allclose(
        outputs['detection_boxes_normalized'][i, :count] * np.tile(
            image.shape[:2], 2), wanted['detection_boxes'], atol=1e-2)
    for key in wanted:
      assert not outputs[key][i, count:].any(), key
  assert ('detection_masks' in outputs) == ('detection_masks' in wanted)


def test_detections_are_the_checkpoints_in_batches_of_any_size(
    tiny_onnx, tiny_run, reference, images):
  inputs = _inputs(tiny_run, images)
  _check(_run(tiny_onnx, inputs), reference, images)
  one = _run(tiny_onnx, {key: value[2:3] for key, value in inputs.items()})
  _check(one, reference, images[2:3])


@pytest.mark.slow
@pytest.mark.parametrize('model_params, options, score_atol', [
    (_GROUP_BOXES, {}, 5e-4),
    (_SINGLE_LEVEL, {'batch_size': 2}, 1e-4),
], ids=['group_norm_boxes_only', 'single_level_fixed_batch'])
def test_every_kind_of_model_converts_and_agrees(
    tmp_path, images, model_params, options, score_atol):
  run = tiny_run_lib.write_run(tmp_path, model_params)
  path = str(tmp_path / 'model.onnx')
  info = _write(run, path, **options)
  session = onnxruntime.InferenceSession(path)
  assert session.get_inputs()[0].shape[0] == options.get('batch_size', 'batch')
  assert _metadata(path)['panet'] == info.to_json()
  _check(_run(path, _inputs(run, images[:2])),
         predictor.Predictor(runs.Run.read(run)), images[:2], score_atol)


def _metadata(path):
  return {x.key: x.value for x in onnx.load(path).metadata_props}


def test_inputs_and_outputs_have_names_types_and_shapes(tiny_onnx):
  graph = onnx.load(tiny_onnx).graph
  described = {
      value.name: (value.type.tensor_type.elem_type,
                   [d.dim_param or d.dim_value
                    for d in value.type.tensor_type.shape.dim])
      for value in [*graph.input, *graph.output]}
  floats, ints = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
  assert described == {
      'inputs': (floats, ['batch', 64, 64, 3]),
      'image_info': (floats, ['batch', 4, 2]),
      'detection_boxes': (floats, ['batch', 10, 4]),
      'detection_boxes_normalized': (floats, ['batch', 10, 4]),
      'detection_scores': (floats, ['batch', 10]),
      'detection_classes': (ints, ['batch', 10]),
      'num_detections': (ints, ['batch']),
      'detection_masks': (floats, ['batch', 10, 28, 28])}


def test_all_ops_are_of_the_default_domain_and_of_opset_17_or_later(tiny_onnx):
  used = panet_onnx.op_counts(onnx.load(tiny_onnx))
  assert not [op for op in used if '.' in op]
  assert used['RoiAlign'] == 8 and 'CropAndResize' not in used
  versions = {x.domain: x.version for x in onnx.load(tiny_onnx).opset_import}
  assert versions[''] >= 17


def test_the_file_says_what_it_is(tiny_onnx):
  metadata, model = _metadata(tiny_onnx), onnx.load(tiny_onnx)
  info = model_info.ModelInfo.from_json(metadata['panet'], tiny_onnx)
  assert [c['id'] for c in info.categories] == [3, 7, 20, 90]
  assert info.preprocessing.canvas == (64, 64)
  assert metadata['labels'].splitlines() == [f'thing {i}' for i in range(1, 5)]
  assert 'PANet' in model.doc_string and model.graph.name == 'panet'


def test_ops_are_counted_in_subgraphs_and_with_their_domain():
  make = onnx.helper.make_node
  number = onnx.helper.make_tensor_value_info
  branches = [
      onnx.helper.make_graph(
          [make(op, ['x'], ['y'], domain=domain)], op, [],
          [number('y', onnx.TensorProto.FLOAT, [1])])
      for op, domain in (('Relu', ''), ('Gelu', 'com.microsoft'))]
  graph = onnx.helper.make_graph(
      [make('Relu', ['z'], ['x']),
       make('If', ['c'], ['y'], then_branch=branches[0],
            else_branch=branches[1])], 'g', [], [])
  assert panet_onnx.op_counts(onnx.helper.make_model(graph)) == {
      'Relu': 2, 'If': 1, 'com.microsoft.Gelu': 1}


def test_without_tf2onnx_a_person_is_told_what_to_install(
    tiny_run, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tf2onnx', None)
  with pytest.raises(errors.InputError, match=r'install "panet_tf\[onnx\]"'):
    _write(tiny_run, tmp_path / 'm.onnx')


def test_weights_that_no_file_can_hold_are_refused(
    tiny_run, tmp_path, monkeypatch):
  monkeypatch.setattr(panet_onnx, '_MAX_BYTES', 1000)
  with pytest.raises(errors.InputError, match='an ONNX file holds 2 GB'):
    _write(tiny_run, tmp_path / 'm.onnx')


def _converted(function, *arrays):
  """Result of a function of arrays in onnxruntime."""
  import tf2onnx
  signature = [tf.TensorSpec(x.shape, x.dtype, f'x{i}')
               for i, x in enumerate(arrays)]
  with panet_onnx._quiet():
    model, _ = tf2onnx.convert.from_function(
        tf.function(function, input_signature=signature), signature,
        opset=panet_onnx.OPSET, custom_op_handlers=onnx_ops.HANDLERS)
  session = onnxruntime.InferenceSession(model.SerializeToString())
  return session.run(None, {f'x{i}': x for i, x in enumerate(arrays)})[0]


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [1, 2])
def test_pooling_is_roi_align_inside_outside_and_for_the_smallest_boxes(
    aligned, sampling_ratio):
  rng = np.random.default_rng(0)
  features = rng.normal(size=[2, 9, 13, 3]).astype(np.float32)
  corner = rng.uniform(-40, 100, [2, 30, 2])
  size = rng.uniform(0, 60, [2, 30, 2]) * rng.choice([0, 0.1, 1], [2, 30, 1])
  boxes = np.concatenate([corner, corner + size], -1).astype(np.float32)
  options = dict(stride=8, sampling_ratio=sampling_ratio, aligned=aligned)
  found = _converted(lambda f, b: onnx_ops.placeholder(f, b, 5, **options),
                     features, boxes)
  wanted = roi_align.roi_align(features, boxes, 5, **options)
  assert np.abs(wanted).max() > 1
  np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_a_crop_that_is_no_placeholder_is_not_taken_for_one():
  def crop(image, boxes):
    return tf.image.crop_and_resize(image, boxes, [0], [5, 5])

  with pytest.raises(RuntimeError, match='no placeholder of ROIAlign'):
    _converted(crop, np.zeros([1, 8, 8, 1], np.float32),
               np.zeros([1, 4], np.float32))


def test_stderr_is_kept_back_unless_something_fails(capfd):
  with panet_onnx._quiet():
    os.write(2, b'a library speaks')
  os.write(2, b'after')
  assert capfd.readouterr().err == 'after'
  with pytest.raises(KeyError):
    with panet_onnx._quiet():
      os.write(2, b'a library complains')
      raise KeyError
  assert capfd.readouterr().err == 'a library complains'
