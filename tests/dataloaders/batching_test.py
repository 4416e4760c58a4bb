"""Claims about batches of one canvas, and training on several."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from panet_tf import errors
from panet_tf.dataloaders import batching
from panet_tf.training import task as task_lib
from tests.support import tiny

CANVASES = ['64x128', '128x64', '64x64']
SIZES = [(48, 60), (60, 48), (50, 50), (32, 64), (20, 62), (64, 30), (40, 46)]


def grouped_slowly(examples, size):
  """Twin: full batches in the order in which they fill; what waits is left."""
  waiting, batches = collections.defaultdict(list), []
  for example in examples:
    group = waiting[example[0].shape]
    group.append(example)
    if len(group) == size:
      batches.append(tf.nest.map_structure(lambda *x: np.stack(x), *group))
      group.clear()
  return batches, sum(map(len, waiting.values()))


def assert_equal(some, others):
  assert len(some) == len(others)
  for one, other in zip(some, others, strict=True):
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


# Grouping alone.


def examples(number):
  """Numbered images on four canvases; [2, 6] has the pixels of [3, 4]."""
  shapes = tf.constant([[4, 3, 3], [3, 4, 3], [2, 6, 3], [3, 3, 3]])
  order = np.random.default_rng(0).integers(0, 4, number)
  return tf.data.Dataset.from_tensor_slices(order).enumerate().map(
      lambda i, k: (tf.zeros(shapes[k]) + tf.cast(i, tf.float32), {'id': i}))


@pytest.mark.parametrize('size', [1, 2, 5])
def test_every_example_is_in_one_batch_or_waits_for_one(size):
  dataset = examples(200)
  expected, waiting = grouped_slowly(list(dataset.as_numpy_iterator()), size)
  found = list(batching.batches_of_one_canvas(size)(
      dataset).as_numpy_iterator())
  assert_equal(found, expected)
  ids = np.concatenate([labels['id'] for _, labels in found])
  assert len(set(ids)) == len(ids) == 200 - waiting
  assert waiting <= (size - 1) * 4


def test_a_replica_s_batch_has_its_share_of_the_examples():
  dataset = batching.batches_of_one_canvas(6)(
      examples(50), tf.distribute.InputContext(num_replicas_in_sync=2))
  assert dataset.element_spec[0].shape.as_list()[0] == 3
  assert {len(image) for image, _ in dataset} == {3}


# Through the task.


@pytest.fixture
def shards(coco):
  """Nine images, all but two of different sizes."""
  rng = np.random.default_rng(0)
  for i, size in enumerate(SIZES):
    coco.add_image(100 + i, pixels=rng.integers(0, 256, [*size, 3], np.uint8))
    coco.add(100 + i, [[2, 1, 18, 1, 18, 15, 2, 15]])
  coco.convert()
  return coco.prefix + '-*.tfrecord'


def data_config(shards, batch_size=2):
  return tiny.data_config(
      short_edge=[30, 64], long_edge=128, canvases=CANVASES,
      aug_rand_hflip=True).replace(
          input_path=shards, seed=1, deterministic=True, shuffle_buffer_size=1,
          global_batch_size=batch_size)


def read(data, number, threads=0):
  options = tf.data.Options()
  options.threading.private_threadpool_size = threads
  dataset = tiny.task().build_inputs(data).with_options(options)
  return list(dataset.take(number).as_numpy_iterator())


def test_batches_are_what_the_parser_made_with_any_number_of_threads(shards):
  # Batches of one are the parser's examples, in its order.
  singles = [
      tf.nest.map_structure(lambda x: x[0], single)
      for single in read(data_config(shards, batch_size=1), 36, threads=1)]
  # The images' sizes tell that each comes once an epoch.
  assert collections.Counter(
      tuple(labels['image_info'][0].astype(int)) for _, labels in singles
  ) == collections.Counter(4 * (SIZES + 2 * [(12, 16)]))
  expected, _ = grouped_slowly(singles, 2)
  assert len({image.shape for image, _ in expected}) == len(CANVASES)
  assert_equal(read(data_config(shards), len(expected)), expected)
  canvases = np.array([[64, 128], [128, 64], [64, 64]])
  for image, labels in singles:
    room = canvases[(canvases >= labels['image_info'][1]).all(1)]
    assert image.size / 3 == room.prod(1).min()


@pytest.mark.parametrize('fields, is_training, message', [
    (dict(canvases=['64']), True, "task.train_data.parser.canvases has '64'"),
    (dict(canvases=['0x64']), True, "'0x64'"),
    (dict(canvases=['-64x64']), True, "'-64x64'"),
    (dict(canvases=[64, 64]), True, 'has 64; .* HEIGHTxWIDTH'),
    (dict(canvases=['64x64'], short_edge=[]), True, 'set short_edge'),
    (dict(canvases=['64x64', '64x128']), False,
     'task.validation_data.parser.canvases has 2 entries'),
])
def test_canvases_that_cannot_be_are_refused(fields, is_training, message):
  fields = dict(short_edge=[40, 64], long_edge=64) | fields
  with pytest.raises(errors.InputError, match=message):
    tiny.parser(is_training=is_training, **fields)


def test_evaluation_takes_one_canvas():
  parser = tiny.parser(is_training=False, short_edge=[40, 64], long_edge=128,
                       canvases=['64x128'])
  image, _ = parser.parse_fn(False)(tiny.example(height=30, width=60)[0])
  assert image.shape == (64, 128, 3)


def test_rpn_losses_of_maps_of_unknown_size_are_model_garden_s():
  images, labels = tiny.batch()
  rng = np.random.default_rng(0)
  outputs = {
      'rpn_scores': {level: tf.constant(rng.normal(size=x.shape), tf.float32)
                     for level, x in labels['rpn_score_targets'].items()},
      'rpn_boxes': {level: tf.constant(rng.normal(size=x.shape), tf.float32)
                    for level, x in labels['rpn_box_targets'].items()},
      'box_outputs': images}
  task = tiny.task()
  unknown = tf.nest.map_structure(
      lambda x: tf.TensorSpec([2] + [None] * (x.shape.rank - 2) + x.shape[-1:],
                              x.dtype), (outputs, labels))
  losses = tf.function(task._build_rpn_losses, input_signature=unknown)(
      outputs, labels)
  expected = super(task_lib.PANetTask, task)._build_rpn_losses(outputs, labels)
  np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_one_graph_trains_on_all_canvases():
  task = tiny.task()
  model = task.build_model()
  optimizer = tf_keras.optimizers.legacy.SGD(1e-4)
  batches = []
  for canvas in ['64x64', '64x128']:
    parse = tiny.parser(short_edge=[40, 64], long_edge=128, canvases=[canvas])
    batches.append(tf.nest.map_structure(
        lambda x: x[tf.newaxis], parse.parse_fn(True)(tiny.example()[0])))
  unknown = tf.nest.map_structure(
      lambda *x: tf.TensorSpec([a if a == b else None for a, b in zip(
          *(y.shape for y in x), strict=True)], x[0].dtype), *batches)
  assert unknown[0].shape.as_list() == [1, 64, None, 3]

  @tf.function(input_signature=[unknown])
  def step(inputs):
    return task.train_step(inputs, model, optimizer)[task.loss]

  first, second = map(step, batches)
  assert np.isfinite([first, second]).all() and first != second
