"""Exports as predictors: the checkpoint's interface, and broken files."""

import io
import shutil
import sys
import zipfile

import numpy as np
import onnx
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.inference import preprocessing
from panet_tf.inference.exported import model_info
from panet_tf.inference.exported import runtimes
from panet_tf.structures import mask_windows
from tests.support import graph_outputs

_KINDS = {'tiny_tflite': runtimes.LiteRTPredictor,
          'tiny_onnx': runtimes.OnnxPredictor,
          'tiny_saved_model': runtimes.SavedModelPredictor,
          'tiny_full_image_masks': runtimes.SavedModelPredictor}


@pytest.fixture(name='opened', params=_KINDS, scope='module')
def _opened(request):
  return _KINDS[request.param](request.getfixturevalue(request.param))


def test_an_export_detects_what_its_checkpoint_does(opened, reference, images):
  assert opened.categories == reference.categories
  for image in images:
    ours, theirs = opened.detect(image), reference.detect(image)
    assert len(theirs) and ours.image_size == theirs.image_size
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours.boxes, theirs.boxes, rtol=0, atol=0.05)
    for name in ('boxes', 'scores', 'labels'):
      assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    if opened.info.full_image_masks:
      assert isinstance(ours.masks, mask_windows.MaskWindows)
    else:
      np.testing.assert_allclose(
          ours.masks.probabilities, theirs.masks.probabilities, rtol=0,
          atol=1e-3)


def test_masks_in_the_image_are_the_checkpoint_s(opened, reference, images):
  image = images[2]
  masks = [model(image).masks.images() for model in (opened, reference)]
  assert masks[0].dtype == bool and masks[0].shape == masks[1].shape
  assert masks[0].shape[1:] == image.shape[:2]
  assert (masks[0] != masks[1]).mean() < 1e-3
  assert masks[1].any()


def test_the_threshold_leaves_detections_out(opened, images):
  everything = opened.detect(images[0])
  threshold = float(np.sort(everything.scores)[4])
  found = graph_outputs.of(opened.detect(images[0], threshold))
  keep = everything.scores >= threshold
  assert keep.any() and not keep.all()
  for key, value in graph_outputs.of(everything[keep]).items():
    np.testing.assert_array_equal(found[key], value)
  none = opened(images[0], 2.0)
  assert none.masks.images().shape == (0, *images[0].shape[:2])


@pytest.mark.parametrize('image', [
    np.zeros([8, 8, 3], np.float32), np.zeros([8, 8, 4], np.uint8),
    np.zeros([8, 8], np.uint8), np.zeros([0, 8, 3], np.uint8)])
def test_an_image_must_be_rgb(opened, image):
  with pytest.raises(errors.InputError, match='must be uint8'):
    opened.detect(image)


_OUTPUTS = {
    'num_detections': np.int32([2]),
    'detection_boxes': np.float32([[[1, 2, 3, 4], [5, 6, 7, 8], [0] * 4]]),
    'detection_scores': np.float32([[0.9, 0.8, 0]]),
    'detection_classes': np.int32([[90, 7, 0]])}
_IMAGE = np.zeros([8, 8, 3], np.uint8)


def _info(**fields):
  return model_info.ModelInfo(**{
      'categories': [{'label': 1, 'id': 7, 'name': 'a'},
                     {'label': 2, 'id': 90, 'name': 'b'}],
      'preprocessing': preprocessing.Preprocessing(
          (8, 16), (8, 16), None, None, (0, 0, 0), (1, 1, 1)),
      'include_mask': False} | fields)


def _stub_onnx(path, info, batch_size='batch', **outputs):
  """An .onnx file whose outputs are constants, a row for each image."""
  outputs = _OUTPUTS | outputs
  make, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
  kinds = {'f': types.FLOAT, 'i': types.INT32}
  nodes = [onnx.helper.make_node(
      'Constant', [], [f'{name}_value'],
      value=onnx.numpy_helper.from_array(value))
           for name, value in outputs.items()]
  nodes += [onnx.helper.make_node('Identity', [f'{name}_value'], [name])
            for name in outputs]
  model = onnx.helper.make_model(onnx.helper.make_graph(
      nodes, 'stub',
      [make('inputs', types.FLOAT, [batch_size, 8, 16, 3]),
       make('image_info', types.FLOAT, [batch_size, 4, 2])],
      [make(name, kinds[value.dtype.kind], value.shape)
       for name, value in outputs.items()]),
      opset_imports=[onnx.helper.make_opsetid('', 17)], ir_version=8)
  if info:
    model.metadata_props.add(key='panet', value=info)
  onnx.save(model, path)
  return str(path)


def test_category_ids_become_labels_and_empty_rows_go(tmp_path):
  path = _stub_onnx(tmp_path / 'm.onnx', _info().to_json())
  found = runtimes.OnnxPredictor(path).detect(_IMAGE)
  assert found.masks is None
  assert found.labels.tolist() == [2, 1]
  assert found.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_category_that_no_one_knows_is_named(tmp_path):
  path = _stub_onnx(tmp_path / 'm.onnx', _info().to_json(),
                    detection_classes=np.int32([[90, 8, 0]]))
  with pytest.raises(errors.InputError, match='m.onnx: detects category 8'):
    runtimes.OnnxPredictor(path).detect(_IMAGE)


def test_a_file_of_fixed_batch_size_gets_that_many_images(tmp_path):
  path = _stub_onnx(tmp_path / 'm.onnx', _info().to_json(), batch_size=3)
  # ONNX Runtime refuses inputs of another shape.
  assert len(runtimes.OnnxPredictor(path).detect(_IMAGE))


