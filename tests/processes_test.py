"""`make test` runs every test, once; `make quick` names what is there."""

import pathlib
import shlex

ROOT = pathlib.Path(__file__).resolve().parents[1]


def named(words):
  """Files of tests behind some of pytest's arguments."""
  files, words = [], iter(words)
  for word in words:
    if word == '--deselect':
      files.remove(ROOT / next(words))
    elif word == '-k':
      next(words)
    else:
      found = sorted(ROOT.glob(word))
      assert found, f'{word} is not there'
      for path in found:
        files += path.rglob('*_test.py') if path.is_dir() else [path]
  return files


def processes(name):
  lines = (ROOT / 'tests' / name).read_text(encoding='utf-8').splitlines()
  return [named(shlex.split(line)) for line in lines]


def test_each_file_of_tests_is_in_one_process():
  files = [path for process in processes('processes.txt') for path in process]
  assert sorted(files) == sorted((ROOT / 'tests').rglob('*_test.py'))


def test_what_is_quick_is_there():
  assert all(processes('quick.txt'))
