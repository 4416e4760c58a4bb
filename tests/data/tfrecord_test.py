import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from official.vision.dataloaders import tf_example_decoder
from PIL import Image
from pycocotools import mask as coco_mask
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.data import coco_json
from panet_tf.data import example
from panet_tf.data import tfrecord
from panet_tf.data import tfrecord_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECTANGLE = [[2, 1, 10, 1, 10, 7, 2, 7]]


def test_shards_and_sidecar_have_their_names(coco):
  coco.convert()
  assert coco.left_behind() == [
      'train-00000-of-00002.tfrecord', 'train-00001-of-00002.tfrecord',
      'train.dataset.json']
  assert tfrecord.read_dataset_info(coco.prefix + '-*.tfrecord') == {
      'categories': [{'label': 1, 'id': 3, 'name': 'dog'},
                     {'label': 2, 'id': 7, 'name': 'cat'}],
      'num_images': 2, 'num_annotations': 3, 'include_masks': True,
      'image_ids': None}


def test_model_garden_decodes_the_shards(coco):
  coco.convert(num_shards=1)
  decoder = tf_example_decoder.TfExampleDecoder(include_mask=True)
  dataset = tf.data.TFRecordDataset(tfrecord.shard_paths(coco.prefix + '-*'))
  first, second = dataset.map(decoder.decode)
  assert [x['source_id'].numpy() for x in (first, second)] == [b'5', b'9']
  np.testing.assert_array_equal(
      first['image'], Image.open(f'{coco.image_dir}/5.png'))
  np.testing.assert_array_equal(first['groundtruth_classes'], [1, 1, 2])
  np.testing.assert_array_equal(first['groundtruth_is_crowd'],
                                [False, True, False])
  boxes = first['groundtruth_boxes'] * [12, 16, 12, 16]
  np.testing.assert_allclose(boxes[0], [1, 2, 7, 10], atol=1e-5)
  masks = first['groundtruth_instance_masks'].numpy()
  expected = np.zeros([12, 16])
  expected[1:7, 2:10] = 1
  np.testing.assert_array_equal(masks[0], expected)
  np.testing.assert_array_equal(masks[1].T.ravel(), [0] * 20 + [1] * 5
                                + [0] * 167)
  np.testing.assert_array_equal(first['groundtruth_area'],
                                masks.sum(axis=(1, 2)))
  assert second['groundtruth_instance_masks'].shape == [0, 12, 16]
  assert second['groundtruth_boxes'].shape == [0, 4]


def features_of(coco):
  """Features of all records, in order."""
  return [tfrecord_file.parse(record)
          for path in tfrecord.shard_paths(coco.prefix + '-*')
          for record in tfrecord_file.records(path)]


def test_every_object_has_its_mask_cut_to_its_box(coco):
  coco.convert(num_shards=1)
  features, empty = features_of(coco)
  for i, annotation in enumerate(coco.data['annotations']):
    expected = coco_mask.decode(coco_json.annotation_mask_rle(
        annotation, 12, 16))
    crop = tf.io.decode_png(features['image/object/mask/crop'][i])[..., 0]
    rows, columns = np.nonzero(expected)
    top, left = rows.min(), columns.min()
    assert features['image/object/mask/crop_top'][i] == top
    assert features['image/object/mask/crop_left'][i] == left
    np.testing.assert_array_equal(
        crop, expected[top:rows.max() + 1, left:columns.max() + 1])
  assert len(features['image/object/mask/crop']) == 3
  assert 'image/object/mask/crop' not in empty
  coco.convert(include_masks=False)
  assert not any('mask' in name for f in features_of(coco) for name in f)


def test_truth_comes_back_from_shards_without_cut_masks(coco):
  coco.convert(num_shards=1)
  path, = tfrecord.shard_paths(coco.prefix + '-*')
  truth, old = coco.truth(), []
  for features in features_of(coco):
    features = {k: v for k, v in features.items() if '/crop' not in k}
    for name in features:
      if 'bbox' in name or 'area' in name:
        features[name] = np.array(features[name], np.float32)
    old.append(tfrecord_file.frame(tfrecord_file.serialize(features)))
  pathlib.Path(path).write_bytes(b''.join(old))
  assert coco.truth() == truth


