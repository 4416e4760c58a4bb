"""PyTorch's checkpoints without PyTorch: both of its formats, tensors only.

Up to 1.5 (the authors' release is of 0.4) a file is four pickles, then the
numbers of each storage; since 1.6 it is a zip of one pickle and a file for each
storage. In both, the pickle refers to storages by persistent ids.
https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
"""

import dataclasses
import struct
from typing import Any
import zipfile

import numpy as np

from panet_tf import errors
from panet_tf import safe_pickle

_MAGIC = 0x1950a86a20f9469cfc6c
_PROTOCOL = 1001
_ZIP_MAGIC = b'PK\x03\x04'
_DTYPES = {
    'Float': '<f4', 'Double': '<f8', 'Half': '<f2', 'Long': '<i8',
    'Int': '<i4', 'Short': '<i2', 'Char': '<i1', 'Byte': '<u1', 'Bool': '|b1'}


@dataclasses.dataclass(eq=False)
class _Storage:
  """Numbers of one or several tensors; `values` [numel] until read are None."""
  key: str
  dtype: np.dtype
  numel: int
  values: np.ndarray | None = None

  @property
  def num_bytes(self) -> int:
    return self.numel * self.dtype.itemsize


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """A view of a storage; PyTorch's `_rebuild_tensor`."""
  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  stride: tuple[int, ...]

  def __post_init__(self):
    """Raises ValueError for a view that leaves its storage, or repeats it."""
    numbers = (self.offset, *self.shape, *self.stride)
    if not (isinstance(self.storage, _Storage)
            and len(self.shape) == len(self.stride)
            and all(type(x) is int and x >= 0 for x in numbers)):
      raise ValueError('a tensor without storage, shape or stride')
    size = int(np.prod(self.shape, dtype=object))
    last = self.offset + sum(
        (n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
    if size and not size <= self.storage.numel > last:
      raise ValueError(f'a tensor {self.shape} beyond its storage')

  def view(self, values: np.ndarray) -> np.ndarray:
    """Of the storage's values: read-only, for a file may have many of one."""
    return np.lib.stride_tricks.as_strided(
        values[self.offset:], self.shape,
        [values.itemsize * stride for stride in self.stride], writeable=False)


def _tensor(storage, offset, shape, stride, *unused):
  del unused  # Whether it is trained, hooks.
  return _Tensor(storage, offset, tuple(shape), tuple(stride))


_NAMES = {
    ('torch._utils', '_rebuild_tensor'): _tensor,
    ('torch._utils', '_rebuild_tensor_v2'): _tensor,
    ('torch._utils', '_rebuild_parameter'): lambda data, *unused: data,
    ('torch', 'Size'): tuple,
    **{('torch', f'{name}Storage'): np.dtype(dtype)
       for name, dtype in _DTYPES.items()}}


def _unpickled(reader, path) -> tuple[Any, dict[str, _Storage]]:
  """A pickle of tensors, and the storages that it refers to by key."""
  storages: dict[str, _Storage] = {}

  def load(pid):
    """A `persistent_load`: ('storage', type, key, device, numel[, view])."""
    kind, dtype, key, _, numel, *view = pid
    if (kind != 'storage' or not isinstance(dtype, np.dtype)
        or not (type(numel) is int and numel >= 0) or any(view)):
      raise ValueError('an id that is not of a storage')
    storage = storages.setdefault(str(key), _Storage(str(key), dtype, numel))
    if (storage.dtype, storage.numel) != (dtype, numel):
      raise ValueError(f'two storages {key}')
    return storage

  return safe_pickle.load(reader, path, _NAMES, load), storages


def state_dict(path: str, key: str = '') -> dict[str, np.ndarray]:
  """Tensors of a checkpoint by name.

  Args:
    path: what `torch.save` wrote: a dictionary of tensors.
    key: where in the dictionary they are, 'model' in the authors' release; ''
      for the whole of it. The other tensors are not read.

  Returns:
    {name: array}, in the file's order, read-only. What is no tensor is left
    out.

  Raises:
    InputError: no such file, one that is damaged or holds something else, or
      names in it that could run code.
  """
  try:
    with open(path, 'rb') as file:
      if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:
        return _from_zip(file, path, key)
      return _from_pickles(safe_pickle.Reader(file, path), path, key)
  except OSError as e:
    raise errors.InputError(
        f'{path}: {e.strerror or e}; expected a checkpoint of PyTorch') from e


def _from_pickles(reader, path, key):
  """The format of PyTorch up to 1.5."""
  header = [safe_pickle.load(reader, path) for _ in range(3)]
  if header[:2] != [_MAGIC, _PROTOCOL]:
    raise errors.InputError(f'{path} is no checkpoint that PyTorch wrote')
  tree, storages = _unpickled(reader, path)
  tensors = _selected(tree, path, key)
  wanted = {tensor.storage for tensor in tensors.values()}
  names = safe_pickle.load(reader, path)
  if not (isinstance(names, list) and all(isinstance(x, str) for x in names)):
    raise errors.InputError(f'{path} is damaged: it has no list of storages')
  for name in names:
    storage = storages.get(name)
    numel, = struct.unpack('<q', reader.read(8))
    if storage is None or storage.numel != numel:
      raise errors.InputError(
          f'{path} is damaged: storage {name!r:.40} has {numel} numbers, '
          f'and {storage and storage.numel} by its pickle')
    if storage in wanted:
      storage.values = np.frombuffer(
          reader.read(storage.num_bytes), storage.dtype)
    else:
      reader.skip(storage.num_bytes)
  return _arrays(tensors, path)


def _from_zip(file, path, key):
  """The format of PyTorch since 1.6."""
  try:
    with zipfile.ZipFile(file) as archive:
      members = {info.filename.split('/', 1)[-1]: info
                 for info in archive.infolist()}
      if 'data.pkl' not in members:
        raise errors.InputError(
            f'{path} is a zip, but no checkpoint of PyTorch: it has no '
            'data.pkl')
      with _open(archive, members['data.pkl'], path) as member:
        tree, _ = _unpickled(safe_pickle.Reader(member, path), path)
      tensors = _selected(tree, path, key)
      for storage in dict.fromkeys(t.storage for t in tensors.values()):
        info = members.get(f'data/{storage.key}')
        if info is None or info.file_size != storage.num_bytes:
          raise errors.InputError(
              f'{path} is damaged: storage {storage.key!r:.40} is missing, or '
              'has not the size that its pickle says')
        with _open(archive, info, path) as member:
          storage.values = np.frombuffer(member.read(), storage.dtype)
      return _arrays(tensors, path)
  except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as e:
    raise errors.InputError(f'{path} is a damaged zip ({e!s:.80})') from e


def _open(archive, info, path):
  if info.compress_type != zipfile.ZIP_STORED:  # It could be of any size.
    raise errors.InputError(
        f'{path} is a compressed zip; PyTorch does not compress')
  return archive.open(info)


def _selected(tree: Any, path: str, key: str) -> dict[str, _Tensor]:
  """The tensors of a dictionary, or of the one at its `key`."""
  found = tree.get(key) if key and isinstance(tree, dict) else tree
  if not isinstance(found, dict):
    raise errors.InputError(
        f'{path} has no dictionary of tensors'
        + (f' under {key!r}; it has {sorted(map(str, tree))[:8]}'
           if isinstance(tree, dict) else ''))
  return {str(name): value for name, value in found.items()
          if isinstance(value, _Tensor)}


def _arrays(tensors, path):
  arrays = {}
  for name, tensor in tensors.items():
    if tensor.storage.values is None:
      raise errors.InputError(f'{path} is truncated: {name} has no numbers')
    arrays[name] = tensor.view(tensor.storage.values)
  return arrays
