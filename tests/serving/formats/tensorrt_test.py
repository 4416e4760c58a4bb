"""tensorrt.py without TensorRT, and graph_check.py.

tests/serving/formats/tf217_test.py runs the same file in TensorFlow 2.17.
"""

import inspect
import json
import os
import shutil

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.compiler.tensorrt import trt_convert

from panet_tf.serving.formats import graph_check
from panet_tf.serving.formats import tensorrt
from tests.serving.formats import run_saved_model
from tests.support import tensorrt_ops

REAL = trt_convert.TrtGraphConverterV2


def write_graph(folder, *, inputs=(('inputs', tf.uint8),), batch=-1,
                body=(('Relu', 'backbone/Relu'),), **functions):
  """A SavedModel of one signature; functions are lists of (op, name)."""
  model = saved_model_pb2.SavedModel()
  meta = model.meta_graphs.add()
  signature = meta.signature_def['serving_default']
  for name, dtype in inputs:
    signature.inputs[name].dtype = dtype.as_datatype_enum
    signature.inputs[name].tensor_shape.dim.add(size=batch)
  signature.outputs['output'].name = 'call:0'
  call = meta.graph_def.node.add(name='call', op='StatefulPartitionedCall')
  call.attr['f'].func.name = 'body'
  for name, nodes in dict(functions, body=body).items():
    function = meta.graph_def.library.function.add()
    function.signature.name = name
    for op, node_name in nodes:
      node = function.node_def.add(op=op, name=node_name)
      if op == 'TRTEngineOp':
        node.attr['segment_func'].func.name = f'{node_name}_native_segment'
  (folder / 'assets').mkdir(parents=True)
  (folder / 'assets' / 'labels.txt').write_text('cat\n')
  (folder / 'saved_model.pb').write_bytes(model.SerializeToString())
  return str(folder)


def edit(folder):
  """The graph of a SavedModel, and a function that writes it back."""
  path = os.path.join(folder, 'saved_model.pb')
  with open(path, 'rb') as f:
    model = saved_model_pb2.SavedModel.FromString(f.read())

  def save():
    with open(path, 'wb') as f:
      f.write(model.SerializeToString())

  return model.meta_graphs[0].graph_def, save


class Double:
  """Takes calls as the real converter does, and writes down what it got."""

  def __init__(self, **options):
    inspect.signature(REAL).bind(**options)
    self.options, self.calls = options, []
    Double.last = self

  def convert(self, **arguments):
    inspect.signature(REAL.convert).bind(self, **arguments)
    self._take('convert', arguments['calibration_input_fn'])

  def build(self, **arguments):
    inspect.signature(REAL.build).bind(self, **arguments)
    self._take('build', arguments['input_fn'])

  def save(self, folder):
    inspect.signature(REAL.save).bind(self, folder)
    shutil.copy(os.path.join(
        self.options['input_saved_model_dir'], 'saved_model.pb'), folder)

  def _take(self, name, input_fn):
    self.calls.append((name, input_fn and [
        batch['inputs'].shape for batch in input_fn()]))


@pytest.fixture
def double(monkeypatch):
  monkeypatch.setattr(tensorrt, '_converter_class', lambda: Double)
  return Double


@pytest.fixture(name='photos')
def write_photos(tmp_path):
  """Glob of three images, two of them of one size."""
  (tmp_path / 'photos').mkdir()
  for name, value, size in (('a', 10, (6, 4)), ('b', 20, (5, 5)),
                            ('c', 30, (6, 4))):
    Image.new('RGB', size, (value, 0, 0)).save(
        tmp_path / 'photos' / f'{name}.png')
  return str(tmp_path / 'photos' / '*.png')


@pytest.fixture(name='model')
def write_model(tmp_path):
  return write_graph(tmp_path / 'model')


