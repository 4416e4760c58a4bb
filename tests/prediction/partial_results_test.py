"""What a killed run leaves is read, whatever it is, or refused."""

import json
import os

import pytest

from panet_tf import errors
from panet_tf import files
from panet_tf.prediction import partial_results

_RUN = {'models': [['m', 1, 2]], 'batch_size': 2}
_CHUNKS = [
    [{'image_id': 1, 'results': [{'image_id': 1, 'score': 0.1}]},
     {'image_id': 'b\udcff', 'results': []}],
    [{'image_id': 'c', 'error': 'c: broken'}],
    [{'image_id': 'd', 'results': [{'image_id': 'd', 'score': 1e-7,
                                    'bbox': [1.5, 2.0, 3.25, 4]}]},
     {'video': 'd'}],
]


@pytest.fixture(name='path')
def _path(tmp_path):
  return tmp_path / 'p.jsonl'


def _open(path, **changes):
  return partial_results.PartialResults(str(path), {**_RUN, **changes})


def _write(path, chunks=()):
  with _open(path) as partial:
    for chunk in chunks:
      partial.append(chunk)


def _stored(path):
  with _open(path) as partial:
    return list(iter(partial.stored, None))


def test_chunks_come_back_in_their_order(path):
  _write(path, _CHUNKS[:2])
  with _open(path) as partial:
    assert partial.num_images == 3 and not partial.has_ended('d')
    assert partial.stored() == _CHUNKS[0]
    partial.append(_CHUNKS[2])
    assert partial.stored() == _CHUNKS[1]
    assert partial.stored() is None  # What this run wrote is not its own past.
  with _open(path) as partial:
    assert partial.num_images == 4 and partial.has_ended('d')
  assert _stored(path) == _CHUNKS


def test_a_file_cut_anywhere_keeps_its_whole_chunks(path):
  _write(path, _CHUNKS)
  whole = path.read_bytes()
  lines = whole.splitlines(keepends=True)
  assert len(lines) == 6
  ends = [len(b''.join(lines[:number])) for number in (1, 3, 4, 6)]
  for length in range(len(whole) + 1):
    path.write_bytes(whole[:length])
    kept = max(sum(length >= end for end in ends) - 1, 0)
    assert _stored(path) == _CHUNKS[:kept]
    # The rest is gone, so that what follows stands on a line of its own.
    _write(path, _CHUNKS[kept:])
    assert path.read_bytes() == whole


@pytest.mark.parametrize('line', [
    b'\0\0\0\n', b'[1]\n', b'{"image_id": 3}\n', b'\xff\n',
    b'[' * 9999 + b'\n'])
def test_a_line_that_is_no_record_ends_what_is_kept(path, line):
  _write(path, _CHUNKS[:1])
  with path.open('ab') as f:
    f.write(line + b'{"image_id":1,"results":[],"last_of_chunk":true}\n')
  assert _stored(path) == _CHUNKS[:1]


@pytest.mark.parametrize('changes,named', [
    ({'models': [['m', 1, 3]]}, 'other models;'),
    ({'batch_size': 3, 'tile': 5}, 'other batch_size, tile;')])
def test_another_run_is_refused_and_loses_nothing(path, changes, named):
  _write(path, _CHUNKS)
  before = path.read_bytes()
  with pytest.raises(errors.InputError, match=f'p.jsonl: .*{named}.*delete'):
    _open(path, **changes)
  assert path.read_bytes() == before


@pytest.mark.parametrize('text', ['hello\n', '[]\n', '{}\n', '{"format":1}\n'])
def test_a_file_of_something_else_is_refused_and_kept(path, text):
  path.write_text(text)
  with pytest.raises(errors.InputError, match='p.jsonl: is not what'):
    _open(path)
  assert path.read_text() == text


@pytest.mark.parametrize('chunks', [[], _CHUNKS[1:2], _CHUNKS])
def test_the_end_is_one_json_list_as_if_written_at_once(tmp_path, path, chunks):
  wanted = [result for chunk in chunks for record in chunk
            for result in record.get('results', [])]
  files.write_json(str(tmp_path / 'wanted.json'), wanted)
  _write(path, chunks)
  with _open(path) as partial:
    assert partial.finish(str(tmp_path / 'found.json')) == len(wanted)
  assert (tmp_path / 'found.json').read_bytes() == (
      tmp_path / 'wanted.json').read_bytes()
  assert not path.exists()


def test_an_end_that_cannot_be_written_keeps_the_results(tmp_path, path):
  (tmp_path / 'found.json').mkdir()
  _write(path, _CHUNKS)
  with _open(path) as partial, pytest.raises(errors.InputError, match='found'):
    partial.finish(str(tmp_path / 'found.json'))
  assert _stored(path) == _CHUNKS


def test_a_place_that_cannot_be_written_is_named(tmp_path):
  with pytest.raises(errors.InputError, match='none/p.jsonl: No such file'):
    _open(tmp_path / 'none' / 'p.jsonl')


def test_a_model_is_another_once_its_files_are(tmp_path):
  run = tmp_path / 'run'
  (run / '1').mkdir(parents=True)
  for name in ('checkpoint', 'ckpt-1.index', 'params.yaml', 'dataset.json',
               '1/saved_model.pb'):
    (run / name).write_text(name)
    os.utime(run / name, (1, 1))
  model = tmp_path / 'm.onnx'
  model.write_text('m')
  paths = [str(run), str(run / 'ckpt-1'), str(model)]
  before = [partial_results.identity([path]) for path in paths]
  assert [len(found) for found in before] == [5, 1, 1]
  (run / 'predictions.json').write_text('')  # An output folder may be inside.
  assert [partial_results.identity([path]) for path in paths] == before
  (run / 'ckpt-1.index').write_text('CKPT-1.index')
  os.utime(model, (1, 2))
  after = [partial_results.identity([path]) for path in paths]
  assert all(a != b for a, b in zip(after, before, strict=True))
  json.dumps(after)
