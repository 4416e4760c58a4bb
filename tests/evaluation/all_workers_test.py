"""Merging over real processes, and over none."""

import json
import os
import socket
import subprocess
import sys

import tensorflow as tf

from panet_tf.evaluation import all_workers

_WORKER = '''
import sys
import numpy as np
import tensorflow as tf
from panet_tf.evaluation import all_workers

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()])
strategy = tf.distribute.MultiWorkerMirroredStrategy()

class Metric:
  merged = ()
  def __init__(self, worker):
    self.worker = worker
  def state(self):
    return np.random.default_rng(self.worker).integers(
        0, 256, 11 + 20000 * self.worker, np.uint8)
  def merge(self, states):
    self.merged = states

worker = int(sys.argv[1])
with strategy.scope():
  for _ in range(2):  # A second evaluation finds nothing of the first.
    metric = Metric(worker)
    all_workers.merge(metric, tf.distribute.get_strategy())
assert all_workers.share(strategy) == 0.5
for merged, expected in zip(metric.merged, (0, 1), strict=True):
  np.testing.assert_array_equal(merged, Metric(expected).state())
'''


def _free_port():
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


def test_two_processes_have_both_states_then():
  workers = [f'127.0.0.1:{_free_port()}' for _ in range(2)]
  environment = {**os.environ, 'CUDA_VISIBLE_DEVICES': '',
                 'PYTHONPATH': os.pathsep.join(sys.path)}
  processes = [
      subprocess.Popen(
          [sys.executable, '-c', _WORKER, str(index)], stderr=subprocess.PIPE,
          text=True, env={**environment, 'TF_CONFIG': json.dumps({
              'cluster': {'worker': workers},
              'task': {'type': 'worker', 'index': index}})})
      for index in range(2)]
  try:
    for process in processes:
      _, messages = process.communicate(timeout=120)
      assert process.returncode == 0, messages
  finally:
    for process in processes:
      process.kill()


def test_replicas_of_one_process_exchange_nothing(two_replicas):
  class Metric:  # Neither `state` nor `merge`.
    pass

  all_workers.merge(Metric(), two_replicas)
  all_workers.merge(Metric(), tf.distribute.get_strategy())
  assert all_workers.share(two_replicas) == 1
  assert all_workers.share(tf.distribute.get_strategy()) == 1
