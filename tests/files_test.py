"""Files appear whole or not at all."""

import json
import os

import pytest

from panet_tf import errors
from panet_tf import files


def test_a_value_reads_back_from_a_new_folder(tmp_path):
  path = str(tmp_path / 'new' / 'a.json')
  files.write_json(path, {'a': [1, 2.5, None]})
  assert files.read_json(path) == {'a': [1, 2.5, None]}
  assert os.listdir(tmp_path / 'new') == ['a.json']


def test_a_value_that_is_no_json_leaves_the_earlier_file(tmp_path):
  path = tmp_path / 'a.json'
  files.write_json(str(path), 1)
  with pytest.raises(TypeError):
    files.write_json(str(path), [1, object()])
  assert json.loads(path.read_text()) == 1
  assert os.listdir(tmp_path) == ['a.json']


def test_a_place_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'a.json').mkdir()
  with pytest.raises(errors.InputError, match='a.json: Is a directory'):
    files.write_json(str(tmp_path / 'a.json'), 1)
  assert os.listdir(tmp_path) == ['a.json']
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.InputError, match='file: .*expected a folder'):
    files.write_json(str(tmp_path / 'file' / 'b.json'), 1)
