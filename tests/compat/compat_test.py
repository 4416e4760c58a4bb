"""A run and its exports that were made at 6478ca8 are read, and detect alike.

The run is a tiny model with rounded random weights; expected.npz has four
images and what the checkpoint detected in them then.
"""

import pathlib
import tarfile

import numpy as np
import pytest

from panet_tf.inference import open_model

_HERE = pathlib.Path(__file__).parent
_NUM_IMAGES = 4


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """Folder with run/, exports/ and expected.npz."""
  folder = tmp_path_factory.mktemp('made_at_6478ca8')
  for name in ('run', 'exports'):
    with tarfile.open(_HERE / f'{name}_made_at_6478ca8.tar.xz') as archive:
      archive.extractall(folder, filter='data')
  return folder


@pytest.mark.parametrize('path', [
    'run', 'exports/saved_model', 'exports/model.tflite',
    'exports/model.onnx'])
def test_what_was_made_before_detects_the_same(made, path):
  expected = np.load(made / 'expected.npz')
  model = open_model.open_model(str(made / path))
  assert [c['id'] for c in model.categories] == [3, 7, 20, 90]
  for i in range(_NUM_IMAGES):
    found = model.detect(expected[f'image_{i}'])
    np.testing.assert_allclose(
        found.scores, expected[f'detection_scores_{i}'],
        atol=1e-5)
    np.testing.assert_array_equal(
        found.labels, expected[f'detection_classes_{i}'])
    np.testing.assert_allclose(
        found.boxes, expected[f'detection_boxes_{i}'], atol=1e-3)
    np.testing.assert_allclose(  # Kept as float16.
        found.masks.probabilities, expected[f'detection_masks_{i}'], atol=1e-3)