def test_round_trip_keeps_masks_ids_and_names(coco):
  coco.add(9, {'size': [12, 16], 'counts': [50, 7, 135]}, iscrowd=0)
  coco.convert()
  back = coco.truth()
  assert back['categories'] == [{'id': 3, 'name': 'dog'},
                                {'id': 7, 'name': 'cat'}]
  assert {i['id']: i['file_name'] for i in back['images']} == {
      5: '5.png', 9: '9.png'}
  assert len(back['annotations']) == 4
  for found, given in zip(
      back['annotations'], coco.data['annotations'], strict=False):
    rle = coco_json.annotation_mask_rle(given, 12, 16)
    assert found['segmentation'] == rle
    assert found['area'] == coco_mask.area(rle)
    np.testing.assert_allclose(found['bbox'], coco_mask.toBbox(rle), atol=1e-4)
    for name in 'id', 'image_id', 'category_id':
      assert found[name] == given[name]
    assert found['iscrowd'] == given.get('iscrowd', 0)


def test_string_ids_come_back_by_their_place(coco):
  coco.data['images'][1]['id'] = 'scan/b'
  coco.add('scan/b', RECTANGLE)
  coco.convert()
  names = [example.parse(r)[0]['id'] for path in tfrecord.shard_paths(
      coco.prefix + '-*') for r in tfrecord_file.records(path)]
  assert names == ['1', '2']
  assert [i['id'] for i in coco.truth()['images']] == [5, 'scan/b']
  assert coco.truth()['annotations'][-1]['image_id'] == 'scan/b'


def test_overhanging_box_is_clipped_and_not_dropped(coco):
  coco.add(9, RECTANGLE, bbox=[-5, -2, 12, 50])
  assert coco.convert().annotations_written == 4
  np.testing.assert_allclose(coco.truth()['annotations'][-1]['bbox'],
                             [0, 0, 7, 12], atol=1e-5)


def test_without_masks_a_box_is_enough(coco):
  coco.add(9, bbox=[1, 2, 3, 4])
  ledger = coco.convert(include_masks=False)
  assert ledger.annotations_written == 4
  assert 'segmentation' not in coco.truth()['annotations'][-1]
  coco.add(9)
  with pytest.raises(errors.InputError, match='json: annotation 5: `bbox`'):
    coco.convert(include_masks=False)


def test_unusable_annotations_are_always_rejections(coco):
  coco.add(9, bbox=[1, 2, 3, 4])
  coco.add(9, {'size': [12, 16], 'counts': [192]})
  coco.add(9, RECTANGLE, bbox=[16, 1, 5, 5])
  coco.add(9, RECTANGLE, bbox=[3, 1, 0, 5])
  ledger = coco.convert()
  assert ledger.rejected == {'no segmentation': 1, 'empty mask': 1,
                             'degenerate box': 2}
  assert ledger.first_ids['degenerate box'] == [6, 7]
  assert (ledger.annotations_read, ledger.annotations_written) == (7, 3)
  assert '2 x degenerate box (first ids: 6, 7)' in str(ledger)


def spoil(coco):
  """Adds one of each mistake; returns the errors it should give alone."""
  coco.add_image(20, width=99)
  coco.data['images'] += [{'id': 21, 'file_name': 'absent.png'},
                          {'id': 22, 'file_name': '../annotations.json'},
                          {'id': 23, 'file_name': 'text.png'}]
  (coco.folder / 'images' / 'text.png').write_text('x')
  coco.add(20, RECTANGLE)
  coco.add(5, RECTANGLE, category_id=4)
  coco.add(404, RECTANGLE)
  coco.add(5, [[1, 2, 3]])


def test_skip_invalid_counts_every_mistake_and_loses_nothing(coco):
  spoil(coco)
  ledger = coco.convert(skip_invalid=True)
  assert ledger.rejected == {
      'its image was rejected': 1, 'unknown category': 1, 'unknown image': 1,
      'malformed segmentation or bbox': 1}
  assert sum(ledger.rejected_images.values()) == 4
  assert (ledger.images_read, ledger.images_written) == (6, 2)
  assert (ledger.annotations_read, ledger.annotations_written) == (7, 3)
  info = tfrecord.read_dataset_info(coco.prefix + '-*')
  assert (info['num_images'], info['num_annotations']) == (2, 3)


