"""The .tflite files of a tiny model, run by LiteRT's plain interpreter."""

import json
import subprocess
import sys
import zipfile

from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
import flatbuffers
from flatbuffers import number_types
import numpy as np
import pytest

from panet_tf import runs
from panet_tf.configs import panet
from panet_tf.inference import predictor as predictor_lib
from panet_tf.inference import preprocessing
from panet_tf.inference.exported import model_info
from panet_tf.serving import export_module
from panet_tf.serving.formats import tflite
from panet_tf.serving.formats import tflite_metadata
from tests.support import exported
from tests.support import graph_outputs
from tests.support import tiny
from tests.support import tiny_run as tiny_run_lib

# Of each type: least share of the checkpoint's detections found again within 4
# pixels, and the largest difference of their scores. The weights are random, so
# that scores are close and rounding moves boxes over the threshold of NMS.
FOUND_AGAIN = {'fp16': (0.95, 0.01), 'default': (0.8, 0.05),
               'int8_full_fp32_io': (0.75, 0.05)}


def load(run):
  """The export's two arguments."""
  made = runs.Run.read(run)
  module = export_module.ExportModule(made, formulation='builtin')
  return module, model_info.ModelInfo(
      made.categories,
      preprocessing.Preprocessing.from_dict(module.parser.eval_rule()),
      include_mask=made.model_config.include_mask)


@pytest.fixture(scope='module')
def loaded(tiny_run, made):
  with exported.written_once(made):
    yield load(tiny_run)


@pytest.fixture(scope='module')
def files_of(loaded, images, tmp_path_factory):
  """{quant_type: path}. The conversion, which is slow, is done once."""
  module, info = loaded
  content = tflite._convert(module, info.preprocessing.canvas)
  folder = tmp_path_factory.mktemp('tflite')
  paths = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tflite, '_convert', lambda *_: content)
    for quant_type in ('', *FOUND_AGAIN):
      paths[quant_type] = str(folder / f'model{quant_type}.tflite')
      tflite.write(module, info, paths[quant_type], quant_type=quant_type,
                   calibration=(image for image in images))
  return paths


def run(path, rule, image):
  """Detections of an image, without the empty rows."""
  inputs, image_info = rule(image)
  runner = litert.Interpreter(path).get_signature_runner()
  outputs = runner(inputs=inputs, image_info=image_info)
  count = outputs.pop('num_detections')[0]
  for value in outputs.values():
    assert not value[0, count:].any()
  return {key: value[0, :count] for key, value in outputs.items()}


def detect(reference, image):
  """The checkpoint's detections with category ids."""
  return graph_outputs.of(
      reference.detect(image), [c['id'] for c in reference.categories])


def assert_same(found, expected, probability=1e-4):
  """To 0.05 pixels and this of a probability, in the same order."""
  assert len(expected['detection_scores']) > 0
  assert set(found) == set(expected) | {'detection_boxes_normalized'}
  for key, value in expected.items():
    np.testing.assert_allclose(
        found[key], value, rtol=0,
        atol=0.05 if key == 'detection_boxes' else probability, err_msg=key)


def test_float32_equals_the_checkpoint(files_of, loaded, reference, images):
  rule = loaded[1].preprocessing
  for image in images:
    found = run(files_of[''], rule, image)
    assert_same(found, detect(reference, image))
    np.testing.assert_allclose(
        found['detection_boxes_normalized'],
        found['detection_boxes'] / np.tile(image.shape[:2], 2), rtol=1e-5)


@pytest.mark.parametrize('quant_type', FOUND_AGAIN)
def test_quantised_models_find_nearly_the_same(
    quant_type, files_of, loaded, reference, images):
  least_share, most = FOUND_AGAIN[quant_type]
  again = []
  for image in images:
    found = run(files_of[quant_type], loaded[1].preprocessing, image)
    expected = detect(reference, image)
    boxes, scores, classes = (
        np.abs(expected[key][:, None] - found[key][None]) for key in (
            'detection_boxes', 'detection_scores', 'detection_classes'))
    alike = (boxes.max(-1) < 4) & (scores < most) & (classes == 0)
    again.extend(alike.any(1))
  assert np.mean(again) >= least_share


