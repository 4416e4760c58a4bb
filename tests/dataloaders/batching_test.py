"""Claims about batches of one canvas, and training on several."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tiny
from panet_tf import errors
from panet_tf import task as task_lib

CANVASES = ['128x128', '128x64', '64x128', '64x64']
SIZES = [(48, 60), (60, 48), (50, 50), (32, 64), (20, 62), (64, 30), (40, 46)]


@pytest.fixture
def shards(coco):
  """Nine images of different sizes."""
  rng = np.random.default_rng(0)
  for i, size in enumerate(SIZES):
    coco.add_image(100 + i, pixels=rng.integers(0, 256, [*size, 3], np.uint8))
    coco.add(100 + i, [[2, 1, 18, 1, 18, 15, 2, 15]])
  coco.convert()
  return coco.prefix + '-*.tfrecord'


def data_config(shards, batch_size=3, seed=1, **fields):
  return tiny.data_config(
      short_edge=[30, 128], long_edge=128, canvases=CANVASES,
      aug_rand_hflip=True).replace(
          input_path=shards, seed=seed, global_batch_size=batch_size,
          shuffle_buffer_size=4, **fields)


def read(data, number, context=None, threads=0):
  dataset = tiny.task().build_inputs(data, context)
  if threads:
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    dataset = dataset.with_options(options)
  return list(dataset.take(number).as_numpy_iterator())


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
  for one, other in zip(some, others):
    tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def test_batches_hold_every_example_once_and_as_the_parser_made_it(shards):
  # Batches of one are the parser's examples, in its order.
  singles = [tf.nest.map_structure(lambda x: x[0], single)
             for single in read(data_config(shards, batch_size=1), 60)]
  expected, waiting = grouped_slowly(singles, 3)
  assert waiting <= 2 * len(CANVASES)
  assert 3 * len(expected) + waiting == len(singles)
  assert len({batch[0].shape for batch in expected}) == len(CANVASES)
  assert_equal(read(data_config(shards), len(expected)), expected)


def test_every_image_comes_once_an_epoch(shards):
  # Sizes tell images apart. Nothing is shuffled beyond the epoch here.
  data = data_config(shards, batch_size=1).replace(shuffle_buffer_size=1)
  seen = [tuple(labels['image_info'][0, 0].astype(int))
          for _, labels in read(data, 3 * (len(SIZES) + 2))]
  assert collections.Counter(seen) == collections.Counter(
      3 * (SIZES + 2 * [(12, 16)]))


def test_a_seed_fixes_the_batches_with_any_number_of_threads(shards):
  one = read(data_config(shards, deterministic=True), 8, threads=1)
  many = read(data_config(shards, deterministic=True), 8, threads=4)
  other = read(data_config(shards, seed=2), 8)
  assert_equal(one, many)
  assert [image.shape for image, _ in one] != [
      image.shape for image, _ in other] or not all(
          np.array_equal(a, b) for (a, _), (b, _) in zip(one, other))


def test_a_replica_s_batch_has_its_share_of_the_images(shards):
  context = tf.distribute.InputContext(num_replicas_in_sync=2)
  dataset = tiny.task().build_inputs(
      data_config(shards, batch_size=4), context)
  assert dataset.element_spec[0].shape.as_list() == [2, None, None, 3]
  assert {len(image) for image, _ in dataset.take(6)} == {2}


def test_an_image_lies_on_the_smallest_canvas_with_room(shards):
  canvases = np.array([[128, 128], [128, 64], [64, 128], [64, 64]])
  for image, labels in read(data_config(shards), 10):
    for info in labels['image_info']:
      room = canvases[(canvases >= info[1]).all(1)]
      assert image[0].size / 3 == room.prod(1).min()


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


def test_two_replicas_train_on_different_canvases_with_one_graph(
    two_replicas, shards):
  with two_replicas.scope():
    task = tiny.task()
    model = task.build_model()
    optimizer = tf_keras.optimizers.legacy.SGD(1e-4)
    dataset = two_replicas.distribute_datasets_from_function(
        lambda context: task.build_inputs(
            data_config(shards, batch_size=2), context))
  traces, seen = [], []

  def step(inputs):
    traces.append(inputs[0].shape)
    shape = tf.shape(inputs[0])[1:3]
    return task.train_step(inputs, model, optimizer)[task.loss], shape

  @tf.function
  def next_step(iterator):
    return two_replicas.run(step, (next(iterator),))

  iterator = iter(dataset)
  for _ in range(6):
    losses, shapes = map(two_replicas.experimental_local_results,
                         next_step(iterator))
    assert np.isfinite(losses).all()
    seen.append([tuple(shape.numpy()) for shape in shapes])
  assert any(one != other for one, other in seen)
  assert len({shape for both in seen for shape in both}) > 2
  assert {tuple(shape) for shape in traces} == {(1, None, None, 3)}
