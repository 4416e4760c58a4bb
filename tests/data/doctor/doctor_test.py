import copy
import io
import json
import pathlib
import random
import subprocess
import sys

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
import pytest

from panet_tf import errors
from panet_tf.cli import main
from panet_tf.data import coco_json
from panet_tf.data import segmentation
from panet_tf.data import tfrecord
from panet_tf.data.doctor import doctor
from panet_tf.data.doctor import images as images_lib
from panet_tf.data.doctor import masks as masks_lib
from panet_tf.data.doctor import table as table_lib

HEIGHT, WIDTH = 12, 16
NAN = float('nan')
SIZE = {'width': WIDTH, 'height': HEIGHT}
RECTANGLE = [[2, 1, 10, 1, 10, 7, 2, 7]]
POINTS = [3, 3, 5, 5]


def clean():
  """Three images, five objects of every form a mask may have, no defect."""
  return {
      'info': {'year': 2018, 'odd': {'nested': [None]}},
      'images': [{'id': 5, 'file_name': '5.png', 'license': 2} | SIZE,
                 {'id': 9, 'file_name': '9.png'} | SIZE,
                 {'id': 11, 'file_name': '11.png'} | SIZE],
      'annotations': [
          {'id': 1, 'image_id': 5, 'category_id': 3, 'iscrowd': 0, 'area': 48,
           'bbox': [2, 1, 8, 6], 'segmentation': RECTANGLE},
          {'id': 2, 'image_id': 5, 'category_id': 4, 'iscrowd': 1, 'area': 5,
           'bbox': [1, 0, 2, 12],
           'segmentation': {'size': [12, 16], 'counts': [20, 5, 167]}},
          {'id': 3, 'image_id': 5, 'category_id': 3, 'iscrowd': 0, 'area': 22.5,
           'bbox': [1, 1, 13, 10], 'keypoints': [1, 2, 2],
           'segmentation': [[1, 1, 4, 1, 4, 4], [8, 8, 14, 8, 14, 11, 8, 11]]},
          {'id': 4, 'image_id': 9, 'category_id': 4, 'iscrowd': 0, 'area': 5,
           'bbox': [1.0, 0.0, 2.0, 12.0],
           'segmentation': {'size': [12, 16], 'counts': compressed(20, 5)}},
          {'id': 6, 'image_id': 9, 'category_id': 3, 'iscrowd': 0, 'area': 48,
           'bbox': [2, 1, 8, 6], 'segmentation': RECTANGLE}],
      'categories': [{'id': 3, 'name': 'dog'}, {'id': 4, 'name': 'cat'}]}


def compressed(start, length):
  mask = np.zeros(WIDTH * HEIGHT, np.uint8)
  mask[start:start + length] = 1
  mask = np.asfortranarray(mask.reshape([WIDTH, HEIGHT]).T)
  return coco_mask.encode(mask)['counts'].decode()


