"""Names of the files of a run, and writing files whole or not at all."""

from collections.abc import Iterable, Iterator
import contextlib
import itertools
import json
import os
import shutil
from typing import Any

import yaml

from panet_tf import errors

PARAMS = 'params.yaml'
DATASET_INFO = 'dataset.json'  # Names and ids of the categories.


def make_folder(path: str):
  """Makes a folder and its parents; InputError if that cannot be."""
  try:
    os.makedirs(path, exist_ok=True)
  except OSError as e:
    raise errors.InputError(
        f'{path}: {e.strerror}; expected a folder to write to') from e


@contextlib.contextmanager
def written_whole(path: str) -> Iterator[str]:
  """Yields a temporary name; what is there in the end is moved to `path`.

  Raises:
    InputError: `path` cannot be written. Whatever fails, no file is left.
  """
  temporary = f'{path}.{os.getpid()}.tmp'
  try:
    yield temporary
    os.replace(temporary, path)
  except OSError as e:
    raise errors.InputError(f'{path}: {e.strerror or e}; expected a file that '
                            'can be written') from e
  finally:
    with contextlib.suppress(OSError):
      os.remove(temporary)


def check_new_folder(path: str):
  """Raises InputError if there is something at `path` but an empty folder."""
  if os.path.exists(path) and not (os.path.isdir(path)
                                   and not os.listdir(path)):
    raise errors.InputError(f'{path}: is not empty; expected a new folder')


@contextlib.contextmanager
def folder_written_whole(path: str) -> Iterator[str]:
  """Yields a temporary folder that becomes `path` in the end.

  Raises:
    InputError: `path` is there already and not empty, or cannot be written.
      Whatever fails, no file is left.
  """
  path = os.path.realpath(path)  # A link's target is what can be replaced.
  check_new_folder(path)
  make_folder(os.path.dirname(path))
  temporary = f'{path}.{os.getpid()}.tmp'
  try:
    os.mkdir(temporary)
    yield temporary
    os.replace(temporary, path)
  except OSError as e:
    raise errors.InputError(
        f'{path}: {e.strerror or e}; expected a folder to write to') from e
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def read_json(path: str) -> Any:
  """Reads JSON."""
  with open(path, encoding='utf-8') as f:
    return json.load(f)


def write_text(path: str, parts: Iterable[str]):
  """Writes text, as `written_whole`; makes the folder."""
  make_folder(os.path.dirname(path) or '.')
  with written_whole(path) as temporary:
    with open(temporary, 'w', encoding='utf-8') as f:
      f.writelines(parts)


def write_json(path: str, value: Any):
  """Writes JSON, as `write_text`."""
  write_text(path, itertools.chain(
      json.JSONEncoder(indent=2).iterencode(value), ['\n']))


def read_yaml(path: str) -> Any:
  """Reads a params.yaml; tuples are all that Model Garden adds to YAML."""

  class Loader(yaml.SafeLoader):
    pass

  Loader.add_constructor(
      'tag:yaml.org,2002:python/tuple', yaml.SafeLoader.construct_sequence)
  with open(path, encoding='utf-8') as f:
    return yaml.load(f, Loader=Loader)
