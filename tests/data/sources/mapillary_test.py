import json

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
import pytest

from panet_tf import errors
from panet_tf.data import coco_json
from panet_tf.data import tfrecord
from panet_tf.data.sources import mapillary
from tests.support.datasets import mini_mapillary

BOTH = 'v1.2', 'v2.0'


@pytest.fixture
def root(tmp_path):
  mini_mapillary.build(tmp_path / 'mvd')
  return tmp_path / 'mvd'


def convert(root, version='v1.2', splits=('training', 'validation')):
  return mapillary.convert_mapillary(
      str(root), str(root.parent / 'out'), version, splits, num_workers=1)


def categories(version):
  return {label: name for label, (name, has_instances) in enumerate(
      mini_mapillary.LABELS[version].values()) if has_instances}


def check_pixels(dataset, folder, version):
  """Each object of the PNGs is one annotation, pixel by pixel."""
  wanted = categories(version)
  assert {c['id']: c['name'] for c in dataset['categories']} == wanted
  for image in dataset['images']:
    key = image['file_name'].split('/')[-1].removesuffix('.jpg')
    with Image.open(folder / f'{key}.png') as png:
      ids = np.asarray(png).astype(int)
    expected = {value: ids == value for value in np.unique(ids)
                if value // 256 in wanted}
    found = [a for a in dataset['annotations']
             if a['image_id'] == image['id']]
    assert len(found) == len(expected)
    for annotation, (value, mask) in zip(
        found, sorted(expected.items()), strict=True):
      assert annotation['category_id'] == value // 256
      assert not annotation['iscrowd'] and annotation['area'] == mask.sum()
      np.testing.assert_array_equal(
          coco_mask.decode(annotation['segmentation']), mask)


def test_tree_holds_what_is_hard(root):
  with Image.open(root / 'training/instances/_a0Bz-cyclist.png') as png:
    ids = np.asarray(png).astype(int)
  car = list(mini_mapillary.LABELS['v1.2']).index('car') * 256
  columns = np.flatnonzero((ids == car + 1).any(axis=0))
  assert np.diff(columns).max() > 1  # Two parts.
  assert ((ids[:, :-1] == car) & (ids[:, 1:] == car + 1)).any()  # Touching.
  assert (ids == 0).any()  # The bird.


@pytest.mark.parametrize('versions, version, folder', [
    (('v1.2',), 'v1.2', 'instances'), (BOTH, 'v1.2', 'v1.2/instances'),
    (BOTH, 'v2.0', 'v2.0/instances')])
def test_pixels_are_those_of_the_source(tmp_path, versions, version, folder):
  root = tmp_path / 'mvd'
  mini_mapillary.build(root, versions)
  done = convert(root, version)
  assert done.paths == {split: f'{tmp_path}/out/mapillary_{split}.json'
                        for split in ('training', 'validation')}
  objects = 0
  for split, path in done.paths.items():
    dataset = coco_json.read(path)
    check_pixels(dataset, root / split / folder, version)
    objects += len(dataset['annotations'])
    names = [image['file_name'] for image in dataset['images']]
    assert names == sorted(f'{split}/images/{key}.jpg'
                           for key in mini_mapillary.IMAGES[split])
    assert [i['id'] for i in dataset['images']] == [
        number for number, _ in enumerate(names, 1)]
  assert objects == 11


def test_label_0_is_a_class_as_any_other(root):
  dataset = coco_json.read(convert(root).paths['training'])
  bird, = [a for a in dataset['annotations'] if a['category_id'] == 0]
  assert bird['bbox'] == [70, 4, 6, 4]


def test_shards_of_the_json_hold_the_same_pixels(root):
  path = convert(root).paths['training']
  prefix = str(root.parent / 'shards' / 'training')
  ledger = tfrecord.convert_coco(str(root), path, prefix, num_shards=1,
                                 num_workers=0)
  assert ledger.annotations_written == 9 and not ledger.rejected
  check_pixels(tfrecord.ground_truth_from_shards(prefix + '-*.tfrecord'),
               root / 'training' / 'instances', 'v1.2')


def test_images_of_the_testing_split_have_no_annotations(root):
  path = convert(root, splits=('testing',)).paths['testing']
  dataset = coco_json.read(path)
  assert dataset['images'] == [{
      'id': 1, 'file_name': 'testing/images/tEst-0.jpg',
      'height': 48, 'width': 80}]
  assert not dataset['annotations']


def fails(root, match, **options):
  """One line, and no file."""
  with pytest.raises(errors.InputError, match=match) as caught:
    convert(root, **options)
  assert '\n' not in str(caught.value)
  assert not list((root.parent / 'out').glob('*'))


def test_version_that_is_not_there_is_named_with_what_is(root):
  fails(root, f'{root}: should hold config_v2.0.json of version v2.0; .* there '
        'is: config.json', version='v2.0')
  (root / 'config.json').rename(root / 'config_v2.0.json')
  fails(root, 'should hold config_v1.2.json or config.json of version v1.2; .* '
        'there is: config_v2.0.json')
  fails(root, f'{root}: should hold training/v2.0/instances of version v2.0',
        version='v2.0')
  fails(root, "version: '3', should be v1.2 or v2.0", version='3')


def test_folder_without_the_split_is_named(root):
  (root / 'validation').rename(root / 'val')
  fails(root, f'{root}/validation/images/.*no image; root should be the '
        'folder with')
  fails(root, "splits: 'val', should be of training, validation, testing",
        splits=('val',))


def test_missing_instances_and_images_are_named(root):
  path = root / 'training/instances/_a0Bz-cyclist.png'
  data = path.read_bytes()
  path.unlink()
  fails(root, f'{path}: missing, as 1 of 3 are; each image should have its')
  path.write_bytes(data)
  (root / 'training/images/_a0Bz-cyclist.jpg').unlink()
  fails(root, f'{path}: without image, as 1 of 3 are')


def test_label_that_the_config_lacks_is_named(root):
  path = root / 'training/instances/_a0Bz-cyclist.png'
  Image.fromarray(np.full([48, 80], 8 * 256 + 3, np.uint16)).save(path)
  fails(root, f'{path}: pixel value 2051 has label id 8, should be 0 to 7')


def test_labels_in_place_of_instances_are_named(root):
  path = root / 'training/instances/_a0Bz-cyclist.png'
  path.write_bytes((root / 'training/labels/_a0Bz-cyclist.png').read_bytes())
  fails(root, f'{path}: .* mode L, should be 16-bit grey')


@pytest.mark.parametrize('config, message', [
    ('', 'should be JSON with `labels`'), ('[]', 'should be JSON with'),
    ('{"labels": 7}', 'should be JSON with'),
    ('{"labels": [{"name": "a"}]}', 'should be JSON with'),
    ('{"labels": [{"name": "a", "instances": 1}]}',
     r"labels\[0\] has name 'a' and instances 1, should be a string and true"),
    ('{"labels": [{"name": 5, "instances": true}]}', r'labels\[0\] has name 5'),
    ('{"labels": []}', '0 labels, 0 with instances; should be up to 256'),
    (json.dumps({'labels': 257 * [{'name': 'a', 'instances': True}]}),
     '257 labels, 257 with')])
def test_config_that_is_no_class_table_is_named(root, config, message):
  (root / 'config.json').write_text(config)
  fails(root, f'{root}/config.json: {message}')