@pytest.mark.parametrize('change, message', [
    (lambda c: c.add_image(20, width=99), '20.*20.png.*size differs'),
    (lambda c: os.remove(f'{c.image_dir}/9.png'), 'image 9:.*9.png: No such'),
    (lambda c: c.add(5, [[1, 2, 3]]), 'annotation 4: `segmentation`'),
    (lambda c: c.add(5, RECTANGLE, category_id=4), 'annotation 4: `category'),
    (lambda c: c.add(404, RECTANGLE), 'annotation 4: `image_id` 404'),
])
@pytest.mark.parametrize('before', [False, True])
def test_a_mistake_leaves_no_half_written_files_and_the_set_before(
    coco, change, message, before):
  if before:
    coco.convert()
  files = coco.left_behind()
  old = [(coco.folder / 'shards' / name).read_bytes() for name in files]
  change(coco)
  with pytest.raises(errors.InputError, match=f'annotations.json: .*{message}'):
    coco.convert()
  assert coco.left_behind() == files
  assert old == [(coco.folder / 'shards' / name).read_bytes()
                 for name in files]


def test_arguments_out_of_range_are_named(coco):
  image_dir, annotations, prefix = coco.write()
  for arguments, message in (
      ((image_dir + 'x', annotations, prefix), 'imagesx: should be the folder'),
      ((image_dir, annotations, prefix + '/'), 'output prefix'),
      ((image_dir, annotations, prefix, 0), 'num_shards: 0'),
      ((image_dir, annotations, annotations + '/x'), 'cannot be written')):
    with pytest.raises(errors.InputError, match=message):
      tfrecord.convert_coco(*arguments)


def test_a_new_set_replaces_one_of_another_count(coco):
  coco.convert(num_shards=2)
  (coco.folder / 'shards' / 'train-00000-of-2.tfrecord').write_text('not ours')
  coco.convert(num_shards=1)
  assert coco.left_behind() == [
      'train-00000-of-00001.tfrecord', 'train-00000-of-2.tfrecord',
      'train.dataset.json']


def test_no_shard_is_empty(coco):
  coco.convert(num_shards=32)
  tfrecord.check_shards(tfrecord.shard_paths(coco.prefix + '-*'))
  assert len(tfrecord.shard_paths(coco.prefix + '-*')) == 2


def test_shards_whose_images_are_all_rejected_are_left_out(coco):
  for image_id in range(20, 25):
    coco.add_image(image_id)
  for image_id in 5, 20, 23:
    os.remove(f'{coco.image_dir}/{image_id}.png')
  coco.convert(num_shards=3, skip_invalid=True)
  # 5 (0), 9 (1), 20 (2), 21 (0), 22 (1), 23 (2), 24 (0)
  assert coco.left_behind() == [
      'train-00000-of-00002.tfrecord', 'train-00001-of-00002.tfrecord',
      'train.dataset.json']
  paths = tfrecord.shard_paths(coco.prefix + '-*')
  tfrecord.check_shards(paths)
  assert [[example.parse(r)[0]['id'] for r in tfrecord_file.records(path)]
          for path in paths] == [['21', '24'], ['9', '22']]


def test_set_without_any_usable_image_is_refused_and_the_old_one_stays(coco):
  coco.convert()
  before = coco.left_behind()
  for image_id in 5, 9:
    os.remove(f'{coco.image_dir}/{image_id}.png')
  with pytest.raises(
      errors.InputError, match='json: no image is left.* 2 .*5.png'):
    coco.convert(skip_invalid=True)
  assert coco.left_behind() == before
  coco.prefix += '2'
  with pytest.raises(errors.InputError, match='no image is left'):
    coco.convert(skip_invalid=True)
  assert coco.left_behind() == before


def test_crowd_flag_may_be_a_float(coco):
  coco.data['annotations'][0]['iscrowd'] = 1.0
  coco.convert()
  assert [a['iscrowd'] for a in coco.truth()['annotations']] == [1, 1, 0]


