"""The SavedModel in TensorFlow 2.17, the last with TensorRT, without our code.

`make test` makes that environment from tf217_requirements.txt; the variable
PANET_TF217_PYTHON names the interpreter of another one.
"""

import json
import os
import pathlib
import subprocess

import numpy as np
from PIL import Image
import pytest

from panet_tf.serving.formats import graph_check
from panet_tf.serving.formats import tensorrt
from tests.support import graph_outputs
from tests.support import tensorrt_ops

_HERE = pathlib.Path(__file__).resolve().parent
_ROOT = _HERE.parents[2]


@pytest.fixture(scope='module', name='python')
def find_python() -> str:
  path = os.environ.get(
      'PANET_TF217_PYTHON', str(_ROOT / '.venv-tf217' / 'bin' / 'python'))
  if not os.path.exists(path):
    pytest.skip(f'{path} is absent: a Python with tensorflow-cpu==2.17.1 only, '
                'see tests/serving/formats/tf217_requirements.txt')
  return path


def run(python, folder, script, *arguments):
  """What a script prints; -I keeps this project out of its reach."""
  done = subprocess.run(
      [python, '-I', str(_HERE / script), *map(str, arguments)], cwd=folder,
      env={'TF_CPP_MIN_LOG_LEVEL': '3'}, capture_output=True, text=True,
      timeout=600, check=False)
  assert not done.returncode, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.fixture(scope='module', name='outcome')
def run_exported(python, tiny_saved_model, images, tmp_path_factory):
  """run_saved_model.py's report and its outputs."""
  folder = tmp_path_factory.mktemp('outcome')
  np.savez(folder / 'images.npz', **{
      str(i): image for i, image in enumerate(images)})
  report, _ = run(python, folder, 'run_saved_model.py', tiny_saved_model,
                  'images.npz', 'outputs.npz')
  with np.load(folder / 'outputs.npz') as archive:
    return report, dict(archive)


@pytest.fixture(scope='module', name='wanted')
def detect(reference, images):
  """The checkpoint's detections of each image, classes as category ids."""
  ids = [c['id'] for c in reference.categories]
  return [graph_outputs.of(reference.detect(image), ids) for image in images]


def test_tensorflow_2_17_runs_it_without_our_code(outcome):
  report, _ = outcome
  assert report['version'].startswith('2.17.')
  assert report['importable'] == []
  assert set(report['signatures']) == {
      'image_tensor', 'image_bytes', 'tf_example', 'serving_default'}


def test_2_17_knows_every_op_and_attribute(outcome):
  assert outcome[0]['unknown'] == []


def test_2_17_loads_it_without_a_warning(outcome):
  assert outcome[0]['warnings'] == []


@pytest.mark.parametrize('signature', [
    'image_tensor', 'image_bytes', 'tf_example', 'batch'])
def test_2_17_detects_what_the_checkpoint_detects(
    outcome, wanted, images, signature):
  for i, image in enumerate(images):
    found = {key.rpartition('/')[2]: value for key, value in outcome[1].items()
             if key.startswith(f'{signature}/{i}/')}
    assert found['image_info'][0].tolist() == list(image.shape[:2])
    check_same(wanted[i], found)


def check_same(wanted, found):
  count = len(wanted['detection_scores'])
  assert count > 3 and found['num_detections'] == count
  np.testing.assert_array_equal(
      found['detection_classes'][:count], wanted['detection_classes'])
  np.testing.assert_allclose(
      found['detection_scores'][:count], wanted['detection_scores'],
      rtol=0, atol=1e-4)
  np.testing.assert_allclose(
      found['detection_boxes'][:count], wanted['detection_boxes'],
      rtol=0, atol=0.05)
  assert min(mask_ious(wanted['detection_masks'],
                       found['detection_masks'][:count])) >= 0.999
  for key, value in found.items():
    if key.startswith('detection_'):
      assert not value[count:].any(), key


def mask_ious(masks, others):
  """IoU of each pair; a cell within 1e-4 of 0.5 may be on either side."""
  for mask, other in zip(masks, others, strict=True):
    clear = np.abs(mask - 0.5) > 1e-4
    a, b = (mask >= 0.5) & clear, (other >= 0.5) & clear
    yield (a & b).sum() / (a | b).sum() if (a | b).any() else 1.0


def test_it_needs_neither_python_nor_xla(tiny_saved_model):
  ops = graph_check.ops_of(tiny_saved_model)
  assert ops['CropAndResize'] and ops['CombinedNonMaxSuppression']
  assert graph_check.check(tiny_saved_model) == []


def test_tensorrt_converts_all_of_backbone_neck_and_heads(tiny_saved_model):
  ops = tensorrt_ops.network_ops(tiny_saved_model)
  # ResNet-18: 1 + 16 + 3 projections; FPN 4 + 4 and 2 per step of the path up;
  # 3 on each of 5 levels; one for each of 4 levels and what follows.
  assert {part: count['Conv2D'] for part, count in ops.items()} == {
      'backbone': 20, 'decoder': 14, 'rpn_head': 15, 'detection_head': 7,
      'mask_head': 9}
  assert tensorrt_ops.unconvertible(tiny_saved_model) == {}


def test_the_real_converter_takes_all_but_the_engines(
    python, tiny_saved_model, images, wanted, tmp_path):
  Image.fromarray(images[0]).save(tmp_path / 'image.png')
  done, stderr = run(
      python, tmp_path, 'run_tensorrt.py', tensorrt.__file__,
      tiny_saved_model, tmp_path / 'converted', json.dumps({
          'images': str(tmp_path / '*.png'), 'precision': 'INT8'}))
  assert done['missing'] == 2  # Before the script pretends to have a GPU.
  assert 'nvcr.io/nvidia/tensorflow' in stderr
  assert done['runs'] == 2  # To find shapes and to calibrate.
  assert {'backbone', 'decoder', 'rpn_head', 'detection_head', 'mask_head',
          'preprocessing', 'pooling', 'nms'} <= set(
              done['report']['in_tensorflow'])
  assert done['report']['precision'] == 'INT8'
  assert sorted(os.listdir(tmp_path / 'converted' / 'assets')) == [
      'labels.txt', 'panet.json']
  with np.load(tmp_path / 'outputs.npz') as archive:
    check_same(wanted[0], dict(archive))
