"""TFRecord files of tf.train.Example, without importing TensorFlow.

Importing TensorFlow takes longer than converting a hundred images, and every
worker process would pay for it. The format is small enough to speak here:
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import os
import struct
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory
from google.protobuf import text_format
import google_crc32c
import numpy as np

from panet_tf import errors


def _example_class() -> Any:
  """tf.train.Example, as TensorFlow's own files describe it."""
  path = os.path.join(os.path.dirname(__file__), 'example.textproto')
  pool = descriptor_pool.DescriptorPool()
  with open(path, encoding='utf-8') as f:
    pool.Add(text_format.Parse(f.read(), descriptor_pb2.FileDescriptorProto()))
  return message_factory.GetMessageClass(
      pool.FindMessageTypeByName('panet.Example'))


Example = _example_class()


def serialize(features):
  """A tf.train.Example of {name: list of bytes or int, or float32 array}."""
  example = Example()
  for name, values in features.items():
    feature = example.features.feature[name]
    if isinstance(values, np.ndarray):
      feature.float_list.value.extend(values.tolist())
    elif values and isinstance(values[0], bytes):
      feature.bytes_list.value.extend(values)
    else:
      feature.int64_list.value.extend(values)
  return example.SerializeToString(deterministic=True)


def parse(record):
  """Inverse of `serialize`: name -> list."""
  features = Example.FromString(record).features.feature
  return {name: list(getattr(feature, feature.WhichOneof('kind')).value)
          for name, feature in features.items() if feature.WhichOneof('kind')}


def _checksum(data):
  crc = google_crc32c.value(data)
  return struct.pack(
      '<I', (((crc >> 15) | (crc << 17)) + 0xa282ead8) & 0xffffffff)


def frame(record):
  """A record as it stands in the file: length, checksum, record, checksum."""
  length = struct.pack('<Q', len(record))
  return b''.join((length, _checksum(length), record, _checksum(record)))


def records(path):
  """Yields the records of a shard; InputError where it is cut or damaged."""
  try:
    with open(path, 'rb') as f:
      size = os.fstat(f.fileno()).st_size
      while header := f.read(12):
        length, = struct.unpack('<Q', _checked(header, 8, path))
        # Anyone can make up a length with its checksum, up to 2**64.
        yield _checked(f.read(min(length, size) + 4), length, path)
  except OSError as e:
    raise errors.InputError(
        f'{path}: {e.strerror}; a TFRecord shard should be here') from e


def _checked(data, length, path):
  """The first `length` bytes of `data`, which a checksum must follow."""
  body = data[:length]
  if len(data) != length + 4 or _checksum(body) != data[length:]:
    raise errors.InputError(f'{path}: damaged or cut off (a record does not '
                            'match its checksum); convert the data set again')
  return body
