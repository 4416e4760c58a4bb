import json
import pathlib
import shutil

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
import pytest

from panet_tf import errors
from panet_tf.data import coco_json
from panet_tf.data import tfrecord
from panet_tf.data.sources import cityscapes
from tests.support.datasets import mini_cityscapes

FRAMES = list(mini_cityscapes.FRAMES)
FIRST = FRAMES[0]
CLASSES = {24: 'person', 25: 'rider', 26: 'car', 27: 'truck', 28: 'bus',
           31: 'train', 32: 'motorcycle', 33: 'bicycle'}


@pytest.fixture
def root(tmp_path):
  mini_cityscapes.build(tmp_path / 'cs')
  return tmp_path / 'cs'


def convert(root, splits=('val',), **options):
  return cityscapes.convert_cityscapes(
      str(root), str(root.parent / 'out'), splits, **options)


def pixels(root, frame):
  with Image.open(mini_cityscapes.file_path(
      root, 'val', frame, 'instanceIds.png')) as image:
    return np.asarray(image).astype(int)


def ids_of(dataset, image):
  """The instance PNG that the annotations of an image stand for, 0 elsewhere.

  Objects of a class count in order of annotation; a group has the plain id.
  """
  ids = np.zeros([image['height'], image['width']], int)
  numbers = dict.fromkeys(CLASSES, 0)
  for annotation in dataset['annotations']:
    if annotation['image_id'] == image['id']:
      mask = coco_mask.decode(annotation['segmentation']).astype(bool)
      assert annotation['area'] == mask.sum() and not ids[mask].any()
      label = annotation['category_id']
      ids[mask] = label
      if not annotation['iscrowd']:
        ids[mask] = label * 1000 + numbers[label]
        numbers[label] += 1
  return ids


