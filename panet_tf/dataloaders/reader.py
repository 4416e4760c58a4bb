"""Model Garden's input reader, but for what is done to records as stored."""

from typing import cast

from official.core import input_reader
import tensorflow as tf


def attach_seeds(seed: int | None):
  """Gives every example of a data set a seed of its own, new each epoch."""

  def attach(dataset):
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    return tf.data.Dataset.zip(dataset, seeds.batch(2)).map(
        lambda example, pair: dict(example, random_seed=pair))

  return attach


class Reader(input_reader.InputReader):
  """Caches and balances records, where Model Garden has examples."""

  def __init__(self, params, *, record_fn, **kwargs):
    """`record_fn`: data set of records to data set of records, or None."""
    super().__init__(params, **kwargs)
    self._record_fn = record_fn

  def _read_data_source(self, *args, **kwargs):
    """Caches records; Model Garden caches examples, scale and flip and all."""
    # Of records, so no dictionary of data sets.
    dataset = cast(tf.data.Dataset, super()._read_data_source(*args, **kwargs))
    if self._cache:  # Then the data set has not been repeated so far.
      dataset = dataset.cache()
      if self._is_training:
        dataset = dataset.repeat()
      self._cache = False
    return dataset.apply(self._record_fn) if self._record_fn else dataset