@pytest.fixture(scope='module', name='image_dir')
def _image_dir(tmp_path_factory):
  """The three images, and some that are not as they should be."""
  folder = tmp_path_factory.mktemp('images')
  pixels = np.random.default_rng(0).integers(
      0, 256, [HEIGHT, WIDTH, 3], np.uint8)
  for name in '5.png', '9.png', '11.png':
    Image.fromarray(pixels).save(folder / name)
  Image.fromarray(pixels[:8, :8]).save(folder / 'small.png')
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(pixels).save(folder / 'rotated.jpg', exif=exif)
  whole = (folder / '5.png').read_bytes()
  (folder / 'cut.png').write_bytes(whole[:len(whole) // 2])
  (folder / 'text.png').write_text('no image')
  return str(folder)


class Checked:
  """A data set through the doctor, with its repaired file and changes."""

  def __init__(self, folder, data, image_dir):
    self.path, self.out = str(folder / 'in.json'), str(folder / 'out.json')
    with open(self.path, 'w', encoding='utf-8') as f:
      json.dump(data, f)
    self.report = doctor.check(self.path, image_dir)
    self.fixed = doctor.check(self.path, image_dir, fix_path=self.out)
    self.data = self.changes = None
    if self.fixed.fixed:
      with open(self.out, encoding='utf-8') as f:
        self.data = json.load(f)
      with open(self.out + '.changes.jsonl', encoding='utf-8') as f:
        self.changes = [json.loads(line, parse_constant=pytest.fail)
                        for line in f]

  def found(self):
    return {(f['table'], f['kind']): f for f in self.report.findings}


@pytest.fixture(name='check')
def _check(tmp_path, image_dir):
  return lambda data, images=True: Checked(
      tmp_path, data, image_dir if images else None)


def test_nothing_is_found_in_a_clean_file_and_nothing_changed(check):
  result = check(clean())
  assert not result.report.findings and not result.report.has_errors
  assert result.data == clean() and result.changes == []
  assert result.report.ledger['annotations'] == {
      'read': 5, 'kept': 5, 'repaired': 0, 'rejected': 0}


def put(table, index, **fields):
  """Sets fields of an entry; a field of Ellipsis is taken out."""

  def change(data):
    entry = data[table][index]
    entry.update(fields)
    for name in [n for n, value in entry.items() if value is ...]:
      del entry[name]

  return change


def add(table, index, **fields):
  """Appends an entry again, with other fields."""
  return lambda data: data[table].append(
      copy.deepcopy(data[table][index]) | fields)


def each(table, field, function):
  def change(data):
    for entry in data[table]:
      entry[field] = function(entry[field])
  return change


def both(*changes):
  return lambda data: [change(data) for change in changes]


def replace(table, index, value):
  return lambda data: data[table].__setitem__(index, value)


IMAGE, FIRST, CROWD = ('images', 2), ('annotations', 0), ('annotations', 1)
BARE = {'segmentation': ...}
# (kind, where, what is done to a clean file); the kind is found there.
REPAIRED = [  # ... and what the field is then.
    ('missing-iscrowd', put(*FIRST, iscrowd=...), {'iscrowd': 0}),
    ('missing-iscrowd', put(*FIRST, iscrowd=None), {'iscrowd': 0}),
    ('missing-area', put(*FIRST, area=...), {'area': 48}),
    ('missing-area', put(*FIRST, area=..., bbox=[2, 1, 3, 3], **BARE),
     {'area': 9}),
    ('missing-bbox', put(*FIRST, bbox=...), {'bbox': [2, 1, 8, 6]}),
    ('bad-box', put(*FIRST, bbox=[2, 1, 8]), {'bbox': [2, 1, 8, 6]}),
    ('bad-box', put(*FIRST, bbox=[2, 1, 8, 10**40]), {'bbox': [2, 1, 8, 6]}),
    ('nan', put(*FIRST, bbox=[2, 1, NAN, 6]), {'bbox': [2, 1, 8, 6]}),
    ('degenerate-box', put(*FIRST, bbox=[2, 1, 0, 6]), {'bbox': [2, 1, 8, 6]}),
    ('degenerate-box', put(*FIRST, bbox=[20, 1, 8, 6]), {'bbox': [2, 1, 8, 6]}),
    ('box-outside', put(*FIRST, bbox=[-3, 1, 30, 6], **BARE),
     {'bbox': [0, 1, 16, 6]}),
    ('box-differs', put(*FIRST, bbox=[2, 1, 8, 9]), {'bbox': [2, 1, 8, 6]}),
    ('box-differs', put(*FIRST, bbox=[3.5, 2, 5, 4]), {'bbox': [2, 1, 8, 6]}),
    ('bad-area', put(*FIRST, area=-1), {'area': 48}),
    ('bad-area', put(*FIRST, area=1000), {'area': 48}),
    ('nan', put(*FIRST, area=NAN), {'area': 48}),
    ('short-polygon', put(*FIRST, segmentation=[POINTS, *RECTANGLE]),
     {'segmentation': RECTANGLE}),
    ('bad-field', put(*FIRST, iscrowd=False), {'iscrowd': 0}),
    ('float-id', put(*FIRST, id=1.0), {'id': 1}),
    ('float-id', put(*FIRST, image_id=5.0), {'image_id': 5}),
    ('bad-id', put(*FIRST, id=...), {'id': 7}),
    ('bad-id', put(*FIRST, id=[1]), {'id': 7}),
    ('string-reference', put(*FIRST, image_id='5'), {'image_id': 5}),
    ('string-reference', put(*FIRST, category_id='3'), {'category_id': 3}),
]
REJECTED = [
    ('unknown-image', put(*FIRST, image_id=6)),
    ('unknown-image', put(*FIRST, image_id=...)),
    ('unknown-image', put(*FIRST, image_id={})),
    ('unknown-category', put(*FIRST, category_id=5)),
    ('unknown-category', put(*FIRST, category_id='dog')),
    ('nan', put(*FIRST, image_id=NAN)),
    ('not-an-object', replace(*FIRST, 'text')),
    ('not-an-object', replace(*FIRST, [[]])),
    ('bad-field', put(*FIRST, iscrowd=2)),
    ('nan', put(*FIRST, iscrowd=NAN)),
    ('empty-mask', put(*FIRST, segmentation=[[20, 20, 25, 20, 25, 25]])),
    ('empty-mask', put(*CROWD, segmentation={'size': [12, 16],
                                             'counts': [192]})),
    ('bad-rle', put(*CROWD, segmentation={'size': [16, 12], 'counts': [192]})),
    ('bad-rle', put(*CROWD, segmentation={'size': [12, 16], 'counts': [20]})),
    ('bad-rle', put(*CROWD, segmentation={'size': [12, 16],
                                          'counts': [10**30, 20]})),
    ('bad-rle', put(*CROWD, segmentation={'size': [12, 16], 'counts': 'PPP'})),
    ('bad-rle', put(*CROWD, segmentation={'counts': 3})),
    ('bad-polygon', put(*FIRST, segmentation='x')),
    ('bad-polygon', put(*FIRST, segmentation=[[1, 1, 4, 1, 4, 4, 7]])),
    ('nan', put(*FIRST, segmentation=[[1, 1, 4, 1, 4, NAN]])),
    ('bad-box', put(*FIRST, bbox=..., **BARE)),
    ('nan', put(*FIRST, bbox=[1, 1, 4, NAN], **BARE)),
    ('degenerate-box', put(*FIRST, bbox=[20, 1, 8, 6], **BARE)),
]


@pytest.mark.parametrize('kind, change, expected', REPAIRED)
def test_defect_of_an_annotation_is_found_and_repaired(
    check, kind, change, expected):
  data = clean()
  change(data)
  result = check(data)
  bare = 'segmentation' not in data['annotations'][0]
  assert result.found().keys() - {('annotations', 'no-segmentation')} == {
      ('annotations', kind)}
  finding = result.found()['annotations', kind]
  assert (finding['count'], finding['repaired']) == (1, 1)
  assert finding['examples'][0]['position'] == 0
  assert (('annotations', 'no-segmentation') in result.found()) == bare
  data['annotations'][0].update(expected)
  assert result.data == data
  change, = result.changes
  assert (change['action'], change['kind']) == ('repair', kind)
  assert {change['field']: change['after']} == expected
  is_error = finding['severity'] == 'error'
  assert result.report.has_errors == is_error
  assert not result.fixed.has_errors


@pytest.mark.parametrize('kind, change', REJECTED)
def test_defect_of_an_annotation_without_one_right_answer_is_rejected(
    check, kind, change):
  data = clean()
  change(data)
  result = check(data)
  found = result.found()
  assert found.keys() - {('annotations', 'no-segmentation')} == {
      ('annotations', kind)}
  assert found['annotations', kind]['severity'] == 'error'
  assert found['annotations', kind]['rejected'] == 1
  position = found['annotations', kind]['examples'][0]['position']
  assert result.changes == [
      {'table': 'annotations', 'position': position, 'action': 'reject',
       'kind': kind, 'id': result.changes[0]['id']}]
  del data['annotations'][position]
  assert result.data == data
  assert result.report.has_errors and result.fixed.has_errors
  assert result.report.ledger['annotations'] == {
      'read': 5, 'kept': 4, 'repaired': 0, 'rejected': 1}


def test_polygons_that_are_all_too_short_are_an_empty_mask(check):
  data = clean()
  data['annotations'][0]['segmentation'] = [POINTS, []]
  result = check(data)
  assert set(result.found()) == {('annotations', 'short-polygon'),
                                 ('annotations', 'empty-mask')}
  assert len(result.data['annotations']) == 4


@pytest.mark.parametrize('kind, change, outcome, expected', [
    ('bad-id', put(*IMAGE, id=...), 'rejected', None),
    ('bad-id', put(*IMAGE, id=[]), 'rejected', None),
    ('bad-id', put(*IMAGE, id=2**70), 'rejected', None),
    ('float-id', put(*IMAGE, id=11.0), 'repaired', {'id': 11}),
    ('string-id', put(*IMAGE, id='eleven'), 'left', {'id': 'eleven'}),
    ('bad-field', put(*IMAGE, file_name=3), 'rejected', None),
    ('bad-field', put(*IMAGE, file_name='a\0b'), 'rejected', None),
    ('not-an-object', replace(*IMAGE, None), 'rejected', None),
    ('missing-size', put(*IMAGE, width=...), 'repaired', {'width': 16}),
    ('bad-size', put(*IMAGE, width='16'), 'repaired', {'width': 16}),
    ('bad-size', put(*IMAGE, width=16.0), 'repaired', {'width': 16}),
    ('nan', put(*IMAGE, height=NAN), 'repaired', {'height': 12}),
    ('size-mismatch', put(*IMAGE, height=16), 'repaired', {'height': 12}),
    ('nan-elsewhere', put(*IMAGE, score=[NAN]), 'left', {}),
    ('image-missing', put(*IMAGE, file_name='no.png'), 'rejected', None),
    ('image-unreadable', put(*IMAGE, file_name='cut.png'), 'rejected', None),
    ('image-unreadable', put(*IMAGE, file_name='text.png'), 'rejected', None),
    ('exif-rotation', put(*IMAGE, file_name='rotated.jpg'), 'left', {}),
    ('exif-rotation', put(*IMAGE, file_name='rotated.jpg', width=12, height=16),
     'left', {}),
])
def test_defect_of_an_image_is_found(check, kind, change, outcome, expected):
  data = clean()
  change(data)
  result = check(data)
  assert set(result.found()) == {('images', kind)}
  finding = result.found()['images', kind]
  assert finding['count'] == finding[outcome]
  assert len(result.data['annotations']) == 5
  if expected is None:
    assert result.data['images'] == clean()['images'][:2]
  elif kind != 'nan-elsewhere':  # NaN is not even itself.
    assert result.data['images'][2] == data['images'][2] | expected


def test_image_is_missing_or_odd_only_where_there_is_a_folder(check):
  data = clean()
  put(*IMAGE, file_name='no.png', width=..., height=...)(data)
  result = check(data, images=False)
  assert set(result.found()) == {('images', 'missing-size')}
  assert result.data == data
  data['images'][2]['width'] = -1
  result = check(data, images=False)
  assert result.found()['images', 'bad-size']['rejected'] == 1


@pytest.mark.parametrize('file_name, kind', [
    ('small.png', 'size-mismatch'), ('no.png', 'image-missing'),
    ('', 'bad-field')])
def test_annotations_go_with_their_image(check, file_name, kind):
  data = clean()
  data['images'][0]['file_name'] = file_name
  result = check(data)
  assert result.found()['images', kind]['rejected'] == 1
  assert result.found()['annotations', 'image-rejected']['rejected'] == 3
  assert [a['id'] for a in result.data['annotations']] == [4, 6]


def test_run_lengths_of_the_size_of_the_file_settle_the_size(check):
  data = clean()
  data['images'][0]['width'] = 20
  del data['annotations'][2], data['annotations'][0]
  result = check(data)
  assert set(result.found()) == {('images', 'size-mismatch')}
  assert result.data['images'][0]['width'] == 16
  data['annotations'][0]['segmentation'] = {'size': [12, 20],
                                            'counts': [20, 5, 215]}
  result = check(data)
  assert result.found()['images', 'size-mismatch']['rejected'] == 1


@pytest.mark.parametrize('kind, change, outcome', [
    ('duplicate-id', add('annotations', 0), 'dropped'),
    ('duplicate-id', add('annotations', 0, area=40, category_id=4,
                         segmentation=[[1, 1, 14, 1, 14, 9]],
                         bbox=[1, 1, 13, 8]), 'repaired'),
    ('same-mask', add('annotations', 0, id=77), 'dropped'),
    ('same-mask', add('annotations', 0, id=77, category_id=4), 'left'),
    ('same-mask', add('annotations', 0, id=77, segmentation={
        'size': [12, 16],
        'counts': [25] + [6, 6] * 7 + [6, 77]}), 'left'),
])
def test_annotations_that_come_twice_are_found(check, kind, change, outcome):
  data = clean()
  change(data)
  result = check(data)
  assert set(result.found()) == {('annotations', kind)}
  assert result.found()['annotations', kind][outcome] == 1
  assert result.data['annotations'][:5] == clean()['annotations']
  assert not result.fixed.has_errors
  last = result.data['annotations'][5:]
  if outcome == 'repaired':
    assert last == [data['annotations'][5] | {'id': 7}]
  else:
    assert last == ([] if outcome == 'dropped' else data['annotations'][5:])


def test_masks_of_the_same_box_and_area_are_not_the_same(check):
  data = clean()
  add('annotations', 4, id=7)(data)
  # A column of three pixels, with one beside the first or the last of them.
  for position, counts in (4, [25, 3, 9, 1, 154]), (5, [25, 3, 11, 1, 152]):
    data['annotations'][position].update(
        bbox=[2, 1, 2, 3], area=4,
        segmentation={'size': [12, 16], 'counts': counts})
  assert not check(data).report.findings


@pytest.mark.parametrize('kind, change, then, left', [
    ('bad-field', put('categories', 0, name=3), 'category-rejected', [4]),
    ('nan', put('categories', 0, id=NAN), 'unknown-category', [4]),
    ('bad-id', put('categories', 0, id=None), 'unknown-category', [4]),
    ('string-category', put('categories', 0, id='3'), 'unknown-category', [4]),
    ('not-an-object', replace('categories', 1, 7), 'unknown-category', [3]),
])
def test_annotations_go_with_their_category(check, kind, change, then, left):
  data = clean()
  change(data)
  result = check(data)
  assert set(result.found()) == {('categories', kind), ('annotations', then)}
  assert [c['id'] for c in result.data['categories']] == left
  assert {a['category_id'] for a in result.data['annotations']} == set(left)


@pytest.mark.parametrize('table, index, entry, left', [
    ('images', 1, {'id': 9, 'file_name': '11.png'} | SIZE, [1, 2, 3]),
    ('categories', 0, {'id': 3, 'name': 'cow'}, [2, 4]),
])
@pytest.mark.parametrize('copies', [0, 1])
def test_two_things_of_one_id_are_rejected_with_what_refers_to_either(
    check, table, index, entry, left, copies):
  data = clean()
  data[table] += copies * [data[table][index]] + [entry]
  data[table] += copies * [data[table][index]]
  result = check(data)
  kind = {'images': 'image-rejected', 'categories': 'category-rejected'}[table]
  assert set(result.found()) == {(table, 'duplicate-id'), ('annotations', kind)}
  assert result.found()[table, 'duplicate-id']['rejected'] == 2 + 2 * copies
  assert [e['id'] for e in result.data[table]] == [
      e['id'] for e in clean()[table] if e['id'] != entry['id']]
  assert [a['id'] for a in result.data['annotations']] == left
  assert result.fixed.has_errors


@pytest.mark.parametrize('table', ['images', 'categories'])
def test_exact_copies_of_an_image_or_category_are_only_dropped(check, table):
  data = clean()
  data[table] += [data[table][0]] * 2
  result = check(data)
  assert set(result.found()) == {(table, 'duplicate-id')}
  assert result.found()[table, 'duplicate-id']['dropped'] == 2
  assert result.data == clean() and not result.fixed.has_errors


def test_gaps_of_category_ids_are_a_note(check):
  data = clean()
  data['categories'].append({'id': 9, 'name': 'cow'})
  result = check(data)
  assert set(result.found()) == {('categories', 'category-gaps')}
  assert 'without 5-8' in str(result.report)
  assert result.data == data and not result.report.has_errors


@pytest.mark.parametrize('table, fields, kind, where', [
    ('images', ('image_id',), 'string-id', 'images'),
    ('categories', ('category_id',), 'string-category', 'categories'),
    ('annotations', (), 'string-id', None),
])
def test_ids_that_are_all_numbers_in_strings_become_numbers(
    check, table, fields, kind, where):
  data = clean()
  each(table, 'id', str)(data)
  for field in fields:
    each('annotations', field, str)(data)
  result = check(data)
  assert set(result.found()) == {(table, kind)} | (
      {('annotations', kind)} if where else set())
  assert result.data == clean()


def test_string_ids_that_may_be_two_things_are_left(check):
  data = clean()
  each('images', 'id', str)(data)
  each('annotations', 'image_id', str)(data)
  data['images'][2]['id'] = '05'
  result = check(data)
  assert result.found()['images', 'string-id']['left'] == 3
  assert result.data == data


def test_masks_are_checked_where_no_size_is_known(check):
  data = clean()
  for image in data['images']:
    del image['width'], image['height']
  data['annotations'][0]['segmentation'] = [[1, 2, 3, 4, 5, 'x']]
  data['annotations'][1]['segmentation']['counts'] = [5]
  data['annotations'][4]['bbox'] = [2, 1, 80, 6]
  result = check(data, images=False)
  assert {kind for _, kind in result.found()} == {
      'missing-size', 'bad-polygon', 'bad-rle', 'box-differs'}
  assert result.data['annotations'][-1] == clean()['annotations'][-1]


def test_objects_far_off_are_found_right_where_no_size_is_known(check):
  data = clean()
  del data['images'][0]['width'], data['images'][0]['height']
  for i, x in ((0, 12000), (2, 60000)):
    annotation = data['annotations'][i]
    annotation.update(
        bbox=[x, 10, 100, 100], area=10000, segmentation=[
            [x, 10, x + 100, 10, x + 100, 110, x, 110]])
  result = check(data, images=False)
  assert set(result.found()) == {('images', 'missing-size')}


def test_masks_are_not_the_same_on_images_of_two_sizes(check):
  data = clean()
  del data['images'][0]['width'], data['images'][0]['height']
  for i, size in ((0, [4, 6]), (2, [6, 4])):
    annotation = data['annotations'][i]
    annotation.update(bbox=[0, 0, 1, 4], area=4, segmentation={
        'size': size, 'counts': [0, 4, 20]})
  result = check(data, images=False)
  assert set(result.found()) == {('images', 'missing-size')}


def test_a_box_may_be_a_pixel_off_its_mask(check):
  data = clean()
  data['annotations'][0]['bbox'] = [3, 2, 6, 4]
  assert not check(data).report.findings


def test_each_of_many_masks_of_one_box_and_area_is_looked_at_once(monkeypatch):
  rng = np.random.default_rng(0)
  masks = []
  for position in range(3000):
    mask = np.zeros(400, np.uint8)
    mask[[0, 399, *rng.choice(np.arange(1, 399), 20, replace=False)]] = 1
    masks.append((position, segmentation.checked_rle({
        'size': [20, 20], 'counts': runs(mask)}, 20, 20)))
    masks[-1][1]['counts'] = masks[-1][1]['counts'].decode()
  table = table_lib.Table(
      'annotations', [{'id': position} for position, _ in masks])
  seen = []
  boundaries = segmentation.boundaries
  monkeypatch.setattr(segmentation, 'boundaries',
                      lambda rle: seen.append(rle) or boundaries(rle))
  masks_lib.check_same(table, dict(masks))
  assert len(seen) == 3000  # Not pair by pair.
  assert not table.findings


def runs(mask):
  """Run lengths of a flat mask, zeros first."""
  ends = np.flatnonzero(np.diff(mask, prepend=0, append=2))
  return np.diff(ends, prepend=0).tolist()


def test_image_files_that_pillow_turns_by_itself_have_one_size(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / 'a.tif', exif=exif)
  file = images_lib.probe(str(tmp_path), 'a.tif')
  assert file == images_lib.File(HEIGHT, WIDTH)


def test_verb_prints_what_the_terminal_cannot_show(tmp_path, monkeypatch):
  data = clean()
  data['categories'][0]['name'] = 'dög'
  path = tmp_path / 'dög\udc80.json'
  path.write_text(json.dumps(data))
  for encoding, name in ('ascii', rb'd\xf6g'), ('utf-8', 'dög'.encode()):
    out = io.BytesIO()
    with monkeypatch.context() as m:
      m.setattr(sys, 'stdout', io.TextIOWrapper(out, encoding))
      assert main.main(['data', 'check', '--annotations', str(path)]) == 0
      sys.stdout.flush()
      text = out.getvalue()
    assert name + rb'\udc80.json' in text and name + b' 3' in text


def test_box_of_the_polygons_is_right_where_their_tip_covers_no_pixel(check):
  data = clean()
  # All but the first two columns are thinner than a pixel.
  tip = [[1, 4, 3, 4, 15, 4, 3, 4.4, 3, 8, 1, 8]]
  data['annotations'][0].update(segmentation=tip, bbox=[1, 4, 14, 4])
  mask = coco_json.annotation_mask_rle({'segmentation': tip}, HEIGHT, WIDTH)
  assert coco_mask.toBbox(mask).tolist() == [1, 4, 2, 4]
  assert not check(data).report.findings
  data['annotations'][0]['bbox'] = [1, 4, 2, 4]
  assert not check(data).report.findings
  data['annotations'][0]['bbox'] = [1, 4, 8, 4]
  result = check(data)
  assert set(result.found()) == {('annotations', 'box-differs')}
  assert result.data['annotations'][0]['bbox'] == [1, 4, 2, 4]


@pytest.mark.parametrize('name, value', [
    ('images', ...), ('images', {}), ('images', []), ('images', [1, 2]),
    ('annotations', ...), ('annotations', 'x'), ('categories', None),
    ('categories', [])])
def test_file_of_which_nothing_is_left_is_unfit_and_not_written(
    check, tmp_path, name, value):
  data = clean()
  data[name] = value
  if value is ...:
    del data[name]
  result = check(data)
  assert f'`{name}`' in result.fixed.unfit and result.fixed.unfit in str(
      result.fixed)
  assert result.report.has_errors and result.fixed.has_errors
  assert [p.name for p in tmp_path.iterdir()] == ['in.json']


@pytest.mark.parametrize('text', ['', '[]', '3', '{"images": [', '[' * 10**5])
def test_what_is_no_object_is_an_input_error(tmp_path, text):
  (tmp_path / 'in.json').write_text(text)
  with pytest.raises(errors.InputError, match='in.json'):
    doctor.check(str(tmp_path / 'in.json'))


def test_input_is_never_written_over(tmp_path):
  path = tmp_path / 'in.json'
  path.write_text(json.dumps(clean()))
  (tmp_path / 'link.json').symlink_to(path)
  for target in path, tmp_path / 'link.json', tmp_path:
    with pytest.raises(errors.InputError, match='--fix should name'):
      doctor.check(str(path), fix_path=str(target))
  with pytest.raises(errors.InputError, match='folder with the images'):
    doctor.check(str(path), image_dir=str(tmp_path / 'none'))
  assert json.loads(path.read_text()) == clean()


def test_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
  path = tmp_path / 'in.json'
  path.write_text(json.dumps(clean()))
  with pytest.raises(
      errors.InputError, match='in.json: .* a folder to write to'):
    doctor.check(str(path), fix_path=str(path / 'out.json'))
  assert [p.name for p in tmp_path.iterdir()] == ['in.json']
  (tmp_path / 'out.json.changes.jsonl').mkdir()
  with pytest.raises(errors.InputError, match='out.json.* a file that can be'):
    doctor.check(str(path), fix_path=str(tmp_path / 'out.json'))
  assert {p.name for p in tmp_path.iterdir()} == {'in.json',
                                                  'out.json.changes.jsonl'}


@pytest.mark.parametrize('depth', [60, 300, 900])
def test_deep_nesting_is_survived(check, depth):
  for field in 'segmentation', 'extra', 'bbox', 'id':
    for deep in ('[' * depth + ']' * depth,
                 '{"a":' * depth + '1' + '}' * depth):
      data = clean()
      try:
        data['annotations'][0][field] = json.loads(deep)
      except RecursionError:
        pytest.skip('deeper than Python reads')
      result = check(data)
      assert result.found()['annotations', 'bad-field']['rejected'] == 1
      assert len(result.data['annotations']) == 4


def test_every_kind_of_defect_has_a_test():
  named = {c[0] for c in REPAIRED + REJECTED} | {
      'bad-size', 'category-gaps', 'category-rejected', 'duplicate-id',
      'exif-rotation', 'image-missing', 'image-rejected', 'image-unreadable',
      'missing-size', 'nan-elsewhere', 'no-segmentation', 'same-mask',
      'size-mismatch', 'string-category', 'string-id'}
  assert named == set(table_lib.KINDS)


def test_processes_find_the_same_and_load_no_tensorflow(tmp_path, image_dir):
  data = clean()
  names = ['5.png', 'cut.png', 'rotated.jpg', 'no.png'] * 10
  data['images'] += [{'id': i, 'file_name': name} | SIZE
                     for i, name in enumerate(names, 100)]
  path = tmp_path / 'in.json'
  path.write_text(json.dumps(data))
  one, two = (doctor.check(str(path), image_dir, num_workers=n) for n in (1, 2))
  assert one == two
  assert {f['kind']: f['count'] for f in two.findings} == {
      'image-missing': 10, 'image-unreadable': 10, 'exif-rotation': 10}
  subprocess.run(
      [sys.executable, '-c', 'import sys; import panet_tf.data.doctor.doctor; '
       'assert "tensorflow" not in sys.modules'],
      check=True, cwd=pathlib.Path(__file__).resolve().parents[2])


def test_report_is_plain_text_and_strict_json(check):
  data = clean()
  data['categories'][0]['name'] = 'dög\n\x1b[31m\ud800'
  data['annotations'][0].update(id='\n\ud800', bbox=[NAN] * 4)
  data['annotations'][1]['area'] = float('inf')
  data['annotations'][2]['image_id'] = '\x1b\n'
  result = check(data)
  for report in result.report, result.fixed:
    str(report).encode('utf-8')
    assert 'decoded' not in str(report)  # No JPEG is.
    assert '\x1b' not in str(report) and 'dög' in str(report)
    assert max(map(len, str(report).splitlines())) < 120
    back = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert back['ledger'] == report.ledger
    assert back['has_errors'] is True


def test_summary_counts_what_is_there(check):
  summary = check(clean()).report.as_dict()['summary']
  assert summary['sizes'] == {'16x12': 3}
  assert summary['objects_per_image'] == {
      'min': 0, 'median': 2, 'mean': 1.67, 'max': 3, 'without': 1}
  assert summary['categories'] == [{'id': 3, 'name': 'dog', 'count': 3},
                                   {'id': 4, 'name': 'cat', 'count': 2}]
  assert summary['crowds'] == 1
  assert [a['count'] for a in summary['areas']] == [5] + [0] * 8


# Everything that JSON can say where something else should stand.
JUNK = [
    None, True, False, 0, 1, -1, 2, 3, 5, 9, 12, 16, 2**31, 2**63, 10**30,
    10**400, 0.5, 1.0, 5.0, -0.0, 1e-9, 1e300, NAN, float('inf'), '', 'x', '5',
    '1', 'dog', '5.png', '../5.png', 'no.png', 'cut.png', 'small.png',
    'rotated.jpg', '\0', '\ud800', 'PPYo0', [], {}, [[]], [[[]]], [{}],
    {'a': 1}, POINTS, [POINTS], [1, 2, 3, 4, 5, 6], [[1, 1, 4, 1, 4, 4]],
    [0, 0, 16, 12], [-5, -5, 50, 50], [NAN] * 4, [12, 16], [16, 12],
    [12.0, 16.0], [192],
    [20, 5, 167], [20, 5], [0, 192], [-1, 193], [1e308, 1e308],
    {'size': [12, 16], 'counts': [20, 5, 167]}, {'size': [12, 16]},
    {'size': [12.0, 16.0], 'counts': [20, 5, 167]},
    {'size': [True, 192], 'counts': [20, 5, 167]},
    {'size': [10**9, 10**9], 'counts': [10**18]},
    [[1e5, 1e5, 2e5, 1e5, 1e5, 0]], [[-9e4, -9e4, 9e4, -9e4, 9e4, 9e4]]]


def corrupt(data, rng):
  """Changes a few nodes of the three lists, never the lists' being lists."""
  for _ in range(rng.choice([1, 1, 2, 3, 8])):
    table = data[rng.choice(['images', 'annotations', 'annotations',
                             'annotations', 'categories'])]
    # Down to a random node.
    parent, key = table, rng.randrange(len(table))
    while rng.random() < .75 and isinstance(
        parent[key], (list, dict)) and parent[key]:
      parent = parent[key]
      key = rng.choice(list(parent) if isinstance(parent, dict)
                       else range(len(parent)))
    how = rng.choice(['junk', 'junk', 'junk', 'remove', 'repeat', 'move'])
    if how == 'junk':
      parent[key] = copy.deepcopy(rng.choice(JUNK))
    elif how == 'remove' and len(table) > 1:
      del parent[key]
    elif how == 'repeat':
      table.insert(rng.randrange(len(table) + 1),
                   copy.deepcopy(rng.choice(table)))
    elif isinstance(parent[key], (int, float)) and abs(parent[key]) < 1e9:
      parent[key] = parent[key] + rng.choice([-20, -1, .5, 1, 20])


def accounted(data, result):
  """The books, kept a second time: from the two files and the changes."""
  for name in 'images', 'annotations', 'categories':
    lines = [c for c in result.changes if c['table'] == name]
    out_of = {c['position'] for c in lines if c['action'] != 'repair'}
    changed = {}
    for c in lines:
      if c['action'] == 'repair':
        changed.setdefault(c['position'], {})[c['field']] = c['after']
    assert not out_of & changed.keys()
    expected = [json.dumps({**entry, **changed[p]} if p in changed else entry,
                           sort_keys=True)
                for p, entry in enumerate(data[name]) if p not in out_of]
    assert expected == [json.dumps(entry, sort_keys=True)
                        for entry in result.data[name]]
    assert result.fixed.ledger[name] == result.report.ledger[name] == {
        'read': len(data[name]), 'rejected': len(out_of),
        'repaired': len(changed),
        'kept': len(data[name]) - len(out_of) - len(changed)}
  for name in data.keys() - {'images', 'annotations', 'categories'}:
    assert result.data[name] == data[name]


@pytest.mark.parametrize('part', range(10))
def test_no_corruption_crashes_it_or_loses_an_annotation(
    check, image_dir, tmp_path, part):
  """50 corrupted files; each repaired one converts without a word.

  So does one in which no error was found.
  """
  for seed in range(50 * part, 50 * part + 50):
    data = clean()
    corrupt(data, random.Random(seed))
    with_images = seed % 4 != 0
    result = check(data, images=with_images)
    json.dumps(result.fixed.as_dict(), allow_nan=False)
    assert str(result.report)
    if result.fixed.unfit:
      continue
    accounted(data, result)
    coco_json.read(result.out)
    again = doctor.check(result.out, image_dir if with_images else None)
    assert not again.has_errors, seed
    for counts in again.ledger.values():
      assert counts['kept'] == counts['read'], seed
    if not with_images:
      continue
    bare = sum(not a.get('segmentation') for a in result.data['annotations'])
    for path, masks in [(result.out, True), (result.out, False)] + (
        [(result.path, False)] if not result.report.has_errors else []):
      ledger = tfrecord.convert_coco(
          image_dir, path, str(tmp_path / 'shards' / 'x'), num_shards=1,
          include_masks=masks, num_workers=0)
      assert sum(ledger.rejected.values()) == bare * masks, seed


@pytest.mark.parametrize('name, images, annotations, kinds', [
    ('coco_tiny/annotations/instances_train2017', 'coco_tiny/train2017', 705,
     {'category-gaps'}),
    ('coco_tiny/annotations/instances_val2017', 'coco_tiny/val2017', 815,
     {'category-gaps'}),
    ('nuclei/annotations/instances_val', 'nuclei/val', 3132, set()),
])
def test_real_data_is_clean(shared_dir, name, images, annotations, kinds):
  folder = shared_dir / 'data'
  if not folder.is_dir():
    pytest.skip(f'{folder} is absent')
  report = doctor.check(str(folder / f'{name}.json'), str(folder / images))
  assert {f['kind'] for f in report.findings} == kinds
  assert not report.has_errors
  assert report.ledger['annotations'] == {
      'read': annotations, 'kept': annotations, 'repaired': 0, 'rejected': 0}