@pytest.mark.parametrize('options, told', [
    ({'saved_model': 'absent'}, 'absent/saved_model.pb'),
    ({'precision': 'FP8'}, "'FP8'"),
    ({'min_segment_size': '0'}, '--min_segment_size'),
    ({'batch_size': '0'}, '--batch_size'),
    ({'signature': 'other'}, "'other'"),
    ({'images': 'absent/*.png'}, "'absent/*.png' matches no file"),
    ({'images': '', 'precision': 'INT8'}, 'INT8'),
    ({'images': ''}, '--dynamic_shapes'),
    ({'output_dir': '.'}, '--output_dir .'),
])
def test_a_mistake_is_told_in_one_line(model, photos, tmp_path, capfd, double,
                                       options, told):
  output = str(tmp_path / 'new')
  options = {'saved_model': model, 'images': photos, 'output_dir': output
            } | options
  code = tensorrt.main([f'--{key}={value}' for key, value in options.items()])
  lines = capfd.readouterr().err.splitlines()
  assert (code, len(lines)) == (2, 1) and told in lines[0]
  assert not os.path.exists(output)


def test_what_is_needed_is_told_in_one_line(model, photos, tmp_path, capfd):
  output = str(tmp_path / 'new')
  code = tensorrt.main(['--saved_model', model, '--images', photos,
                        '--output_dir', output])
  lines = capfd.readouterr().err.splitlines()
  assert (code, len(lines)) == (2, 1) and not os.path.exists(output)
  for word in ('GPU', 'nvcr.io/nvidia/tensorflow', '2.17', tf.__version__):
    assert word in lines[0]


def test_a_broken_saved_model_is_told(tmp_path):
  (tmp_path / 'saved_model.pb').write_bytes(b'\xff' * 9)
  with pytest.raises(tensorrt.Error, match='no SavedModel'):
    tensorrt.read(str(tmp_path))


@pytest.mark.parametrize('inputs', [
    (('inputs', tf.float32),), (('inputs', tf.uint8), ('image_info', tf.uint8)),
    (('images', tf.uint8),)])
def test_a_signature_of_other_inputs_is_refused(tmp_path, photos, inputs):
  model = write_graph(tmp_path / 'model', inputs=inputs)
  with pytest.raises(tensorrt.Error, match='serving_default'):
    tensorrt.convert(model, str(tmp_path / 'new'), images=photos)


def test_a_fixed_batch_size_is_the_only_one(tmp_path, photos, double):
  model = write_graph(tmp_path / 'model', batch=2)
  with pytest.raises(tensorrt.Error, match='--batch_size 2'):
    tensorrt.convert(model, str(tmp_path / 'new'), images=photos)
  tensorrt.convert(
      model, str(tmp_path / 'new'), images=photos, batch_sizes=[2])
  assert double.last.calls[-1][0] == 'build'


def test_every_image_is_in_a_full_batch_of_its_size(photos):
  paths = [photos.replace('*', name) for name in 'abc']
  batches = [batch['inputs'].numpy()
             for batch in tensorrt.input_fn(paths, 'image', [1, 2])()]
  assert [(b.dtype, *b.shape) for b in batches] == [
      (np.uint8, n, h, w, 3) for n, h, w in (
          (1, 4, 6), (1, 4, 6), (1, 5, 5), (2, 4, 6), (2, 5, 5))]
  assert [b[:, 0, 0, 0].tolist() for b in batches] == [
      [10], [30], [20], [10, 30], [20, 20]]


def test_encoded_images_are_batched_whatever_their_size(photos):
  paths = [photos.replace('*', name) for name in 'abc']
  files = [open(path, 'rb').read() for path in paths]
  wanted = [files[:2], [files[2], files[0]]]
  assert [b['inputs'].numpy().tolist()
          for b in tensorrt.input_fn(paths, 'file', [2])()] == wanted
  examples = [b['inputs'] for b in tensorrt.input_fn(paths, 'example', [2])()]
  assert [tf.io.parse_example(b, {
      'image/encoded': tf.io.FixedLenFeature([], tf.string)
  })['image/encoded'].numpy().tolist() for b in examples] == wanted


@pytest.mark.parametrize('op, kind', [
    ('Relu', 'file'), ('ParseExampleV2', 'example')])
