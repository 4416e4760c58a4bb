"""Claims about reading PyTorch's files: right, bounded, and never run."""

import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from panet_tf import errors
from panet_tf.convert import torch_file
from tests.convert import torch_writer as writer

WEIGHTS = {
    'a.weight': np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    'a.bias': np.float32([1.5, -2]),
    'n.num_batches_tracked': np.array(7, np.int64),
    'empty': np.zeros([0, 3], np.float32)}


def write(path, content):
  path.write_bytes(content)
  return str(path)


@pytest.mark.parametrize('kind', writer.WRITERS)
def test_tensors_come_back_as_they_were(kind, tmp_path):
  path = write(tmp_path / 'x.pth', writer.WRITERS[kind](
      writer.checkpoint(WEIGHTS)))
  read = torch_file.state_dict(path, 'model')
  assert list(read) == list(WEIGHTS)
  for key, value in WEIGHTS.items():
    assert read[key].dtype == value.dtype
    np.testing.assert_array_equal(read[key], value)


@pytest.mark.parametrize('kind', writer.WRITERS)
def test_a_plain_state_dict_needs_no_key(kind, tmp_path):
  path = write(tmp_path / 'x.pth', writer.WRITERS[kind](WEIGHTS))
  assert list(torch_file.state_dict(path)) == list(WEIGHTS)
  with pytest.raises(errors.InputError, match="under 'model'; it has"):
    torch_file.state_dict(path, 'model')


@pytest.mark.parametrize('kind', writer.WRITERS)
def test_views_of_one_storage_keep_offset_and_stride(kind, tmp_path):
  base = np.arange(12, dtype=np.float32)
  storage = writer.Storage('0', base)

  class View:
    def __reduce__(self):
      return (writer.Name('torch._utils', '_rebuild_tensor'),
              (storage, 1, (3, 2), (1, 4)))

  tree = {'base': base, 'view': View()}
  path = write(tmp_path / 'x.pth', writer.WRITERS[kind](tree))
  np.testing.assert_array_equal(
      torch_file.state_dict(path)['view'], [[1, 5], [2, 6], [3, 7]])


@pytest.mark.parametrize('view', [
    (0, (13,), (1,)), (10, (3,), (1,)), (0, (10**12,), (0,)),
    (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1,)), (0, ('2',), (1,))])
def test_a_view_beyond_its_storage_is_refused(view, tmp_path):
  storage = writer.Storage('0', np.arange(12, dtype=np.float32))

  class View:
    def __reduce__(self):
      return writer.Name('torch._utils', '_rebuild_tensor'), (storage, *view)

  content = writer.legacy_bytes({'base': storage.array, 'view': View()})
  with pytest.raises(errors.InputError, match='damaged'):
    torch_file.state_dict(write(tmp_path / 'x.pth', content))


class Code:
  """Makes a file when it is unpickled in the ordinary way."""

  def __init__(self, path):
    self._path = str(path)

  def __reduce__(self):
    return os.mkdir, (self._path,)


@pytest.mark.parametrize('kind', writer.WRITERS)
@pytest.mark.parametrize('where', ['model', 'optimizer'])
def test_code_in_a_pickle_is_refused_and_not_run(kind, where, tmp_path):
  made = tmp_path / 'made'
  tree = writer.checkpoint(WEIGHTS)
  tree[where] = {**tree[where], 'code': Code(made)}
  path = write(tmp_path / 'x.pth', writer.WRITERS[kind](tree))
  with pytest.raises(errors.InputError) as e:
    torch_file.state_dict(path, 'model')
  assert 'mkdir' in str(e.value) and 'code' in str(e.value)
  assert '\n' not in str(e.value)
  assert not made.exists()
  # The writer's bytes would have done it.
  pickle.loads(pickle.dumps(Code(made)))
  assert made.exists()


@pytest.mark.parametrize('name', [
    ('builtins', 'eval'), ('os', 'system'), ('torch', 'load'),
    ('torch._utils', '_import_dotted_name'), ('numpy', 'load'),
    ('collections', 'Counter'), ('torch', 'FloatStorage.__class__')])
