"""The description of a model survives its file, and nothing else passes."""

import io
import json
import os

import pytest

from panet_tf import errors
from panet_tf.inference import preprocessing
from panet_tf.inference.exported import model_info
from tests.support import tiny


def _info(**fields):
  return model_info.ModelInfo(
      categories=[{'label': 1, 'id': 90, 'name': 'Vogel\nhäuschen  a'},
                  {'label': 2, 'id': -3, 'name': '鳥'}],
      preprocessing=preprocessing.Preprocessing.from_dict(
          tiny.parser(is_training=False).eval_rule()), **fields)


@pytest.mark.parametrize('fields', [
    {}, {'include_mask': False}, {'full_image_masks': True}])
def test_what_is_written_is_read_again(tmp_path, fields):
  info = _info(**fields)
  assert model_info.ModelInfo.from_json(info.to_json(), 'x') == info
  paths = model_info.write_assets(info, str(tmp_path))
  assert [os.path.basename(path) for path in paths] == [
      'panet.json', 'labels.txt']
  with open(paths[0], 'rb') as f:
    assert model_info.ModelInfo.read(f, 'x') == info


def test_labels_are_a_line_each_whatever_the_names():
  assert _info().labels_text() == 'Vogel häuschen a\n鳥\n'


def _changed(**change):
  return json.dumps(json.loads(_info().to_json()) | change)


def _category(**change):
  return _changed(categories=[{'label': 1, 'id': 4, 'name': 'a'},
                              {'label': 2, 'id': 5, 'name': 'b'} | change])


@pytest.mark.parametrize('text', [
    '', '{', '3', 'null', '[]', '[' * 100000, '"a"', b'\xff\xfe\x00', '{}',
    '{"a\\nb": 1}', _changed(**{'a\nb': 1}), _changed(categories=None),
    _changed(categories=['a']), _changed(categories=[{'a\nb': 1}]),
    _category(label=1), _category(label='2'), _category(id='x'),
    _category(id=4), _category(id=5.0), _category(id=2**31),
    _category(id=None), _category(id=True), _category(name=3),
    _changed(include_mask='no'), _changed(full_image_masks=1),
    _changed(preprocessing=None), _changed(preprocessing=[1]),
    _changed(preprocessing={}),
    _info().to_json().replace('64', '1e400'),
    _info().to_json().replace('64', '1' * 5000)], ids=range(30))
def test_anything_else_is_refused_in_one_line_that_names_it(text):
  with pytest.raises(errors.InputError, match='^some file: not a des') as info:
    model_info.ModelInfo.from_json(text, 'some file')
  assert '\n' not in str(info.value) and len(str(info.value)) < 300


def test_no_more_is_read_than_a_description_may_have():
  class Endless(io.RawIOBase):
    read_bytes = 0

    def read(self, size=-1):
      assert 0 < size < 2**26
      self.read_bytes += size
      return b' ' * size

  stream = Endless()
  with pytest.raises(errors.InputError, match='^endless: more than'):
    model_info.ModelInfo.read(stream, 'endless')
  assert stream.read_bytes < 2**26