def test_strings_are_files_unless_the_graph_parses_examples(
    tmp_path, photos, double, monkeypatch, op, kind):
  kinds = []
  real = tensorrt.input_fn
  monkeypatch.setattr(tensorrt, 'input_fn', lambda paths, kind, sizes: (
      kinds.append(kind), real(paths, kind, sizes))[1])
  model = write_graph(tmp_path / 'model', inputs=[('inputs', tf.string)],
                      body=[(op, 'node')])
  tensorrt.convert(model, str(tmp_path / 'new'), images=photos)
  assert kinds == [kind]


def test_a_file_that_is_no_image_is_named(tmp_path, model, double):
  (tmp_path / 'x.png').write_text('no image')
  with pytest.raises(tensorrt.Error, match=r'x\.png: not a JPEG'):
    tensorrt.convert(
        model, str(tmp_path / 'new'), images=str(tmp_path / '*.png'))


def test_int8_is_calibrated_and_built_on_the_images(
    tmp_path, model, photos, double):
  tensorrt.convert(model, str(tmp_path / 'new'), precision='INT8',
                   images=photos, min_segment_size=7, max_images=2)
  shapes = [(1, 4, 6, 3), (1, 5, 5, 3)]
  assert double.last.calls == [('convert', shapes), ('build', shapes)]
  assert double.last.options == {
      'input_saved_model_dir': model, 'precision_mode': 'INT8',
      'input_saved_model_signature_key': 'serving_default',
      'use_dynamic_shape': True, 'dynamic_shape_profile_strategy': 'Range',
      'minimum_segment_size': 7, 'maximum_cached_engines': 1}


def test_fixed_shapes_need_no_images_and_are_not_calibrated(
    tmp_path, model, photos, double):
  tensorrt.convert(model, str(tmp_path / 'new'), precision='FP32',
                   dynamic_shapes=False)
  assert double.last.calls == [('convert', None)]
  tensorrt.convert(model, str(tmp_path / 'newer'), images=photos,
                   dynamic_shapes=False, batch_sizes=[1, 2])
  assert [name for name, _ in double.last.calls] == ['convert', 'build']
  assert double.last.options['maximum_cached_engines'] == 2
  assert double.last.options['dynamic_shape_profile_strategy'] is None


def test_the_new_model_has_the_assets_and_the_report(
    tmp_path, model, photos, double, capsys):
  output = tmp_path / 'new' / '1'
  assert tensorrt.main(['--saved_model', model, '--output_dir', f'{output}/',
                        '--images', photos]) == 0
  assert (output / 'assets' / 'labels.txt').read_text() == 'cat\n'
  written = json.loads((output / tensorrt.REPORT).read_text())
  assert written == json.loads(capsys.readouterr().out)
  assert written['in_tensorflow'] == {'backbone': {'Relu': 1}}
  assert os.listdir(tmp_path / 'new') == ['1']


def test_nothing_is_left_where_saving_fails(
    tmp_path, model, photos, double, monkeypatch):
  def save(self, folder):
    with open(os.path.join(folder, 'half'), 'w', encoding='utf-8'):
      raise OSError(28, 'No space left on device')
  monkeypatch.setattr(Double, 'save', save)
  (tmp_path / 'out').mkdir()
  with pytest.raises(tensorrt.Error, match='No space left'):
    tensorrt.convert(model, str(tmp_path / 'out' / 'new'), images=photos)
  assert not os.listdir(tmp_path / 'out')


def test_the_report_tells_engines_from_what_stays(tmp_path):
  model = write_graph(
      tmp_path / 'model',
      body=[('TRTEngineOp', 'TRTEngineOp_000_000'), ('Const', 'backbone/c'),
            ('CropAndResize', 'x/adaptive_feature_pooling_2/Crop'),
            ('CropAndResize', 'x/adaptive_feature_pooling_2/Crop_1'),
            ('OneHot', 'x/mask_head/one_hot'), ('Sub', 'sub')],
      TRTEngineOp_000_000_native_segment=[
          ('_Arg', 'TensorRTInputPH_0'), ('Conv2D', 'x/backbone/conv'),
          ('Const', 'x/backbone/c'), ('Relu', 'x/backbone/Relu'),
          ('Conv2D', 'x/decoder/conv')],
      never_called=[('Conv2D', 'backbone/conv')])
  assert tensorrt.report(model, 'serving_default') == {
      'signature': 'serving_default',
      'engines': [{'name': 'TRTEngineOp_000_000',
                   'parts': {'backbone': 2, 'decoder': 1}}],
      'in_tensorflow': {'pooling': {'CropAndResize': 2}, 'other': {'Sub': 1},
                        'mask_head': {'OneHot': 1}}}


