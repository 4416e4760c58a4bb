import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.data import shards
from panet_tf.data import tfrecord
from panet_tf.data import tfrecord_file


def test_input_path_is_a_glob_a_file_or_a_list(coco):
  coco.convert()
  paths = [f'{coco.prefix}-0000{i}-of-00002.tfrecord' for i in range(2)]
  for pattern in coco.prefix + '*', coco.prefix + '-*.tfrecord', ', '.join(
      paths[::-1]):
    assert tfrecord.shard_paths(pattern) == paths
  assert tfrecord.shard_paths(paths[1]) == paths[1:]
  for pattern in coco.prefix + '*.tfrec', paths[0] + ',', '':
    with pytest.raises(
        errors.InputError, match='input_path: .*matches no file'):
      tfrecord.shard_paths(pattern)


@pytest.mark.parametrize('damage', [
    lambda data: data[:-3], lambda data: data[:5],
    lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:]])
def test_damaged_shard_is_named(coco, damage):
  coco.convert(num_shards=1)
  path = pathlib.Path(coco.prefix + '-00000-of-00001.tfrecord')
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(
      errors.InputError, match=f'{path.name}: damaged or cut off'):
    coco.truth()


def test_shards_of_something_else_are_named(tmp_path):
  for number, features in enumerate((
      {}, {'image/height': [1]}, {'image/height': [3, 4]})):
    path = tmp_path / f'{number}.tfrecord'
    path.write_bytes(tfrecord_file.frame(tfrecord_file.serialize(features)))
    with pytest.raises(
        errors.InputError, match=f'{path.name}: .*detection example'):
      tfrecord.ground_truth_from_shards(str(path))


def mask_png(size, data=b''):
  """A PNG of one bit that says it is of this size."""
  def chunk(kind, body):
    return (struct.pack('>I', len(body)) + kind + body
            + struct.pack('>I', zlib.crc32(kind + body)))
  return (b'\x89PNG\r\n\x1a\n' + chunk(
      b'IHDR', struct.pack('>IIBBBBB', *size, 1, 0, 0, 0, 0))
          + chunk(b'IDAT', data or zlib.compress(b'\0' * 99))
          + chunk(b'IEND', b''))


@pytest.mark.parametrize('change', [
    {'image/object/mask': [mask_png((60000, 60000))]},
    {'image/object/mask': [mask_png((8, 4)).replace(b'IDAT', b'IDAX')]},
    {'image/object/mask': [mask_png((8, 4), b'no zlib')]},
    {'image/object/mask': [mask_png((8, 4))[:30]]},
    {'image/object/mask': [7]},
    {'image/source_id': [3]}, {'image/height': [b'x']},
    {'image/object/class/text': [5]}, {'image/object/class/label': [b'x']},
    {'image/object/bbox/xmin': [b'x']}, {'image/object/is_crowd': [b'x']},
    {'image/object/area': [b'x']},
])
def test_hostile_records_are_named(tmp_path, change):
  edges = {f'image/object/bbox/{name}': np.array([0.5])
           for name in ('xmin', 'xmax', 'ymin', 'ymax')}
  good = {'image/height': [4], 'image/width': [8], 'image/source_id': [b'1'],
          'image/object/class/label': [1], 'image/object/mask':
          [mask_png((8, 4), zlib.compress(b'\0\1' * 4))]} | edges
  path = tmp_path / 'a.tfrecord'
  path.write_bytes(tfrecord_file.frame(tfrecord_file.serialize(good)))
  truth = tfrecord.ground_truth_from_shards(str(path))
  assert truth['annotations'][0]['segmentation']['size'] == [4, 8]
  path.write_bytes(tfrecord_file.frame(tfrecord_file.serialize(good | change)))
  with pytest.raises(
      errors.InputError, match='a.tfrecord: .*detection example'):
    tfrecord.ground_truth_from_shards(str(path))


@pytest.mark.parametrize('length', [2**40, 2**62, 2**64 - 1])
def test_made_up_length_of_a_record_is_named(tmp_path, length):
  path = tmp_path / 'a.tfrecord'
  header = struct.pack('<Q', length)
  # A frame holds its content's checksum behind it.
  path.write_bytes(header + tfrecord_file.frame(header)[-4:] + b'abc')
  with pytest.raises(errors.InputError, match='a.tfrecord: damaged or cut off'):
    tfrecord.ground_truth_from_shards(str(path))


def test_a_new_set_leaves_one_whose_prefix_goes_on(coco):
  first = coco.prefix
  coco.prefix += '-extra'
  coco.convert(num_shards=2)
  extra = coco.left_behind()
  coco.prefix = first
  coco.convert(num_shards=1)
  assert set(extra) < set(coco.left_behind())


def test_damaged_sidecar_is_named(coco):
  coco.convert()
  for text in ('{', '[]', '[' * 10**5,
               '{"categories": [{"label": 2, "id": 1, "name": ""}]}'):
    pathlib.Path(coco.prefix + shards.SIDECAR).write_text(text)
    with pytest.raises(
        errors.InputError, match='train.dataset.json: not a data set'):
      coco.truth()


def test_without_sidecar_labels_are_the_categories(coco):
  coco.convert()
  os.remove(coco.prefix + shards.SIDECAR)
  assert tfrecord.read_dataset_info(coco.prefix + '-*') is None
  assert coco.truth()['categories'] == [{'id': 1, 'name': 'dog'},
                                       {'id': 2, 'name': 'cat'}]
  assert [a['category_id'] for a in coco.truth()['annotations']] == [1, 1, 2]


def test_sets_that_disagree_are_named(coco):
  coco.convert()
  first, coco.prefix = coco.prefix, coco.prefix + '2'
  coco.convert()
  with pytest.raises(errors.InputError, match='train2.*image 5 is there twice'):
    tfrecord.ground_truth_from_shards(f'{first}-*,{coco.prefix}-*')
  coco.data['categories'][0]['name'] = 'horse'
  coco.convert()
  with pytest.raises(
      errors.InputError, match='train2.*do not stand for the categ'):
    tfrecord.ground_truth_from_shards(f'{first}-*,{coco.prefix}-*')


def test_record_is_a_tensorflow_example():
  features = {'b': [b'x', b''], 'i': [-1, 2**40], 'none': [],
              'f': np.array([0.5, -2], np.float32)}
  record = tfrecord_file.serialize(features)
  found = tf.train.Example.FromString(record).features.feature
  assert list(found['b'].bytes_list.value) == features['b']
  assert list(found['i'].int64_list.value) == features['i']
  assert list(found['f'].float_list.value) == [0.5, -2]
  assert tfrecord_file.parse(record) == features | {'f': [0.5, -2]}