def test_field_that_is_nested_too_deep_for_a_process_is_one_line(coco):
  for _ in range(600):
    coco.data['annotations'][0]['odd'] = [coco.data['annotations'][0].get(
        'odd')]
  assert coco.convert(num_workers=0).annotations_written == 3
  coco.prefix += '2'
  with pytest.raises(errors.InputError, match='annotations.json: .* too deep'):
    coco.convert(num_workers=2)
  assert not [name for name in coco.left_behind() if 'train2' in name]


def test_ledger_prints_odd_ids_on_one_line():
  ledger = tfrecord.Ledger()
  for odd in '\ud800', 'a\nb', 'x' * 999, 7:
    ledger.reject('empty mask', odd)
  line = str(ledger).encode('utf-8').decode().splitlines()[-1]
  assert line.startswith("  4 x empty mask (first ids: '\\ud800', 'a\\nb', 'xx")
  assert line.endswith(', 7)') and len(line) < 200


def test_bytes_do_not_depend_on_the_number_of_workers(coco):
  for image_id in range(100, 140):
    coco.add_image(image_id)
    coco.add(image_id, RECTANGLE)
  made = []
  for workers in 1, 2:
    ledger = coco.convert(num_workers=workers)
    made.append((str(ledger), [
        (coco.folder / 'shards' / name).read_bytes()
        for name in coco.left_behind()]))
  assert made[0] == made[1]


def test_mistake_in_a_worker_is_the_first_one_and_leaves_nothing(coco):
  for image_id in range(100, 140):
    coco.add_image(image_id)
  for image_id in 139, 120:
    os.remove(f'{coco.image_dir}/{image_id}.png')
  for workers in 0, 2:
    with pytest.raises(errors.InputError, match='image 120'):
      coco.convert(num_workers=workers, num_shards=1)
  assert coco.left_behind() == []


def test_workers_neither_import_tensorflow_nor_rerun_the_main_program(
    coco, tmp_path):
  for image_id in range(100, 140):
    coco.add_image(image_id)
  program = tmp_path / 'program.py'
  program.write_text(
      'import sys\nprint("started")\n'
      'from panet_tf.data import tfrecord\n'
      'print(tfrecord.convert_coco(*sys.argv[1:], num_workers=2))\n'
      'assert "tensorflow" not in sys.modules\n')
  out = subprocess.run(
      [sys.executable, program, *coco.write()], capture_output=True, text=True,
      check=True, env=os.environ | {'PYTHONPATH': str(ROOT)})
  assert out.stdout.count('started') == 1
  assert 'images: 42 read, 42 written' in out.stdout
  assert '42/42' in out.stderr


def test_ledger_that_does_not_add_up_is_a_defect():
  for field in 'images_read', 'annotations_read':
    with pytest.raises(RuntimeError, match='read 1, but wrote 0'):
      tfrecord.Ledger(**{field: 1}).check()


def test_no_annotation_of_real_data_is_lost(shared_dir, tmp_path):
  folder = shared_dir / 'data' / 'coco_tiny'
  if not folder.is_dir():
    pytest.skip('coco_tiny is absent: real COCO images and annotations')
  annotations = folder / 'annotations' / 'instances_val2017.json'
  prefix = str(tmp_path / 'val')
  ledger = tfrecord.convert_coco(
      str(folder / 'val2017'), str(annotations), prefix, num_shards=4)
  given = json.loads(annotations.read_text())
  assert not ledger.rejected and ledger.images_written == 80
  sizes = {i['id']: (i['height'], i['width']) for i in given['images']}
  masks = sorted(
      (a['image_id'], a['category_id'], a['iscrowd'],
       coco_json.annotation_mask_rle(a, *sizes[a['image_id']])['counts'])
      for a in given['annotations'])
  back = tfrecord.ground_truth_from_shards(prefix + '-*')
  assert masks == sorted(
      (a['image_id'], a['category_id'], a['iscrowd'],
       a['segmentation']['counts']) for a in back['annotations'])
  assert [c['id'] for c in back['categories']] == [
      c['id'] for c in given['categories']]