def test_only_names_of_tensors_are_known(name, tmp_path):
  content = writer.legacy_bytes({'model': {'x': writer.Name(*name)}})
  with pytest.raises(errors.InputError, match='could run code'):
    torch_file.state_dict(write(tmp_path / 'x.pth', content), 'model')


@pytest.mark.parametrize('kind', writer.WRITERS)
def test_every_truncation_is_one_clear_line(kind, tmp_path):
  content = writer.WRITERS[kind](writer.checkpoint(WEIGHTS))
  for length in range(0, len(content) - 1, 7):
    path = write(tmp_path / 'x.pth', content[:length])
    with pytest.raises(errors.InputError) as e:
      torch_file.state_dict(path, 'model')
    assert '\n' not in str(e.value) and 'x.pth' in str(e.value)


def test_damaged_bytes_are_read_or_refused(tmp_path):
  """Whatever a byte says, no other exception comes out."""
  content = bytearray(writer.legacy_bytes(writer.checkpoint(WEIGHTS)))
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(300):
    damaged = bytearray(content)
    damaged[rng.integers(len(content))] = rng.integers(256)
    try:
      torch_file.state_dict(write(tmp_path / 'x.pth', damaged), 'model')
    except errors.InputError:
      refused += 1
  assert refused > 100


@pytest.mark.parametrize('opcodes', [
    b'\x80\x02X\xff\xff\xff\x7fabc.',            # Text of 2 GiB.
    b'\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.',  # Bytes of 2^40.
    b'\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.',  # A bytearray.
    b'\x80\x02}r\xff\xff\xff\xff.',              # A memo index of 2^32.
    b'\x80\x02\x8b\xff\xff\xff\x7f.'])           # A number of 2 GiB.
def test_sizes_are_bounded_by_the_file(opcodes, tmp_path):
  with pytest.raises(errors.InputError):
    torch_file.state_dict(write(tmp_path / 'x.pth', opcodes))


@pytest.mark.parametrize('names', [[['0']], 7, {'0': 1}])
def test_a_list_of_storages_that_is_none_is_refused(names, tmp_path):
  content = writer.legacy_bytes({'model': WEIGHTS}, names)
  with pytest.raises(errors.InputError, match='no list of storages'):
    torch_file.state_dict(write(tmp_path / 'x.pth', content), 'model')


def test_half_a_zip_is_called_a_damaged_zip(tmp_path):
  content = writer.zip_bytes(writer.checkpoint(WEIGHTS))
  with pytest.raises(errors.InputError, match='is a damaged zip'):
    torch_file.state_dict(
        write(tmp_path / 'x.pth', content[:len(content) // 2]), 'model')


def test_many_views_of_a_storage_take_no_memory(tmp_path):
  """A small file could ask for any amount otherwise."""
  storage = writer.Storage('0', np.zeros(2**18, np.float32))

  class View:
    def __reduce__(self):
      return (writer.Name('torch._utils', '_rebuild_tensor'),
              (storage, 0, (2**18,), (1,)))

  tree = {'base': storage.array} | {str(i): View() for i in range(100)}
  path = write(tmp_path / 'x.pth', writer.legacy_bytes(tree))
  tracemalloc.start()
  arrays = torch_file.state_dict(path)
  assert tracemalloc.get_traced_memory()[1] < 2**23
  tracemalloc.stop()
  assert len(arrays) == 101


def test_a_compressed_zip_is_refused(tmp_path):
  path = tmp_path / 'x.pth'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('archive/data.pkl', pickle.dumps(
        {'model': [0] * 10**6}))
  with pytest.raises(errors.InputError, match='compressed'):
    torch_file.state_dict(str(path), 'model')


def test_what_is_no_checkpoint_is_said_so(tmp_path):
  for content in (b'', b'GIF89a', pickle.dumps({'model': {}})):
    with pytest.raises(errors.InputError, match='x.pth'):
      torch_file.state_dict(write(tmp_path / 'x.pth', content), 'model')
  with pytest.raises(errors.InputError, match='No such file'):
    torch_file.state_dict(str(tmp_path / 'absent.pth'))
  with pytest.raises(errors.InputError, match='expected a checkpoint'):
    torch_file.state_dict(str(tmp_path))