def test_quantised_models_are_smaller(files_of):
  sizes = {key: sum(len(buffer.data) for buffer in flatbuffer_utils.read_model(
      path).buffers if buffer.data is not None)
           for key, path in files_of.items()}
  assert sizes['fp16'] < 0.6 * sizes['']
  assert sizes['default'] < 0.4 * sizes['']
  assert sizes['int8_full_fp32_io'] < 0.4 * sizes['']


def tensor_types(path):
  """Every (op, type of its first output)."""
  model = flatbuffer_utils.read_model(path)
  graph = model.subgraphs[0]
  return {(flatbuffer_utils.opcode_to_name(model, op.opcodeIndex),
           graph.tensors[op.outputs[0]].type) for op in graph.operators}


def test_int8_layers_have_8_bits_and_box_arithmetic_has_32(files_of):
  kinds = tensor_types(files_of['int8_full_fp32_io'])

  def of(name):
    return {kind for op, kind in kinds if op == name}

  for name in ('CONV_2D', 'FULLY_CONNECTED', 'TRANSPOSE_CONV'):
    assert of(name) == {schema.TensorType.INT8}, name
  for name in ('EXP', 'SUB', 'MUL', 'SOFTMAX', 'TOPK_V2'):
    assert schema.TensorType.INT8 not in of(name), name
  runner = litert.Interpreter(
      files_of['int8_full_fp32_io']).get_signature_runner()
  assert runner.get_input_details()['inputs']['dtype'] == np.float32


def test_all_ops_are_built_in_and_counted(files_of):
  for path in files_of.values():
    with open(path, 'rb') as f:
      counts = tflite.op_counts(f.read())
    assert not [name for name in counts if name.startswith(('CUSTOM', 'Flex'))]
    graphs = flatbuffer_utils.read_model(path).subgraphs
    assert sum(counts.values()) == sum(len(g.operators) for g in graphs)
  assert counts['NON_MAX_SUPPRESSION_V4'] == 5 + 4  # Levels and classes.


def test_an_op_of_tensorflow_is_refused(
    files_of, loaded, monkeypatch, tmp_path):
  model = flatbuffer_utils.read_model(files_of[''])
  code = model.operatorCodes[0]
  code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
  code.customCode = 'FlexRound'
  content = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
  monkeypatch.setattr(tflite, '_convert', lambda *_: content)
  with pytest.raises(RuntimeError, match='CUSTOM FlexRound'):
    tflite.write(*loaded, str(tmp_path / 'model.tflite'))
  assert not list(tmp_path.iterdir())


def test_the_signature_has_the_contracts_names(files_of):
  signature = litert.Interpreter(files_of['']).get_signature_list()
  assert signature == {'serving_default': {
      'inputs': ['image_info', 'inputs'],
      'outputs': ['detection_boxes', 'detection_boxes_normalized',
                  'detection_classes', 'detection_masks', 'detection_scores',
                  'num_detections']}}


@pytest.mark.parametrize('quant_type', ['', 'int8_full_fp32_io'])
def test_metadata_says_names_normalisation_and_labels(
    quant_type, files_of, loaded):
  with open(files_of[quant_type], 'rb') as f:
    content = f.read()
  model = schema.Model.GetRootAs(content)
  entries = [model.Metadata(i) for i in range(model.MetadataLength())]
  buffer, = [e.Buffer() for e in entries if e.Name() == b'TFLITE_METADATA']
  data = bytes(model.Buffers(buffer).DataAsNumpy())
  assert data[4:8] == b'M001'
  root = Table.root(data)
  assert root.text(0) == 'PANet'
  assert [file.text(0) for file in root.tables(6)] == ['panet.json']
  graph, = root.tables(3)
  tensors = {tensor.text(0): tensor
             for tensor in [*graph.tables(2), *graph.tables(3)]}
  image, = tensors['inputs'].tables(4)
  rule = loaded[1].preprocessing
  np.testing.assert_allclose(image.table(1).floats(0), rule.mean)
  np.testing.assert_allclose(image.table(1).floats(1), rule.stddev)
  labels, = tensors['detection_classes'].tables(6)
  assert labels.text(0) == 'labels.txt'
  # In order of the graph's inputs and outputs, as the standard has it.
  signature, interpreter = model.SignatureDefs(0), model.Subgraphs(0)
  names = {tensor.TensorIndex(): tensor.Name().decode() for tensor in [
      *map(signature.Inputs, range(signature.InputsLength())),
      *map(signature.Outputs, range(signature.OutputsLength()))]}
  order = [*interpreter.InputsAsNumpy(), *interpreter.OutputsAsNumpy()]
  assert list(tensors) == [names[index] for index in order]


