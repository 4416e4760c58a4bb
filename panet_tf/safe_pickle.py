"""Pickles of other people, as data: nothing in them is imported or called.

Checkpoints of PyTorch and Detectron are pickles, and Detectron's proposals; and
a pickle can run any code. Here a name in it stands for one of a few classes of
this file, which only keep what they are given, or the file is refused.
"""

from collections.abc import Callable, Mapping
import pickle
from typing import Any, IO

import numpy as np

from panet_tf import errors

Names = Mapping[tuple[str, str], Callable[..., Any]]

_KINDS = 'biuf'  # Of NumPy data types: bool, signed, unsigned, float.


class Reader:
  """A file that never allocates for more than it has."""

  def __init__(self, file: IO[bytes], path: str):
    """Goes to the start of a file; `path` is for messages."""
    self._file, self._path = file, path
    self._size = file.seek(0, 2)
    file.seek(0)
    self.readline = file.readline

  def read(self, length: int) -> bytes:
    """So many bytes, or InputError."""
    self.check(length)
    return self._file.read(length)

  def skip(self, length: int):
    """Goes past so many bytes, or InputError."""
    self.check(length)
    self._file.seek(length, 1)

  def check(self, length: int):
    """Raises InputError unless so many bytes are left."""
    left = self._size - self._file.tell()
    if not 0 <= length <= left:
      raise errors.InputError(
          f'{self._path} is truncated: {left} bytes are left where {length} '
          'should be')


class Dict_(dict):
  """`dict` or `collections.OrderedDict`, without attributes."""

  def __setstate__(self, state):
    """Takes PyTorch's `_metadata` and drops it."""


class _DType:
  """`numpy.dtype`, as little as arrays of numbers need."""

  def __init__(self, code, *unused):
    del unused
    self._code, self._order = _text(code), '<'

  def __setstate__(self, state):
    self._order = _text(state[1])

  def numpy(self) -> np.dtype:
    if len(self._code) > 4 or self._code[0] not in _KINDS:
      raise ValueError(f'data type {self._code!r}')
    return np.dtype(self._code).newbyteorder(
        self._order if self._order in ('<', '>') else '=')


class _Array:
  """`numpy.ndarray`, filled by `__setstate__`."""

  array = None

  def __init__(self, *unused):
    del unused

  def __setstate__(self, state):
    _, shape, dtype, is_fortran, raw = state
    array = np.frombuffer(_bytes(raw), dtype.numpy())
    self.array = array.reshape(shape, order='F' if is_fortran else 'C')


def _from_buffer(raw, dtype, shape, order):
  made = _Array()
  made.__setstate__((1, shape, dtype, order == 'F', raw))
  return made


def _scalar(dtype, raw):
  return np.frombuffer(_bytes(raw), dtype.numpy())[0]


def _text(value) -> str:
  return value.decode('ascii') if isinstance(value, bytes) else str(value)


def _bytes(value) -> bytes:
  """Python 2 wrote `str` for bytes; it is read as Latin-1."""
  return value.encode('latin1') if isinstance(value, str) else bytes(value)


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ('collections', 'OrderedDict'): Dict_,
    # Bytes, as Python 3 writes them for Python 2.
    ('_codecs', 'encode'): lambda text, *unused: text,
    ('__builtin__', 'bytes'): lambda: b'',  # Only the empty ones.
    ('numpy', 'dtype'): _DType,
    ('numpy', 'ndarray'): type('ndarray', (), {}),
}
for _module in ('numpy.core', 'numpy._core'):
  _NAMES |= {(f'{_module}.multiarray', '_reconstruct'): _Array,
             (f'{_module}.multiarray', 'scalar'): _scalar,
             (f'{_module}.numeric', '_frombuffer'): _from_buffer}


# The C unpickler makes room for any memo index that a file names; this one
# keeps a dictionary.
class _Unpickler(pickle._Unpickler):
  """Knows the names it is given, and no other."""

  def __init__(self, reader, path, names, persistent_load):
    super().__init__(reader, encoding='latin1')
    self._path, self._names = path, dict(names)
    if persistent_load is not None:
      self.persistent_load = persistent_load

  def find_class(self, module, name):
    if (module, name) not in self._names:
      raise errors.InputError(
          f'{self._path} names {module}.{name}, which could run code; it '
          'should hold numbers only, and is not read')
    return self._names[module, name]


def load(reader: Reader, path: str, names: Names | None = None,
         persistent_load: Callable[[Any], Any] | None = None) -> Any:
  """Reads one pickle from where a file stands.

  Args:
    reader: the file.
    path: its name, for messages.
    names: {(module, name): what stands for it}, besides NumPy's arrays.
    persistent_load: persistent id -> object, as `pickle.Unpickler`'s.

  Returns:
    Numbers, text, lists, tuples, dictionaries, `_Array` and what `names` make.

  Raises:
    InputError: a damaged file, or one with other names in it.
  """
  try:
    return _Unpickler(reader, path, {**_NAMES, **(names or {})},
                      persistent_load).load()
  except errors.InputError:
    raise
  except Exception as e:  # Damaged opcodes fail in any way there is.
    raise errors.InputError(
        f'{path} is damaged, or something else: its pickle does not read '
        f'({" ".join(str(e).split()) or type(e).__name__:.80})') from e


def plain(value: Any) -> Any:
  """An `_Array` as an array; anything else is left as it is."""
  return value.array if isinstance(value, _Array) else value
