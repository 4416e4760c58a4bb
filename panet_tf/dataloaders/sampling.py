"""Class-balanced reading: rare classes as often as common ones.

As if one drew a class first, all that occur being equally likely, and then one
of its images (Shen et al., "Relay backpropagation", 2016, section 3.2). In a
stream of records there is no drawing; instead each record passes as many times
as it would be drawn, on average, in as many draws as there are images.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from panet_tf import errors

_RECORDS_PER_BATCH = 256


def class_balanced(
    paths: list[str], dataset_fn: Callable[[Any], tf.data.Dataset],
    num_classes: int, seed: int | None
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
  """Reads all shards once and says how to balance a stream of their records.

  Image I has the weight

    w(I) = N / C * sum over the classes c in I of 1 / n_c,

  N images with an object, C classes that occur, n_c images with an object of
  class c. It passes floor(w + u) times, u uniform in [0, 1) and drawn anew
  for each pass of the stream: w times on average, and N records an epoch. An
  image comes with all its objects, so that classes often seen beside others
  still come more often.

  Crowds do not count, for training skips them. An image without any (other)
  object belongs to no class and never passes; a worker whose own shards hold
  none but such images waits for ever. Copies of a record follow one another and
  must be shuffled.

  Args:
    paths: all shards, also where a worker reads some of them only.
    dataset_fn: makes a data set of records of a path, or of several.
    num_classes: of the model, with background.
    seed: fixes u; None draws anew.

  Returns:
    Function of an endless data set of records, giving another.

  Raises:
    InputError: no shard has an object, or one of a class that the model has
      not.
  """
  table = tf.constant(_weights(*_count(paths, dataset_fn, num_classes)))

  def times(record, number):
    weight = tf.reduce_sum(tf.where(
        present_classes(record, num_classes), table, 0))
    # 32 random bits; in float64, so that u stays below 1.
    return tf.cast(weight + tf.cast(number, tf.float64) / 2**32, tf.int64)

  def balance(dataset):
    numbers = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    dataset = tf.data.Dataset.zip(dataset, numbers).map(
        lambda record, number: (record, times(record, number)),
        num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.flat_map(
        lambda record, times: tf.data.Dataset.from_tensors(  # pyright: ignore[reportArgumentType] - a pair comes as two arguments
            record).repeat(times))

  return balance


def present_classes(record: tf.Tensor, num_classes: int) -> tf.Tensor:
  """Which classes a record, a tf.train.Example, has an object of but crowds.

  [num_classes] bool; at 0, whether it has one that is no class of these.
  """
  features = tf.io.parse_single_example(record, {
      key: tf.io.VarLenFeature(tf.int64) for key in (
          'image/object/class/label', 'image/object/is_crowd')})
  labels, crowd = (tf.sparse.to_dense(x) for x in features.values())
  if_absent = tf.zeros_like(labels)
  crowd = tf.cond(tf.size(crowd) > 0, lambda: crowd, lambda: if_absent)
  labels = tf.boolean_mask(labels, crowd == 0)
  known = (labels >= 1) & (labels < num_classes)
  return tf.math.bincount(
      tf.cast(tf.where(known, labels, 0), tf.int32),
      minlength=num_classes, maxlength=num_classes) > 0


def _count(paths, dataset_fn, num_classes):
  """Images with an object, and [num_classes] images of each class."""
  records = tf.data.Dataset.from_tensor_slices(paths).interleave(
      dataset_fn, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False)
  batches = records.map(
      lambda record: present_classes(record, num_classes),
      num_parallel_calls=tf.data.AUTOTUNE).batch(_RECORDS_PER_BATCH)
  images, images_of_class = 0, np.zeros(num_classes, np.int64)
  with tqdm.tqdm(
      desc='classes counted', unit='image', mininterval=1) as progress:
    for present in batches.prefetch(1).as_numpy_iterator():
      images += np.count_nonzero(present.any(axis=1))
      images_of_class += np.count_nonzero(present, axis=0)
      progress.update(len(present))
  if images_of_class[0]:
    raise errors.InputError(
        f'task.train_data.class_balanced: {images_of_class[0]} images of '
        f'{_shown(paths)} have an object whose class is not one of 1 to '
        f'{num_classes - 1}, as task.model.num_classes says')
  if not images:
    raise errors.InputError(
        'task.train_data.class_balanced: there is no object (but crowds) in '
        f'{_shown(paths)}; balancing needs at least one')
  return images, images_of_class


def _weights(images, images_of_class):
  """What each class adds to the weight of an image, [num_classes] float64."""
  occurs = images_of_class > 0
  return np.where(occurs, images / (
      np.count_nonzero(occurs) * np.maximum(images_of_class, 1)), 0.0)


def _shown(paths):
  return paths[0] + (f' and {len(paths) - 1} more' if len(paths) > 1 else '')


def attach_seeds(seed: int | None):
  """Gives every example of a data set a seed of its own, new each epoch."""

  def with_seeds(dataset):
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    return tf.data.Dataset.zip(dataset, seeds.batch(2)).map(
        lambda example, pair: dict(example, random_seed=pair))

  return with_seeds
