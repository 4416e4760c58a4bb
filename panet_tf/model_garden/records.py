"""Of Model Garden's input: what is done to records as stored."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from official.core import input_reader
from official.vision.dataloaders import tf_example_decoder
import tensorflow as tf


class Decoder(tf_example_decoder.TfExampleDecoder):
  """Model Garden's decoder, with masks of another kind.

  It has no argument for the features of a record, nor for how masks are read.
  """

  def __init__(self, regenerate_source_id: bool, features: Mapping[str, Any],
               masks: Callable[[Mapping[str, Any]], Any] | None):
    """Parses `features`, too; `masks` makes masks of all, None reads none."""
    super().__init__(masks is not None, regenerate_source_id)
    self._keys_to_features.update(features)
    self._masks = masks

  def _decode_masks(self, parsed_tensors):
    assert self._masks  # Model Garden asks only where `masks` were given.
    return self._masks(parsed_tensors)


class Reader(input_reader.InputReader):
  """Caches and balances records, where Model Garden has examples.

  It caches what the parser made of them: scale and flip and all, once for the
  whole run, in several times the memory.
  """

  def __init__(self, params: Any, *,
               record_fn: Callable[[tf.data.Dataset], tf.data.Dataset] | None,
               **kwargs: Any):
    """`record_fn`: data set of records to data set of records, or None."""
    super().__init__(params, **kwargs)
    self._record_fn = record_fn

  def _read_data_source(self, *args, **kwargs):
    # Of records, so no dictionary of data sets.
    dataset = cast(tf.data.Dataset, super()._read_data_source(*args, **kwargs))
    if self._cache:  # Then the data set has not been repeated so far.
      dataset = dataset.cache()
      if self._is_training:
        dataset = dataset.repeat()
      self._cache = False
    return dataset.apply(self._record_fn) if self._record_fn else dataset