@pytest.mark.parametrize('name, part', [
    ('backbone/stem/conv/Conv2D', 'backbone'),
    ('StatefulPartitionedCall/decoder/bottom_up_path/add', 'decoder'),
    ('StatefulPartitionedCall/decode_boxes/Exp', 'nms'),
    ('portable_roi_generator/TopKV2', 'nms'),
    ('StatefulPartitionedCall/map/while/Resize', 'preprocessing'),
    ('map_1/while/Resize', 'other'), ('my_backbone/conv', 'other')])
def test_names_tell_the_part(name, part):
  assert tensorrt.part_of(name) == part


def test_ops_are_counted_in_all_functions(tmp_path):
  model = write_graph(tmp_path / 'model', body=[('Relu', 'a'), ('Sub', 'b')],
                      other=[('Relu', 'c')])
  assert graph_check.ops_of(model) == {
      'StatefulPartitionedCall': 1, 'Relu': 2, 'Sub': 1}


def test_what_needs_this_program_or_xla_is_found(tmp_path):
  model = write_graph(tmp_path / 'model', body=[('IdentityN', 'pool')])
  assert not graph_check.check(model)
  graph, save = edit(model)
  function = graph.library.function[0]
  function.node_def[0].attr['_gradient_op_type'].s = b'CustomGradient-1'
  for op in ('EagerPyFunc', 'XlaHostCompute'):
    function.node_def.add(op=op, name=f'a_{op}')
  function.attr['_XlaMustCompile'].b = True
  save()
  assert graph_check.check(model) == [
      'custom gradient: 1 times, such as pool',
      'op EagerPyFunc: 1 times, such as a_EagerPyFunc',
      'op XlaHostCompute: 1 times, such as a_XlaHostCompute',
      'function for XLA only: 1 times, such as body']


@pytest.fixture(scope='module', name='small')
def write_small(tmp_path_factory):
  """A real SavedModel with good and bad ops in parts of the network."""

  @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 2], tf.float32)])
  def run(inputs):
    with tf.name_scope('backbone'):
      x = tf.nn.relu(inputs) * 2.0
      _ = tf.size(x)  # No output needs it.
    with tf.name_scope('decoder'):
      x = tf.compat.v1.nn.fused_batch_norm(
          x, tf.ones([2]), tf.zeros([2]), is_training=True)[0]
    with tf.name_scope('mask_head'):
      row = tf.one_hot(tf.cast(x[0, 0, 0, 0], tf.int32), 2)
    return {'x': x + row, 'sorted': tf.sort(row)}

  folder = str(tmp_path_factory.mktemp('small'))
  module = tf.Module()
  module.run = run
  tf.saved_model.save(module, folder, module.run.get_concrete_function())
  return folder


def test_ops_that_tensorrt_does_not_convert_are_found(small):
  assert tensorrt_ops.unconvertible(small) == {
      'decoder': {'FusedBatchNormV3 in training': 1},
      'mask_head': {'OneHot': 1}}
  assert tensorrt_ops.network_ops(small)['backbone'] == {'Relu': 1, 'Mul': 1}


def test_every_op_of_the_list_is_one_of_tensorflow():
  for op in tensorrt_ops.CONVERTED_BY_TENSORRT - {'FusedConv2DBiasActivation'}:
    assert hasattr(tf.raw_ops, op), op


def test_ops_and_attributes_that_a_tensorflow_lacks_are_found(tmp_path):
  model = write_graph(tmp_path / 'model', body=[
      ('Relu', 'a'), ('OpOfTomorrow', 'b'), ('own', 'c')], own=[])
  graph, save = edit(model)
  graph.library.function[-1].node_def[0].attr['attr_of_tomorrow'].i = 1
  graph.library.function[-1].node_def[0].attr['_private'].i = 1
  save()
  assert run_saved_model.unknown(model) == [
      'OpOfTomorrow', 'Relu.attr_of_tomorrow']