def test_a_saved_model_of_fixed_batch_size_gets_that_many_images(tmp_path):
  class Stub(tf.Module):
    """Detects the same in every image."""

    @tf.function(input_signature=[
        tf.TensorSpec([3, None, None, 3], tf.uint8, 'inputs')])
    def image_tensor(self, inputs):
      return dict({key: tf.repeat(value, 3, 0)
                   for key, value in _OUTPUTS.items()}, image_info=inputs)

  stub = Stub()
  (tmp_path / 'assets').mkdir()
  stub.assets = [tf.saved_model.Asset(path) for path in
                 model_info.write_assets(_info(), str(tmp_path / 'assets'))]
  folder = str(tmp_path / 'model')
  tf.saved_model.save(stub, folder, {'image_tensor': stub.image_tensor})
  found = runtimes.SavedModelPredictor(folder).detect(_IMAGE)
  assert found.labels.tolist() == [2, 1]


@pytest.mark.parametrize('info,message', [
    (None, 'no metadata `panet`'), ('{', 'not a description'),
    (_info(include_mask=True).to_json(), 'lacks detection_masks'),
    (_info().to_json().replace('8', '9'), r'inputs is .*8, 16, 3\], but')])
def test_an_onnx_file_that_is_not_what_it_says_is_refused(
    tmp_path, info, message):
  path = _stub_onnx(tmp_path / 'm.onnx', info)
  _refused(runtimes.OnnxPredictor, path, message)


def _refused(kind, path, message=''):
  with pytest.raises(errors.InputError, match=message) as info:
    kind(path).detect(_IMAGE)
  assert '\n' not in str(info.value)
  assert str(info.value).startswith(path) and len(str(info.value)) < 500


_JUNK = [b'', b'x', b'\0' * 4096, b'\x1c\0\0\0TFL3' + bytes(range(256)) * 50,
         np.random.default_rng(0).bytes(10000), b'version https://git-lfs']


@pytest.mark.parametrize('junk', _JUNK, ids=range(len(_JUNK)))
@pytest.mark.parametrize('ending', ['tflite', 'onnx', 'pb'])
def test_junk_is_refused(tmp_path, junk, ending):
  path = tmp_path / f'saved_model.{ending}'
  if ending == 'tflite':
    archive = io.BytesIO(junk)  # The model is junk, its description is not.
    with zipfile.ZipFile(archive, 'a') as f:
      f.writestr('panet.json', _info().to_json())
    path.write_bytes(archive.getvalue())
    _refused(runtimes.LiteRTPredictor, str(path), 'not a .tflite model')
  path.write_bytes(junk)
  if ending == 'pb':
    (tmp_path / 'assets').mkdir()
    model_info.write_assets(_info(), str(tmp_path / 'assets'))
    _refused(runtimes.SavedModelPredictor, str(tmp_path))
  else:
    _refused(runtimes.LiteRTPredictor if ending == 'tflite' else
             runtimes.OnnxPredictor, str(path))


@pytest.mark.parametrize('export', ['tiny_tflite', 'tiny_onnx'])
def test_a_file_that_is_cut_off_is_refused(tmp_path, request, export):
  with open(request.getfixturevalue(export), 'rb') as f:
    whole = f.read()
  path = tmp_path / 'model'
  for size in (1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
    path.write_bytes(whole[:size])
    _refused(_KINDS[export], str(path))


@pytest.mark.parametrize('part', [
    'saved_model.pb', 'assets/panet.json', 'variables/variables.index',
    'variables/variables.data-00000-of-00001'])
def test_a_saved_model_with_half_a_file_is_refused(
    tmp_path, tiny_saved_model, part):
  folder = tmp_path / 'model'
  shutil.copytree(tiny_saved_model, folder)
  data = (folder / part).read_bytes()
  (folder / part).write_bytes(data[:len(data) // 2])
  _refused(runtimes.SavedModelPredictor, str(folder))


@pytest.mark.parametrize('text,message', [
    ('{', 'not a description'), (' ' * 2**25, 'more than'),
    (_info().to_json(), 'inputs is .*, but panet.json means')])
def test_a_tflite_file_that_is_not_what_it_says_is_refused(
    tmp_path, tiny_tflite, text, message):
  path = str(tmp_path / 'm.tflite')
  with open(tiny_tflite, 'rb') as f, open(path, 'wb') as copy:
    copy.write(f.read())
    with zipfile.ZipFile(copy, 'w', zipfile.ZIP_DEFLATED) as archive:
      archive.writestr('panet.json', text)
  _refused(runtimes.LiteRTPredictor, path, message)


@pytest.mark.parametrize('kind', _KINDS.values())
def test_a_path_that_is_not_there_is_named(tmp_path, kind):
  _refused(kind, str(tmp_path / 'x'), 'No such file')


@pytest.mark.parametrize('export,module,package', [
    ('tiny_tflite', 'ai_edge_litert.interpreter', 'ai-edge-litert'),
    ('tiny_onnx', 'onnxruntime', 'panet_tf.onnx.'),
    ('tiny_saved_model', 'tensorflow', 'tensorflow')])
def test_a_runtime_that_is_not_installed_is_named_with_its_package(
    request, monkeypatch, export, module, package):
  path = request.getfixturevalue(export)
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(errors.InputError, match=f'install "?{package}"?$'):
    _KINDS[export](path)
