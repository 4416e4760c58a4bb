"""Writes checkpoints in both formats of PyTorch, without PyTorch."""

import io
import pickle
import struct
import zipfile

import numpy as np

_STORAGES = {'f4': 'FloatStorage', 'i8': 'LongStorage', 'f8': 'DoubleStorage'}


class Name:
  """A name in a pickle; what is behind it need not exist."""

  def __init__(self, module, name):
    self.module, self.name = module, name

  def __call__(self):
    raise AssertionError('never called')


class Storage:

  def __init__(self, key, array):
    self.key, self.array = key, array


class _Pickler(pickle._Pickler):
  """Arrays become tensors; `storages` gathers their numbers."""

  def __init__(self, file, is_zip):
    super().__init__(file, protocol=2)
    self.storages, self._is_zip, self._keep = [], is_zip, []

  def save(self, obj, save_persistent_id=True):
    if isinstance(obj, Name):
      return self.write(f'c{obj.module}\n{obj.name}\n'.encode())
    if isinstance(obj, np.ndarray):
      storage = Storage(str(len(self.storages)), np.array(obj, order='C'))
      self.storages.append(storage)
      step = obj.itemsize
      args = (storage, 0, obj.shape,
              tuple(s // step for s in storage.array.strides), False, {})
      self._keep.append(args)
      return self.save_reduce(Name('torch._utils', '_rebuild_tensor_v2'), args)
    return super().save(obj, save_persistent_id)

  def persistent_id(self, obj):
    if not isinstance(obj, Storage):
      return None
    name = Name('torch', _STORAGES[obj.array.dtype.str[1:]])
    pid = ('storage', name, obj.key, 'cuda:0', obj.array.size)
    return pid if self._is_zip else (*pid, None)


def legacy_bytes(tree, names=None):
  """As PyTorch 0.4 writes it: pickles, then numbers; `names` of storages."""
  out = io.BytesIO()
  for part in (0x1950a86a20f9469cfc6c, 1001, {'little_endian': True}):
    pickle.dump(part, out, protocol=2)
  pickler = _Pickler(out, False)
  pickler.dump(tree)
  if names is None:
    names = [s.key for s in pickler.storages]
  pickle.dump(names, out, protocol=2)
  for storage in pickler.storages:
    out.write(struct.pack('<q', storage.array.size))
    out.write(storage.array.tobytes())
  return out.getvalue()


def zip_bytes(tree):
  """As PyTorch since 1.6."""
  out, pickled = io.BytesIO(), io.BytesIO()
  pickler = _Pickler(pickled, True)
  pickler.dump(tree)
  with zipfile.ZipFile(out, 'w', zipfile.ZIP_STORED) as archive:
    archive.writestr('archive/data.pkl', pickled.getvalue())
    for storage in pickler.storages:
      archive.writestr(f'archive/data/{storage.key}', storage.array.tobytes())
    archive.writestr('archive/version', '3\n')
  return out.getvalue()


WRITERS = {'legacy': legacy_bytes, 'zip': zip_bytes}


def checkpoint(model):
  """The dictionary that the release saves around a model's arrays."""
  return {'epoch': 0, 'step': 179999, 'iters_per_epoch': 1, 'model': model,
          'optimizer': {'state': {1: {'momentum_buffer': np.ones(
              [3], np.float32)}}, 'param_groups': [{'lr': 0.02}]}}
