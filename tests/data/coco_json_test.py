import json

import numpy as np
from pycocotools import mask as coco_mask
import pytest

from panet_tf import errors
from panet_tf.data import coco_json
from panet_tf.data import segmentation

H, W = 20, 30


def blob():
  """A mask with a hole and two parts, [H, W] bool."""
  mask = np.zeros([H, W], bool)
  mask[3:12, 4:18] = True
  mask[6:9, 8:12] = False
  mask[15:18, 20:29] = True
  return mask


def runs(mask):
  """Uncompressed RLE counts by hand: column by column, zeros first."""
  counts, value, run = [], 0, 0
  for pixel in mask.T.ravel():
    if pixel != value:
      counts.append(run)
      value, run = pixel, 0
    run += 1
  return [int(c) for c in counts + [run]]


def decoded(value, **fields):
  annotation = {'id': 1, 'segmentation': value} | fields
  return coco_mask.decode(
      coco_json.annotation_mask_rle(annotation, H, W)).astype(bool)


@pytest.mark.parametrize('iscrowd', [0, 1, None])
def test_both_kinds_of_rle_give_their_pixels_at_any_iscrowd(iscrowd):
  compressed = coco_mask.encode(np.asfortranarray(blob(), np.uint8))
  for counts in runs(blob()), compressed['counts'].decode():
    segmentation = {'size': [H, W], 'counts': counts}
    np.testing.assert_array_equal(
        decoded(segmentation, iscrowd=iscrowd), blob())


@pytest.mark.parametrize('iscrowd', [0, 1, None])
def test_several_polygons_are_one_mask(iscrowd):
  parts = [[2, 2, 10, 2, 10, 8, 2, 8], [8, 5, 25, 5, 25, 15, 8, 15]]
  expected = np.zeros([H, W], bool)
  expected[2:8, 2:10] = True
  expected[5:15, 8:25] = True
  np.testing.assert_array_equal(decoded(parts, iscrowd=iscrowd), expected)


def test_polygon_of_two_points_is_no_box():
  assert not decoded([[2, 2, 10, 10]]).any()
  assert decoded([[2, 2, 10, 10], [2, 2, 6, 2, 6, 6, 2, 6]]).sum() == 16


@pytest.mark.parametrize('segmentation', [None, [], {}])
def test_annotation_without_segmentation_has_no_mask(segmentation):
  annotation = {'id': 1, 'segmentation': segmentation}
  assert coco_json.annotation_mask_rle(annotation, H, W) is None
  assert coco_json.annotation_mask_rle({'id': 1}, H, W) is None


def test_polygon_that_winds_for_long_is_still_read():
  around = [2, 2, 10, 2, 10, 8, 2, 8]
  np.testing.assert_array_equal(decoded([around * 20001]), decoded([around]))


def test_image_of_more_pixels_than_run_lengths_count_is_named():
  for mask in ([[1, 1, 4, 1, 4, 4]],
               {'size': [2**16, 2**16], 'counts': [2**32]}):
    with pytest.raises(
        errors.InputError, match='image of 65536x65536; .* 2..32'):
      coco_json.annotation_mask_rle(
          {'id': 1, 'segmentation': mask}, 2**16, 2**16)


def test_boundaries_are_equal_where_masks_are_and_only_there():
  rng = np.random.default_rng(0)
  masks, keys = {}, {}
  for _ in range(4000):
    cuts = np.sort(rng.integers(0, 10, rng.integers(1, 8)))
    rle = segmentation.checked_rle(
        {'size': [3, 3], 'counts': np.diff(cuts, prepend=0, append=9).tolist()},
        3, 3)
    mask = coco_mask.decode(rle).tobytes()
    key = segmentation.boundaries(rle | {'counts': rle['counts'].decode()})
    assert masks.setdefault(key, mask) == mask
    assert keys.setdefault(mask, key) == key
  assert len(keys) > 200


def test_mask_can_be_written_as_json():
  segmentation = {'size': [H, W], 'counts': runs(blob())}
  rle = coco_json.annotation_mask_rle(
      {'id': 1, 'segmentation': segmentation}, H, W)
  assert json.loads(json.dumps(rle)) == rle