class Table(flatbuffers.table.Table):
  """A flatbuffer table read by the numbers of its fields."""

  @classmethod
  def root(cls, data):
    return cls(data, flatbuffers.encode.Get(
        number_types.UOffsetTFlags.packer_type, data, 0))

  def _at(self, number):
    return self.Offset(4 + 2 * number)

  def text(self, number):
    return self.String(self._at(number) + self.Pos).decode()

  def table(self, number):
    return Table(self.Bytes, self.Indirect(self._at(number) + self.Pos))

  def tables(self, number):
    start = self.Vector(self._at(number))
    return [Table(self.Bytes, self.Indirect(start + 4 * i))
            for i in range(self.VectorLen(self._at(number)))]

  def floats(self, number):
    return self.GetVectorAsNumpy(number_types.Float32Flags, self._at(number))


def test_any_unzip_reads_labels_and_description(files_of, loaded):
  for path in files_of.values():
    with zipfile.ZipFile(path) as archive:
      assert archive.testzip() is None
      assert archive.namelist() == ['labels.txt', 'panet.json']
      assert archive.read('labels.txt').decode().splitlines() == [
          'thing 1', 'thing 2', 'thing 3', 'thing 4']
      text = archive.read('panet.json').decode()
    assert model_info.ModelInfo.from_json(text, path) == loaded[1]


def test_the_same_model_gives_the_same_file(files_of, loaded):
  content = flatbuffer_utils.read_model(files_of[''])
  content.metadata = None
  content = bytes(flatbuffer_utils.convert_object_to_bytearray(content))
  first, second = (tflite_metadata.append_files(
      tflite_metadata.add_metadata(content, loaded[1]), loaded[1])
                   for _ in range(2))
  assert first == second


WITHOUT_TENSORFLOW = """
import sys
sys.modules.update(dict.fromkeys(['tensorflow', 'tf_keras', 'official']))
import numpy as np
from ai_edge_litert import interpreter
path, given, wanted = sys.argv[1:]
runner = interpreter.Interpreter(path).get_signature_runner()
np.savez(wanted, **runner(**np.load(given)))
"""


def test_it_runs_where_there_is_no_tensorflow(
    files_of, loaded, images, tmp_path):
  rule = loaded[1].preprocessing
  inputs, image_info = rule(images[0])
  given, wanted = tmp_path / 'given.npz', tmp_path / 'wanted.npz'
  np.savez(given, inputs=inputs, image_info=image_info)
  subprocess.run([sys.executable, '-c', WITHOUT_TENSORFLOW, files_of[''], given,
                  wanted], check=True, timeout=120)
  expected = run(files_of[''], rule, images[0])
  with np.load(wanted) as found:
    count = found['num_detections'][0]
    assert count == len(expected['detection_scores']) > 0
    for key, value in expected.items():
      np.testing.assert_array_equal(found[key][0, :count], value)


@pytest.mark.slow
@pytest.mark.parametrize('params, probability', [
    # Groups of two channels are divided by differences near 0: rounding grows.
    (tiny.group_params(
        adaptive_feature_pooling=False, backbone=panet.Backbone(
            model_id=18, width_multiplier=0.125, normalization='frozen')),
     1e-3),
    (tiny.params(include_mask=False), 1e-4),
], ids=['single level, group normalization', 'boxes only'])
def test_other_models_equal_their_checkpoints(
    params, probability, images, tmp_path):
  made = tiny_run_lib.write_run(tmp_path, params)
  module, info = load(made)
  path = str(tmp_path / 'model.tflite')
  tflite.write(module, info, path)
  reference = predictor_lib.Predictor(runs.Run.read(made))
  expected = detect(reference, images[0])
  assert ('detection_masks' in expected) == info.include_mask
  assert_same(run(path, info.preprocessing, images[0]), expected, probability)
  with zipfile.ZipFile(path) as archive:
    assert json.loads(archive.read('panet.json'))[
        'include_mask'] == info.include_mask
