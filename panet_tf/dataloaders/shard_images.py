"""The images of shards, one by one, for what needs each in its own pixels."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from panet_tf import errors
from panet_tf.data import tfrecord
from panet_tf.dataloaders import parser


def source_images(paths: Sequence[str], regenerate_source_id: bool = False,
                  ahead: int = 2) -> Iterator[tuple[bytes, np.ndarray]]:
  """Source ids and images [H, W, 3] uint8, decoded as training does it.

  They come in the order of the shards, `ahead` of them are decoded ahead;
  `regenerate_source_id` is of Model Garden's decoder.
  """
  decoder = parser.Decoder(False, regenerate_source_id)
  records = tf.data.TFRecordDataset(paths)
  for example in records.map(
      decoder.decode, num_parallel_calls=ahead).prefetch(ahead):
    yield example['source_id'].numpy(), example['image'].numpy()


def images(paths: Sequence[str],
           ahead: int) -> Iterator[tuple[Any, np.ndarray]]:
  """Image ids of the data set and images, see `source_images`.

  Raises:
    InputError: a record that is no image of a data set.
  """
  for path in paths:
    image_ids = (tfrecord.read_dataset_info(path) or {}).get('image_ids')
    try:
      for source_id, image in source_images([path], ahead=ahead):
        yield tfrecord.original_id(source_id.decode(), image_ids), image
    except (tf.errors.OpError, ValueError, LookupError) as e:
      raise errors.InputError(
          f'{path}: holds a record that is no image of a data set '
          f'({" ".join(str(e).split()):.80})') from e
