"""Two logical CPU devices for the whole suite, and the shared fixtures.

Devices must be configured before TensorFlow starts, hence here. A machine with
one core still gets two: the synchronised tests need replicas, not speed.
"""

import os
import pathlib
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# oneDNN's convolution gradients write beyond their buffers when two logical CPU
# devices run them at once (TF 2.20, AVX-512): the process aborts.
os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'

import numpy as np  # noqa: E402 - reads the variables above
import pytest  # noqa: E402 - the same
import tensorflow as tf  # noqa: E402 - the same

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# With --import-mode=importlib pytest itself adds no folder of test helpers.
sys.path.insert(0, str(_ROOT))

from tests.support import parity as parity_lib  # noqa: E402 - needs the path

pytest_plugins = ['tests.support.exported', 'tests.support.small_coco']

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.fixture(autouse=True)
def seeds():
  """The same arrays in every run, in any order of the tests."""
  tf.random.set_seed(0)
  np.random.seed(0)


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
  # pylint: disable-next=protected-access
  tf.distribute.MirroredStrategy._collective_key_base += 100


@pytest.fixture(scope='session')
def two_replicas() -> tf.distribute.Strategy:
  """A strategy over both devices."""
  return tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])