@pytest.mark.parametrize('segmentation, message', [
    ({'size': [W, H], 'counts': runs(blob())}, r'its image has .*\[20, 30\]'),
    ({'size': [H, W], 'counts': [600, 1]}, 'sum to 601, should be .* 600'),
    ({'size': [H, W], 'counts': [500]}, 'sum to 500'),
    ({'size': [H, W], 'counts': [2**63 - 1, 2**63 - 1, 602]}, 'sum to 1844'),
    ({'size': [H, W], 'counts': []}, 'sum to 0'),
    ({'size': [H, W], 'counts': ''}, 'not a compressed RLE string'),
    ({'size': [H, W], 'counts': [-1, 601]}, 'none negative'),
    ({'size': [H, W], 'counts': [600.0]}, 'list of whole numbers nor a string'),
    ({'size': [H, W]}, 'list of whole numbers nor a string'),
    ({'size': [H, W], 'counts': '0'}, 'sum to 0'),
    ({'size': [H, W], 'counts': 'T'}, 'middle of a run'),
    ({'size': [H, W], 'counts': '\x01é'}, 'not a compressed RLE string'),
    ([1, 2, 3, 4, 5, 6], r'list of polygons \[\[x1'),
    ([[1, 2, 3, 4, 5, 6, 7]], 'pairs of numbers'),
    ([[1, 2, 3, 4, 5, 'x']], 'pairs of numbers'),
    ([[1, 2, 3, 4, 5, float('nan')]], 'pairs of numbers'),
    ([[1, 2, 1e9, 4, 5, 6]], r'leaves the image \(30x20\) by far'),
    ([[99999, 10, -99999, 20] * 50], 'longer than 1000000 pixels'),
    ([[1, 2, 10**400, 4, 5, 6]], 'pairs of numbers'),
    ('none', 'polygons or RLE'), (5, 'polygons or RLE'),
    (True, 'polygons or RLE'),
])
def test_malformed_segmentation_names_the_annotation(segmentation, message):
  annotation = {'id': 'a17', 'segmentation': segmentation}
  with pytest.raises(errors.InputError, match=f"annotation 'a17'.*{message}"):
    coco_json.annotation_mask_rle(annotation, H, W)


@pytest.mark.parametrize('box, expected', [
    ([2, 3, 4, 5], [2, 3, 4, 5]),
    ([-3, -2, 10, 10], [0, 0, 7, 8]),
    ([25, 15, 100, 100], [25, 15, 5, 5]),
    ([30, 3, 4, 5], None),
    ([2, 3, 0, 5], None),
    ([2, 3, 4, -5], None),
])
def test_box_is_clipped_to_the_image(box, expected):
  assert coco_json.annotation_box({'bbox': box}, None, H, W) == expected


def test_missing_box_and_area_come_from_the_mask():
  annotation = {'id': 1, 'segmentation': {'size': [H, W],
                                          'counts': runs(blob())}}
  rle = coco_json.annotation_mask_rle(annotation, H, W)
  box = coco_json.annotation_box(annotation, rle, H, W)
  assert box == [4, 3, 25, 15]
  assert coco_json.annotation_area(annotation, rle, box) == blob().sum()
  assert coco_json.annotation_area(annotation, None, box) == 25 * 15
  assert coco_json.annotation_area({'area': 2.5}, rle, box) == 2.5


@pytest.mark.parametrize('box', [None, [1, 2, 3], [1, 2, 3, 'x'], 'box',
                                 [1, 2, float('inf'), 3]])
def test_box_that_is_none_names_the_annotation(box):
  with pytest.raises(
      errors.InputError, match=r'annotation 4: `bbox`.*width, height'):
    coco_json.annotation_box({'id': 4, 'bbox': box}, None, H, W)


def minimal():
  return {'images': [{'id': 1, 'file_name': 'a.png'}],
          'annotations': [{'id': 1, 'image_id': 1, 'category_id': 1}],
          'categories': [{'id': 1, 'name': 'cat'}]}


def read_text(tmp_path, text):
  path = tmp_path / 'instances.json'
  path.write_text(text)
  return coco_json.read(str(path))


