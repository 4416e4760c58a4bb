"""A tiny run and its exports, each made once in a session of tests."""

import numpy as np
import pytest

from panet_tf import runs
from panet_tf.inference import predictor
from panet_tf.inference import preprocessing
from panet_tf.inference.exported import model_info
from panet_tf.serving import export_module
from panet_tf.serving.formats import onnx as onnx_lib
from panet_tf.serving.formats import saved_model as saved_model_lib
from panet_tf.serving.formats import tflite as tflite_lib
from tests.support import tiny_run as tiny_run_lib


@pytest.fixture(scope='session')
def tiny_run(tmp_path_factory) -> str:
  """Folder of a tiny run with masks."""
  return tiny_run_lib.write_run(tmp_path_factory.mktemp('tiny_run'))


@pytest.fixture(scope='session')
def reference(tiny_run) -> predictor.Predictor:
  """The checkpoint itself."""
  return predictor.Predictor(runs.Run.read(tiny_run))


@pytest.fixture(scope='session')
def images():
  """Images [H, W, 3] uint8 of several sizes, smooth enough for detections."""
  rng = np.random.default_rng(7)
  made = []
  for height, width in ((64, 64), (48, 64), (90, 50), (40, 120)):
    coarse = rng.uniform(0, 255, [height // 8, width // 8, 3])
    fine = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    made.append(np.clip(np.pad(
        fine, [(0, height - fine.shape[0]), (0, width - fine.shape[1]), (0, 0)],
        'edge') + rng.normal(0, 8, [height, width, 3]), 0, 255).astype(
            np.uint8))
  return made


@pytest.fixture(scope='session')
def tiny_tflite(tiny_run, tmp_path_factory) -> str:
  """The run as a .tflite file."""
  return _written(tiny_run, tmp_path_factory, 'tiny.tflite', tflite_lib.write,
                  formulation='builtin')


@pytest.fixture(scope='session')
def tiny_onnx(tiny_run, tmp_path_factory) -> str:
  """The run as an .onnx file."""
  return _written(tiny_run, tmp_path_factory, 'tiny.onnx', onnx_lib.write)


@pytest.fixture(scope='session')
def tiny_saved_model(tiny_run, tmp_path_factory) -> str:
  """The run as a SavedModel."""
  return _written(tiny_run, tmp_path_factory, 'tiny_saved_model',
                  saved_model_lib.write)


@pytest.fixture(scope='session')
def tiny_full_image_masks(tiny_run, tmp_path_factory) -> str:
  """The run as a SavedModel whose masks are as large as the image."""
  return _written(tiny_run, tmp_path_factory, 'full_image_masks',
                  saved_model_lib.write, full_image_masks=True)


def _written(run, tmp_path_factory, name, write, formulation='saved',
             full_image_masks=False):
  """Path of an export."""
  path = str(tmp_path_factory.mktemp('exported') / name)
  made = runs.Run.read(run)
  module = export_module.ExportModule(made, formulation)
  write(module, model_info.ModelInfo(
      made.categories,
      preprocessing.Preprocessing.from_dict(module.parser.eval_rule()),
      full_image_masks=full_image_masks), path)
  return path
