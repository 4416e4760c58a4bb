"""Stored proposals, joined with records by the ids of their images."""

import json

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.data import proposal_files
from panet_tf.dataloaders import proposals


def decode(record):
  return {'source_id': record}


@pytest.mark.parametrize('image_ids', [None, ['x', 'y/1.jpg']])
def test_records_find_their_boxes_by_original_id(image_ids, tmp_path):
  names = image_ids or [1, 2]
  path = tmp_path / 'x.tfrecord'
  path.write_bytes(b''.join(
      proposal_files.record(name, 10, 10, [[i, 0, 9, 9]], [1.])
      for i, name in enumerate(names)))
  joined = proposals.read(str(path), 5).joined(decode, image_ids)
  dataset = tf.data.Dataset.from_tensor_slices(['2', '1']).map(joined)
  assert dataset.element_spec['proposals'].shape == [None, 4]
  found = [x['proposals'].numpy()[0, 0] for x in dataset]
  np.testing.assert_allclose(found, [1, 0], atol=1e-6)


@pytest.mark.parametrize('image_ids, text', [
    (None, "no proposals for image 5 of the records"),
    (['a', 'b'], 'data set description')])
def test_an_image_without_proposals_is_named(image_ids, text, tmp_path):
  path = tmp_path / 'x.tfrecord'
  path.write_bytes(proposal_files.record(4, 9, 9, [[0, 0, 5, 5]], [1.]))
  dataset = tf.data.Dataset.from_tensors('5').map(
      proposals.read(str(path), 5).joined(decode, image_ids))
  with pytest.raises(tf.errors.InvalidArgumentError, match=text) as e:
    list(dataset)
  assert 'InputError: ' in str(e.value)


def test_shards_with_other_ids_are_not_mixed(tmp_path):
  paths = []
  for name, ids in (('a', ['x']), ('b', ['y'])):
    paths.append(str(tmp_path / f'{name}-00000-of-00001.tfrecord'))
    open(paths[-1], 'wb').close()
    (tmp_path / f'{name}.dataset.json').write_text(json.dumps({
        'categories': [], 'image_ids': ids}), encoding='utf-8')
  assert proposals.image_ids(paths[:1]) == ['x']
  with pytest.raises(errors.InputError, match='b-00000.* other image ids'):
    proposals.image_ids(paths)