def test_least_that_is_right_is_read(tmp_path):
  assert read_text(tmp_path, json.dumps(minimal())) == minimal()


def test_missing_file_and_folder_are_named(tmp_path):
  for path in tmp_path / 'absent.json', tmp_path:
    with pytest.raises(errors.InputError, match=f'{path}.*should be here'):
      coco_json.read(str(path))


@pytest.mark.parametrize('text, message', [
    ('', 'the file is empty'), (' \n', 'the file is empty'),
    ('{"images": [', 'not JSON.*line 1'), ('[]', 'holds a list'),
    ('{}', '`images` should be a list.*missing'),
    ('{"images": {}}', '`images` should be a list.*dict'),
    ('{"images": []}', '`images` is empty'),
])
def test_text_that_is_not_coco_is_named(tmp_path, text, message):
  with pytest.raises(errors.InputError, match=f'instances.json: {message}'):
    read_text(tmp_path, text)


def test_file_that_is_not_text_is_named(tmp_path):
  (tmp_path / 'a.json').write_bytes(b'\x89PNG\xff')
  with pytest.raises(errors.InputError, match='a.json: not a text file'):
    coco_json.read(str(tmp_path / 'a.json'))


@pytest.mark.parametrize('name, change, message', [
    ('images', {'id': None}, r'images\[0\].*`id` is None, should be a whole'),
    ('images', {'id': True}, '`id` is True'),
    ('images', {'file_name': ''}, '`file_name` is .*, should be a path'),
    ('images', {'file_name': 'a\0b'}, '`file_name` is'),
    ('images', {'width': '640'}, "`width` is '640', should be a whole number"),
    ('images', {'height': 0}, '`height` is 0'),
    ('images', {'height': 2**31}, '`height` is 2147483648, .* than 2[*][*]31'),
    ('images', {'id': 2**63}, r'`id` is 9.*less than 2\*\*63'),
    ('annotations', {'area': 10**400}, '`area` is 1000'),
    ('annotations', {'bbox': [1, 2, 3]}, r'`bbox` is \[1, 2, 3\], should be '
     'four numbers: x, y, width, height'),
    ('annotations', {'bbox': [1, 2, 3, float('nan')]}, '`bbox` is .*nan'),
    ('annotations', {'bbox': [1, 2, 3, 10**400]}, '`bbox` is'),
    ('annotations', {'bbox': [1, 2, 3, True]}, '`bbox` is'),
    ('annotations', {'bbox': {}}, '`bbox` is {}'),
    ('annotations', {'iscrowd': 2}, '`iscrowd` is 2, should be 0 or 1'),
    ('annotations', {'area': -1}, '`area` is -1'),
    ('annotations', {'category_id': 'cat'}, "`category_id` is 'cat'"),
    ('annotations', {'category_id': 5}, r'`category_id` 5 is not .*categories'),
    ('annotations', {'image_id': '1'}, "`image_id` '1' is not .*images"),
    ('categories', {'name': 3}, '`name` is 3, should be a string'),
])
def test_wrong_field_is_named(tmp_path, name, change, message):
  dataset = minimal()
  dataset[name][0].update(change)
  with pytest.raises(errors.InputError, match=f'instances.json: .*{message}'):
    read_text(tmp_path, json.dumps(dataset))


@pytest.mark.parametrize('name', ['images', 'annotations', 'categories'])
def test_repeated_id_and_entry_of_another_kind_are_named(tmp_path, name):
  dataset = minimal()
  dataset[name] *= 2
  with pytest.raises(errors.InputError, match=rf'{name}\[1\] \(id 1\).*twice'):
    read_text(tmp_path, json.dumps(dataset))
  dataset[name] = ['x']
  with pytest.raises(
      errors.InputError, match=rf'{name}\[0\] is str, should be an'):
    read_text(tmp_path, json.dumps(dataset))


def test_messages_are_one_line(tmp_path):
  dataset = minimal()
  dataset['images'][0]['file_name'] = {'x': 'line\n' * 50}
  with pytest.raises(errors.InputError) as e:
    read_text(tmp_path, json.dumps(dataset))
  assert '\n' not in str(e.value) and len(str(e.value)) < 300