def expected_ids(ids):
  """Evaluated classes of an instance PNG, objects numbered without gaps."""
  result = np.where(np.isin(ids, list(CLASSES)), ids, 0)
  for label in CLASSES:
    values = np.unique(ids[ids // 1000 == label])
    for number, value in enumerate(values):
      result[ids == value] = label * 1000 + number
  return result


def check_pixels(root, dataset):
  assert [pathlib.Path(i['file_name']).name for i in dataset['images']] == [
      f'{frame}_leftImg8bit.png' for frame in FRAMES]
  for image, frame in zip(dataset['images'], FRAMES, strict=True):
    np.testing.assert_array_equal(
        ids_of(dataset, image), expected_ids(pixels(root, frame)))


def test_tree_holds_what_is_hard(root):
  first, second, third = [set(np.unique(pixels(root, f))) for f in FRAMES]
  assert 26000 not in first and {26, 26001, 26002, 29000, 17, 1} <= first
  assert not any(v // 1000 == 26 for v in second) and 24 in second
  assert {30000, 33, 33000, 33001} <= third
  ids = pixels(root, FIRST)
  columns = np.flatnonzero((ids == 26002).any(axis=0))
  assert np.diff(columns).max() > 1  # Two parts.
  assert ((ids[:, :-1] == 26001) & (ids[:, 1:] == 26002)).any()  # Touching.


def test_pixels_are_those_of_the_source(root):
  dataset = coco_json.read(convert(root).paths['val'])
  assert {c['id']: c['name'] for c in dataset['categories']} == CLASSES
  assert [i['id'] for i in dataset['images']] == [1, 2, 3]
  assert dataset['images'][0] == {
      'id': 1, 'height': 64, 'width': 128,
      'file_name': f'leftImg8bit/val/aachen/{FIRST}_leftImg8bit.png'}
  check_pixels(root, dataset)
  crowds = [(a['image_id'], a['category_id']) for a in dataset['annotations']
            if a['iscrowd']]
  assert crowds == [(1, 26), (2, 24), (3, 33)]
  assert len(dataset['annotations']) == 16 + 3


def test_shards_of_the_json_hold_the_same_pixels(root):
  path = convert(root).paths['val']
  prefix = str(root.parent / 'shards' / 'val')
  ledger = tfrecord.convert_coco(str(root), path, prefix, num_shards=1,
                                 num_workers=0)
  assert ledger.annotations_written == 19 and not ledger.rejected
  truth = tfrecord.ground_truth_from_shards(prefix + '-*.tfrecord')
  assert {c['id']: c['name'] for c in truth['categories']} == CLASSES
  check_pixels(root, truth)


def test_processes_write_the_same_bytes(root):
  written = [pathlib.Path(convert(root, num_workers=n).paths['val']
                          ).read_bytes() for n in (1, 2)]
  assert written[0] == written[1]


def test_images_of_the_test_split_have_no_annotations(root):
  mini_cityscapes.build(root, 'test')
  shutil.rmtree(root / 'gtFine' / 'test')  # Only void, or not there at all.
  done = convert(root, ('val', 'test'))
  dataset = coco_json.read(done.paths['test'])
  assert done.paths['test'].endswith('out/cityscapes_test.json')
  assert len(dataset['images']) == 3 and not dataset['annotations']
  assert 'test: 3 images, 0 instances, 0 crowds' in str(done)
  assert str(done).count('next:') == 1


def test_polygons_may_be_absent(root):
  whole = json.loads(pathlib.Path(convert(root).paths['val']).read_text())
  for frame in FRAMES:
    mini_cityscapes.file_path(root, 'val', frame, 'polygons.json').unlink()
  assert json.loads(
      pathlib.Path(convert(root).paths['val']).read_text()) == whole


def fails(root, match, splits=('val',)):
  """One line, and no file."""
  with pytest.raises(errors.InputError, match=match) as caught:
    convert(root, splits)
  assert '\n' not in str(caught.value)
  assert not list((root.parent / 'out').glob('*'))


def test_missing_instance_ids_and_images_are_named(root):
  path = mini_cityscapes.file_path(root, 'val', FIRST, 'instanceIds.png')
  data = path.read_bytes()
  path.unlink()
  fails(root, f'{path}: missing, as 1 of 3 are; gtFine_trainvaltest.zip .*'
        'json2instanceImg')
  path.write_bytes(data)
  mini_cityscapes.file_path(root, 'val', FIRST, 'leftImg8bit.png').unlink()
  fails(root, f'{path}: without image, as 1 of 3 are')


def test_folder_without_the_split_is_named(root):
  fails(root, f'{root}/leftImg8bit/train/.*no image; root should be the folder '
        'with leftImg8bit', ('val', 'train'))
  fails(root, "splits: 'all', should be of train, val, test", ('val', 'all'))


@pytest.mark.parametrize('value, message', [
    (34, 'pixel value 34 has label id 34, should be 0 to 33'),
    (34000, 'pixel value 34000 has label id 34, should be 0 to 33'),
    (255, 'label id 255, should be 0 to 33'),
    (11003, 'pixel value 11003 numbers an object of label id 11, only 24 to 33 '
     'have numbers')])
def test_pixel_value_that_means_nothing_is_named(root, value, message):
  path = mini_cityscapes.file_path(root, 'val', FIRST, 'instanceIds.png')
  ids = pixels(root, FIRST).astype(np.uint16)
  ids[5, 5] = value
  Image.fromarray(ids).save(path)
  fails(root, f'{path}: .*{message}')


def test_label_ids_in_place_of_instance_ids_are_named(root):
  path = mini_cityscapes.file_path(root, 'val', FIRST, 'instanceIds.png')
  labels = mini_cityscapes.file_path(root, 'val', FIRST, 'labelIds.png')
  path.write_bytes(labels.read_bytes())
  fails(root, f'{path}: .* mode L, should be 16-bit grey')


@pytest.mark.parametrize('change, message', [
    (lambda p: p.update(imgWidth=64),
     'imgWidth x imgHeight is 64x64, should be 128x64 as of leftImg8bit/'),
    (lambda p: p.update(objects=[o for o in p['objects']
                                 if o['label'] != 'cargroup']),
     "has no 'cargroup', though instanceIds.png has pixels of value 26"),
    (lambda p: [o.update(deleted=1) for o in p['objects']],
     "has no 'cargroup'"),
    (lambda p: p.pop('imgHeight'), 'should be JSON with imgWidth'),
    (lambda p: p.update(objects=[7]), 'should be JSON with imgWidth'),
    (lambda p: p.update(objects=[{'label': []}]), 'should be JSON with')])
def test_polygons_of_another_frame_are_named(root, change, message):
  path = mini_cityscapes.file_path(root, 'val', FIRST, 'polygons.json')
  polygons = json.loads(path.read_text())
  change(polygons)
  path.write_text(json.dumps(polygons))
  fails(root, f'{path}: {message}')


@pytest.mark.parametrize('text', ['', '{', '[]', '7', '[' * 100000])
def test_polygons_that_are_no_polygons_are_named(root, text):
  path = mini_cityscapes.file_path(root, 'val', FIRST, 'polygons.json')
  path.write_text(text)
  fails(root, f'{path}: should be JSON with imgWidth, imgHeight and objects')
