"""`import panet_tf`: light, and what it offers."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import panet_tf
from panet_tf.inference import open_model
from tests.support import fake_detector

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _python(code):
  """What a fresh interpreter prints."""
  return subprocess.run(
      [sys.executable, '-c', code], cwd=ROOT, check=True, capture_output=True,
      text=True).stdout.strip()


def test_the_import_is_light():
  loaded = _python(
      'import sys, panet_tf; dir(panet_tf); print(*sys.modules)').split()
  assert not {'numpy', 'tensorflow', 'tf_keras', 'official'} & set(loaded)


def test_detections_and_opening_need_no_tensorflow():
  loaded = _python('import sys, panet_tf; panet_tf.open_model, '
                   'panet_tf.Detections; print(*sys.modules)').split()
  assert not {'tensorflow', 'tf_keras', 'official'} & set(loaded)


def test_every_name_is_listed_and_a_wrong_one_is_an_error():
  assert set(panet_tf.__all__) <= set(dir(panet_tf))
  for name in panet_tf.__all__:
    assert getattr(panet_tf, name)
  with pytest.raises(AttributeError, match="no attribute 'Detection'"):
    _ = panet_tf.Detection


def test_names_are_those_of_their_rooms():
  from panet_tf.modeling import bottom_up_path
  from panet_tf.structures import detections
  assert panet_tf.open_model is open_model.open_model
  assert panet_tf.Detections is detections.Detections
  assert panet_tf.layers.BottomUpPath is bottom_up_path.BottomUpPath


def _code(page):
  return '\n'.join(re.findall(
      r'```python\n(.*?)```', (ROOT / page).read_text('utf-8'), re.DOTALL))


def test_the_lines_of_the_readme_run(monkeypatch):
  monkeypatch.setattr(open_model, 'open_model',
                      lambda path: fake_detector.FakeDetector())
  names = {'image': np.full((48, 64, 3), 200, np.uint8)}
  exec(_code('README.md'), names)
  found = names['found']
  assert isinstance(found, panet_tf.Detections) and len(found)
  assert found.masks.images().shape == (len(found), 48, 64)


def test_the_layers_work_in_a_model_of_somebody_else(tmp_path):
  names = {}
  exec(_code('docs/layers.md'), names)
  assert [tuple(x.shape) for x in names['found']] == [
      (4, 1, 3), (4, 1, 12), (4, 1, 28, 28)]
  # The bottom-up path trained with the rest, and all of it can be kept.
  path = names['model'].get_layer('bottom_up_path')
  assert {v.name.split('/')[1] for v in path.trainable_variables} == {
      'down_2', 'fuse_3', 'down_3', 'fuse_4', 'down_4', 'fuse_5'}
  names['heads'].save(tmp_path / 'heads.keras')
  again = names['tf_keras'].models.load_model(tmp_path / 'heads.keras')
  for ours, theirs in zip(again(names['given']), names['found'], strict=True):
    assert (ours.numpy() == theirs.numpy()).all()
