"""Two logical CPU devices for the whole suite, and the shared fixtures.

Devices must be configured before TensorFlow starts. A machine with one core
still gets two: the synchronised tests need replicas, not speed.
"""

import ctypes
import gc
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from panet_tf.model_garden import nms
from tests.support import parity as parity_lib

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of glibc: hands freed memory back to the system.
_malloc_trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * 2)


nms.trace_once()  # As every model does; Model Garden's own is faster so, too.


@pytest.fixture(autouse=True)
def seeds():
  """The same arrays in every run, in any order of the tests."""
  tf.random.set_seed(0)
  np.random.seed(0)


@pytest.fixture(autouse=True, scope='module')
def give_memory_back():
  """Gives back what a file of tests built: many share a process."""
  yield
  tf_keras.backend.clear_session()
  gc.collect()
  if _malloc_trim:
    _malloc_trim(0)


@pytest.fixture(scope='session')
def shared_dir() -> pathlib.Path:
  """<root>/../shared, with the parity fixtures; skips where it is absent."""
  path = _ROOT.parent / 'shared'
  if not path.is_dir():
    pytest.skip(f'{path} is absent: it holds the fixtures of the release.')
  return path


@pytest.fixture(params=['cut', 'whole'])
def parity(request):
  """Loads one archive of outputs of the release by name.

  Everybody has the cut ones. The whole ones lie in <root>/../shared/parity; a
  test that finds none skips and says so.
  """
  if request.param == 'cut':
    return lambda name: parity_lib.cut(
        _ROOT / 'tests' / 'parity' / f'{name}.npz.xz')
  folder = request.getfixturevalue('shared_dir') / 'parity'
  return lambda name: parity_lib.whole(folder / f'{name}.npz')


@pytest.fixture(autouse=True)
def own_collectives():
  """Lets every test make a strategy of its own.

  TensorFlow numbers the collectives of every new strategy from the same number,
  and refuses one that it has seen with another shape in the same process. This
  attribute is there for tests.
  """
  tf.distribute.MirroredStrategy._collective_key_base += 100


@pytest.fixture(scope='session')
def two_replicas() -> tf.distribute.Strategy:
  """A strategy over both devices."""
  return tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
