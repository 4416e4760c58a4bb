"""Reading the files of an export, and saying what is wrong with them."""

from collections.abc import Iterator
import contextlib
import os
import zipfile
import zlib

from panet_tf import errors
from panet_tf.inference.exported import model_info

SAVED_MODEL = 'saved_model.pb'
_AGAIN = 'it must be a model that export.py wrote, whole'


@contextlib.contextmanager
def failing(path: str, problem: str) -> Iterator[None]:
  """InputError for whatever a runtime raises; they have no common error."""
  try:
    yield
  except Exception as e:
    raise errors.InputError(f'{path}: {problem} ({_line(e)}); {_AGAIN}') from e


def check_file(path: str):
  """InputError if there is no file, or one that cannot be read or is empty."""
  try:
    with open(path, 'rb') as f:
      empty = not f.read(1)
  except OSError as e:
    raise errors.InputError(f'{path}: {e.strerror}; {_AGAIN}') from e
  if empty:
    raise errors.InputError(f'{path}: is empty; {_AGAIN}')


def info_of_saved_model(folder: str) -> model_info.ModelInfo:
  """Description among the assets of a SavedModel; InputError if broken."""
  check_file(os.path.join(folder, SAVED_MODEL))
  path = os.path.join(folder, 'assets', model_info.FILE)
  check_file(path)
  with open(path, 'rb') as f:
    return model_info.ModelInfo.read(f, path)


def info_of_tflite(path: str) -> model_info.ModelInfo:
  """Description in the archive behind a .tflite model; InputError if broken."""
  check_file(path)
  try:
    with zipfile.ZipFile(path) as archive, archive.open(model_info.FILE) as f:
      return model_info.ModelInfo.read(f, f'{path}: {model_info.FILE}')
  except errors.InputError:
    raise
  # All that zipfile raises: no archive, a damaged or an encrypted one.
  except (zipfile.BadZipFile, zlib.error, LookupError, ValueError, EOFError,
          OSError, RuntimeError) as e:
    raise errors.InputError(
        f'{path}: has no {model_info.FILE} ({_line(e)}); {_AGAIN}') from e


def versions(folder: str) -> list[str]:
  """SavedModels in a folder as TensorFlow Serving has it, the newest last."""
  return sorted((
      name for name in os.listdir(folder) if name.isdecimal()
      and os.path.exists(os.path.join(folder, name, SAVED_MODEL))), key=int)


def _line(error):
  return f'{" ".join(str(error).split()):.160}'
