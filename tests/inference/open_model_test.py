"""Any model by its path, and the same predictions.json from all of them."""

import json
import os
import subprocess
import sys

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils
import pytest

from panet_tf import errors
from panet_tf.configs import overrides
from panet_tf.inference import open_model
from panet_tf.inference import predictor
from panet_tf.inference.exported import runtimes
from panet_tf.prediction import predict

_EXPORTS = ('tiny_tflite', 'tiny_onnx', 'tiny_saved_model',
            'tiny_full_image_masks')


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory, images):
  """Images of every odd kind."""
  folder = tmp_path_factory.mktemp('odd')
  pictures = [Image.fromarray(image) for image in images]
  pictures[0].save(folder / 'plain.png')
  pictures[1].convert('L').save(folder / 'grey.png')
  pictures[2].convert('RGBA').save(folder / 'alpha.png')
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned by 90 degrees.
  pictures[3].save(folder / 'turned.jpg', exif=exif, quality=95)
  pictures[0].resize([1, 1]).save(folder / 'dot.png')
  pictures[3].resize([300, 20]).save(folder / 'wide.png')
  pictures[2].resize([333, 517]).convert('P').save(folder / 'palette.gif')
  return str(folder)


def _predictions(model, folder, output):
  predict.predict(model, folder, str(output), score_threshold=0.3)
  return json.loads((output / 'predictions.json').read_text())


@pytest.fixture(name='expected', scope='module')
def _expected(tiny_run, folder, tmp_path_factory):
  """predictions.json of the checkpoint, and where its pictures are."""
  output = tmp_path_factory.mktemp('checkpoint')
  return _predictions(tiny_run, folder, output), output


@pytest.mark.parametrize('export', _EXPORTS)
def test_an_export_writes_the_predictions_of_its_checkpoint(
    request, tmp_path, folder, expected, export):
  theirs, pictures = expected
  ours = _predictions(request.getfixturevalue(export), folder, tmp_path)
  assert {r['image_id'] for r in ours} == set(os.listdir(folder))
  for name in ('image_id', 'category_id'):
    assert [r[name] for r in ours] == [r[name] for r in theirs]
  for name, tolerance in (('score', 1e-4), ('bbox', 0.05)):
    np.testing.assert_allclose([r[name] for r in ours],
                               [r[name] for r in theirs], atol=tolerance)
  assert ours[0].keys() == theirs[0].keys()
  seen = 0
  for our, their in zip(ours, theirs, strict=True):
    masks = our['segmentation'], their['segmentation']
    assert masks[0]['size'] == masks[1]['size']
    if mask_utils.area(masks[1]):
      seen += 1
      assert mask_utils.iou(*([mask] for mask in masks), [0])[0, 0] >= 0.99
    else:
      assert not mask_utils.area(masks[0])
  assert seen > len(theirs) / 2
  assert sorted(os.listdir(tmp_path)) == sorted(os.listdir(pictures))
  drawn, wanted = (np.asarray(Image.open(path / 'plain.png'), np.float32)
                   for path in (tmp_path, pictures))
  assert np.abs(drawn - wanted).mean() < 0.5


_ALONE = '''
import sys

class Blocked:
  def find_spec(self, name, path=None, target=None):
    if name.split('.')[0] in ('tensorflow', 'official', 'tf_keras', 'keras'):
      raise ImportError(f'{name} is blocked')

sys.meta_path.insert(0, Blocked())
from panet_tf.prediction import predict
predict.predict(*sys.argv[1:])
'''


@pytest.mark.parametrize('export', ['tiny_tflite', 'tiny_onnx'])
def test_files_are_predicted_from_without_tensorflow(
    request, tmp_path, folder, expected, export):
  subprocess.run(
      [sys.executable, '-c', _ALONE, request.getfixturevalue(export), folder,
       str(tmp_path)], check=True,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
  ours = json.loads((tmp_path / 'predictions.json').read_text())
  assert len(ours) == len(expected[0])


@pytest.mark.parametrize('export,kind', [
    ('tiny_tflite', runtimes.LiteRTPredictor),
    ('tiny_onnx', runtimes.OnnxPredictor),
    ('tiny_saved_model', runtimes.SavedModelPredictor),
    ('tiny_run', predictor.Predictor)])
def test_a_path_says_what_the_model_is(request, export, kind):
  found = open_model.open_model(request.getfixturevalue(export))
  assert isinstance(found, kind)
  assert [c['id'] for c in found.categories] == [3, 7, 20, 90]


def test_endings_may_be_in_capitals_and_folders_have_none(
    tmp_path, tiny_tflite, tiny_saved_model):
  (tmp_path / 'A.TFLITE').symlink_to(tiny_tflite)
  (tmp_path / 'model.onnx').symlink_to(tiny_saved_model)
  assert isinstance(open_model.open_model(str(tmp_path / 'A.TFLITE')),
                    runtimes.LiteRTPredictor)
  assert isinstance(open_model.open_model(str(tmp_path / 'model.onnx')),
                    runtimes.SavedModelPredictor)


def test_of_a_folder_of_versions_the_newest_is_taken(
    tmp_path, tiny_saved_model):
  (tmp_path / '10').symlink_to(tiny_saved_model)
  (tmp_path / '11').mkdir()  # A version is there when its saved_model.pb is.
  (tmp_path / 'assets').mkdir()
  (tmp_path / '9').mkdir()
  (tmp_path / '9' / 'saved_model.pb').write_bytes(b'old')
  assert isinstance(open_model.open_model(str(tmp_path)),
                    runtimes.SavedModelPredictor)
  (tmp_path / '11' / 'saved_model.pb').write_bytes(b'new')
  with pytest.raises(errors.InputError, match='11/assets/panet.json: No such'):
    open_model.open_model(str(tmp_path))


@pytest.mark.parametrize('options', [
    {'experiment': 'panet_coco'}, {'config_files': ['a.yaml']},
    {'params_override': 'task: {}'}])
@pytest.mark.parametrize('name', ['m.tflite', 'm.onnx', '3'])
def test_an_export_takes_no_configuration(tmp_path, name, options):
  (tmp_path / '3').mkdir()
  (tmp_path / '3' / 'saved_model.pb').write_bytes(b'')
  with pytest.raises(errors.InputError, match='goes with a checkpoint; .*'
                     f'{name} is an exported model'):
    open_model.open_model(
        str(tmp_path / name), overrides.Overrides(**options))


def test_a_path_without_a_model_is_answered_with_what_there_could_be(tmp_path):
  with pytest.raises(errors.InputError, match='no model; it must be a checkp'):
    open_model.open_model(str(tmp_path / 'ckpt-1'))
  with pytest.raises(errors.InputError, match='no checkpoint .* no SavedMod'):
    open_model.open_model(str(tmp_path))
  (tmp_path / 'model.tflite').write_bytes(b'')
  with pytest.raises(errors.InputError, match='itself: .*/model.tflite$'):
    open_model.open_model(str(tmp_path))
  (tmp_path / 'ckpt-3.index').write_bytes(b'')
  with pytest.raises(errors.InputError, match='holds no checkpoint'):
    open_model.open_model(str(tmp_path))
