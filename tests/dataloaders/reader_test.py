"""Claims about Model Garden's options of reading, through the task."""

import collections
import glob
import os

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import errors
from tests.support import tiny

NUM_IMAGES = 5


@pytest.fixture
def shards(coco):
  """Images that differ in their size."""
  rng = np.random.default_rng(0)
  for i in range(2, NUM_IMAGES):
    coco.add_image(i, pixels=rng.integers(0, 256, [20 + i, 30, 3], np.uint8))
    coco.add(i, [[1, 1, 9, 1, 9, 7, 1, 7]])
  coco.convert()
  return coco.prefix + '-*.tfrecord'


def data_config(shards, is_training=True, **fields):
  return tiny.data_config(
      is_training, aug_scale_min=1.0, aug_scale_max=1.5).replace(**(
          dict(input_path=shards, seed=1, shuffle_buffer_size=1,
               global_batch_size=1) | fields))


def sizes(batches):
  """How often each size of image was read."""
  return collections.Counter(
      tuple(labels['image_info'][0, 0].numpy()) for _, labels in batches)


# Caching.


def test_cached_records_are_read_once_and_augmented_in_every_epoch(shards):
  iterator = iter(tiny.task().build_inputs(data_config(
      shards, cache=True, prefetch_buffer_size=1)))
  first = [next(iterator) for _ in range(NUM_IMAGES)]
  rest = [next(iterator)]  # Now the cache is complete.
  for path in glob.glob(shards):
    os.remove(path)
  rest += [next(iterator) for _ in range(4 * NUM_IMAGES - 1)]
  assert sizes(rest) == {size: 4 * n for size, n in sizes(first).items()}
  scales = {float(labels['image_info'][0, 2, 0]) for _, labels in first + rest}
  assert len(scales) > 2 * NUM_IMAGES


def test_cached_records_give_the_examples_of_others(shards):
  def seen(cache):
    data = data_config(shards, cache=cache)
    return sizes(tiny.task().build_inputs(data).take(3 * NUM_IMAGES))

  assert seen(True) == seen(False)


def test_cached_evaluation_ends_after_one_pass(shards):
  data = data_config(shards, is_training=False, cache=True)
  dataset = tiny.task().build_inputs(data)
  for _ in range(2):
    assert len(list(dataset)) == NUM_IMAGES


def test_cached_records_can_be_balanced(shards):
  data = data_config(shards, cache=True, class_balanced=True)
  batches = list(tiny.task().build_inputs(data).take(60))
  # Only the first image has class 2: 1/2 and 1/4 of the other half.
  rare = np.mean([(labels['gt_classes'].numpy() == 2).any()
                  for _, labels in batches])
  assert rare == pytest.approx(5 / 8, abs=0.05)


# tf.data service.


@pytest.fixture(name='service')
def fixture_service():
  """Address of a dispatcher with one worker, both of this process."""
  dispatcher = tf.data.experimental.service.DispatchServer()
  worker = tf.data.experimental.service.WorkerServer(
      tf.data.experimental.service.WorkerConfig(
          dispatcher_address=dispatcher.target.split('://')[1]))
  yield dispatcher.target
  del worker, dispatcher


@pytest.mark.parametrize('fields', [{}, {
    'class_balanced': True, 'cache': True}], ids=['plain', 'balanced'])
def test_the_service_s_worker_reads_and_parses(shards, service, fields):
  data = data_config(
      shards, enable_tf_data_service=True, tf_data_service_address=service,
      tf_data_service_job_name='train', global_batch_size=2, **fields)
  data.parser.override(dict(
      short_edge=[20, 64], long_edge=64, canvases=['64x64', '128x64']))
  dataset = tiny.task().build_inputs(data, tf.distribute.InputContext())
  batches = list(dataset.take(3 * NUM_IMAGES))
  scales = {tuple(scale) for _, labels in batches
            for scale in labels['image_info'][:, 2].numpy()}
  assert len(scales) > 2 * NUM_IMAGES
  assert len(sizes(batches)) > 1


def test_a_seed_of_the_run_is_refused_with_the_service(shards):
  data = data_config(shards, enable_tf_data_service=True)
  with pytest.raises(errors.InputError, match='task.seed is 3'):
    data.check(tiny.task(seed=3).task_config)
  data.check(tiny.task().task_config)
