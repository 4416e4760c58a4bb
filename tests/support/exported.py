"""A tiny run and its exports, each made once for all tests.

`make test` names a folder in PANET_TEST_ARTEFACTS: what one process made there
is made for the others. Without it they are made once in a session.
"""

import contextlib
import copy
import fcntl
import functools
import hashlib
import inspect
import os
import pathlib
import shutil

import numpy as np
import onnx
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


class Made:
  """A folder of what was made, by name; each is made once."""

  def __init__(self, folder):
    self.folder = pathlib.Path(folder)

  def path(self, name, make) -> str:
    """Path of `name`; `make(path)` makes it where nobody has.

    Another process may be making it: then it is waited for.
    """
    path = self.folder / name
    with open(self.folder / f'{name}.lock', 'w', encoding='utf-8') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX)
      if not path.exists():
        # Whole or not at all: the process may be killed.
        unfinished = self.folder / f'unfinished.{os.getpid()}' / name
        unfinished.parent.mkdir(exist_ok=True)
        make(str(unfinished))
        unfinished.rename(path)
    return str(path)


@pytest.fixture(scope='session')
def made(tmp_path_factory) -> Made:
  """What this run of the tests made."""
  return Made(os.environ.get('PANET_TEST_ARTEFACTS') or
              tmp_path_factory.mktemp('made'))


@pytest.fixture(scope='session')
def tiny_run(made) -> str:
  """Folder of a tiny run with masks."""

  def write(path):
    os.mkdir(path)
    tiny_run_lib.write_run(pathlib.Path(path))

  return made.path('tiny_run', write)


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
def tiny_tflite(tiny_run, made) -> str:
  """The run as a .tflite file."""
  return _written(tiny_run, made, 'tiny.tflite', tflite_lib,
                  formulation='builtin')


@pytest.fixture(scope='session')
def tiny_onnx(tiny_run, made) -> str:
  """The run as an .onnx file."""
  return _written(tiny_run, made, 'tiny.onnx', onnx_lib)


@pytest.fixture(scope='session')
def tiny_saved_model(tiny_run, made) -> str:
  """The run as a SavedModel."""
  return _written(tiny_run, made, 'tiny_saved_model', saved_model_lib)


@pytest.fixture(scope='session')
def tiny_full_image_masks(tiny_run, made) -> str:
  """The run as a SavedModel whose masks are as large as the image."""
  return _written(tiny_run, made, 'full_image_masks', saved_model_lib,
                  full_image_masks=True, input_type='tflite')


def _written(run, made, name, format_, formulation='saved',
             full_image_masks=False, **options):
  """Path of an export."""

  def write(path):
    with written_once(made):
      module = export_module.ExportModule(runs.Run.read(run), formulation)
      info = description(
          module, runs.Run.read(run), full_image_masks=full_image_masks)
      format_.write(module, info, path, **options)

  return made.path(name, write)


def description(module, run, **fields):
  """What goes with an export of a run."""
  return model_info.ModelInfo(
      run.categories,
      preprocessing.Preprocessing.from_dict(module.parser.eval_rule()),
      **fields)


@contextlib.contextmanager
def written_once(made):
  """Exports of one checkpoint in one way are copies of the first.

  In here, `ExportModule` and `Predictor` of a run are built once, and its
  conversions to the formats are those of an earlier time, if there was one.
  What a test changed before writing needs `write.__wrapped__`.
  """
  modules, predictors = {}, {}

  def module_of(run, formulation='saved'):
    key = _key(run.checkpoint, run.params.as_dict(), formulation)
    if key not in modules:
      modules[key] = build(run, formulation)
      modules[key].made_of = key
    return modules[key]

  def predictor_of(run):
    key = _key(run.checkpoint, run.params.as_dict())
    if key not in predictors:
      predictors[key] = predict(run)
    return copy.copy(predictors[key])  # Whose attributes may be set.

  def once(write, kind, counts_of):
    @functools.wraps(write)
    def copied(module, info, path, **options):
      given = inspect.signature(write).bind(module, info, path, **options)
      given.apply_defaults()
      _copy(made.path(f'{kind}.{_key(module.made_of, info, given.kwargs)}',
                      lambda path: write(module, info, path, **options)), path)
      return counts_of(path)
    return copied

  def converted(module, *arguments):
    def write(path):
      pathlib.Path(path).write_bytes(convert(module, *arguments))
    return pathlib.Path(made.path(
        f'converted.{_key(module.made_of, arguments)}', write)).read_bytes()

  build, predict, convert = (
      export_module.ExportModule, predictor.Predictor, tflite_lib._convert)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(export_module, 'ExportModule', module_of)
    patch.setattr(predictor, 'Predictor', predictor_of)
    for format_, kind, counts_of in (
        (saved_model_lib, 'saved_model', lambda path: None),
        (onnx_lib, 'onnx',
         lambda path: onnx_lib.op_counts(onnx.load(path)))):
      patch.setattr(format_, 'write', once(format_.write, kind, counts_of))
    patch.setattr(tflite_lib, '_convert', converted)
    yield


def _key(*what):
  return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _copy(source, target):
  if os.path.isdir(source):
    shutil.copytree(source, target)
  else:
    shutil.copyfile(source, target)
