import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
import pytest

from panet_tf import errors
from panet_tf.data.sources import instance_png

ENTRY = {'file_name': 'a.jpg', 'height': 4, 'width': 6}


def save(path, pixels):
  Image.fromarray(pixels).save(path)
  return str(path)


def mask_by_mask(ids, category_of):
  """What `annotations` gives, by encoding one mask after the other."""
  found = []
  for value in np.unique(ids).tolist():
    if category_of(value):
      rle = coco_mask.encode(np.asfortranarray(ids == value, np.uint8))
      category, crowd = category_of(value)
      found.append({
          'category_id': category, 'iscrowd': crowd,
          'area': int(coco_mask.area(rle)),
          'bbox': coco_mask.toBbox(rle).tolist(),
          'segmentation': {'size': rle['size'],
                           'counts': rle['counts'].decode()}})
  return found


@pytest.mark.parametrize('height, width, values, cell', [
    (1, 1, [0], 1), (1, 9, [0, 65535], 1), (9, 1, [3, 7], 1),
    (17, 23, [0, 5, 256, 65535], 1), (40, 30, [0, 1, 1000, 2000, 3000], 7),
    (33, 50, list(range(0, 60000, 1500)), 4), (12, 12, [9], 12)])
def test_annotations_are_those_of_encoding_mask_by_mask(
    tmp_path, height, width, values, cell):
  rng = np.random.default_rng(height * width)
  cells = rng.choice(values, [-(-height // cell), -(-width // cell)])
  ids = cells.repeat(cell, 0).repeat(cell, 1)[:height, :width]
  path = save(tmp_path / 'a.png', ids.astype(np.uint16))

  def category_of(value):
    return (value % 7, value % 2) if value % 5 < 4 else None

  found = instance_png.annotations(
      path, {'file_name': 'a', 'height': height, 'width': width}, category_of)
  assert found == mask_by_mask(ids, category_of)
  json.dumps(found)  # No type of NumPy's is left in.


@pytest.mark.parametrize('mode', ['L', 'RGB', 'P', '1', 'RGBA'])
def test_png_that_is_not_16_bit_grey_is_named(tmp_path, mode):
  Image.new(mode, (6, 4)).save(tmp_path / 'a.png')
  with pytest.raises(
      errors.InputError,
      match=rf'a\.png: .* mode {mode}, should be 16-bit grey'):
    instance_png.annotations(str(tmp_path / 'a.png'), ENTRY, None)


def test_size_that_differs_from_the_image_is_named(tmp_path):
  path = save(tmp_path / 'a.png', np.zeros([6, 4], np.uint16))
  with pytest.raises(errors.InputError,
                     match=r'a\.png: .* 4x6, should be 6x4 as of a\.jpg'):
    instance_png.annotations(path, ENTRY, None)


def test_pixel_value_that_should_not_occur_is_named(tmp_path):
  path = save(tmp_path / 'a.png', np.full([4, 6], 77, np.uint16))

  def category_of(value):
    raise ValueError(f'is not {value + 1}')

  with pytest.raises(
      errors.InputError, match=r'a\.png: pixel value 77 is not 78'):
    instance_png.annotations(path, ENTRY, category_of)


def test_damaged_and_missing_files_are_named(tmp_path):
  rng = np.random.default_rng(0)
  path = tmp_path / 'a.png'
  save(path, rng.integers(0, 65536, [40, 60], np.uint16))
  entry = instance_png.image_entry(str(tmp_path), 'a.png')
  assert entry == {'file_name': 'a.png', 'height': 40, 'width': 60}
  whole = path.read_bytes()
  for data in whole[:-len(whole) // 2], whole[:20], b'', b'text':
    path.write_bytes(data)
    with pytest.raises(
        errors.InputError, match=r'a\.png: .* should be a PNG file'):
      instance_png.annotations(str(path), entry, lambda value: None)
  path.unlink()
  with pytest.raises(errors.InputError, match=r'a\.png: No such file'):
    instance_png.annotations(str(path), entry, None)
  with pytest.raises(errors.InputError, match='should be a PNG or JPEG file'):
    instance_png.image_entry(str(tmp_path), 'a.png')


def test_header_that_claims_too_many_pixels_is_refused(tmp_path):
  path = tmp_path / 'a.png'
  save(path, np.zeros([4, 6], np.uint16))
  data = path.read_bytes()
  header = b'IHDR' + struct.pack('>II', 60000, 60000) + data[24:29]
  path.write_bytes(data[:12] + header + struct.pack('>I', zlib.crc32(header))
                   + data[33:])
  match = rf'a\.png: larger than {2 * Image.MAX_IMAGE_PIXELS} pixels'
  with pytest.raises(errors.InputError, match=match):
    instance_png.image_entry(str(tmp_path), 'a.png')
  with pytest.raises(errors.InputError, match=match):
    instance_png.annotations(str(path), ENTRY, None)


def test_each_image_has_its_truth_and_each_truth_its_image():
  assert instance_png.pairs('r', 'xy', ['a', 'b'], ['b', 'a'], 'x') == [
      ('r', 'x', 'a'), ('r', 'y', 'b')]
  with pytest.raises(errors.InputError,
                     match='^r/b: missing, as 2 of 3 are; fetch it$'):
    instance_png.pairs('r', 'xyz', ['a', 'b', 'c'], ['a'], 'fetch it')
  with pytest.raises(
      errors.InputError, match='^r/c: without image, as 1 of 2 are; '):
    instance_png.pairs('r', 'x', ['a'], ['c', 'a'], 'fetch it')


def frame(number):
  """As of a data set whose image 3 is damaged: a crowd and `number` objects."""
  if number == 3:
    raise errors.InputError('3.png: damaged')
  return {'file_name': f'{number}.png'}, [
      {'category_id': 5, 'iscrowd': int(i == 0)} for i in range(number + 1)]


def write(folder, frames, workers=1):
  return instance_png.write_splits(
      frame, frames, [{'id': 5, 'name': 'cat'}, {'id': 6, 'name': 'dog'}],
      '/a b', str(folder / 'set'), workers)


def test_ids_count_from_1_and_the_summary_says_what_is_next(tmp_path):
  done = write(tmp_path, {'train': [(2,), (0,), (1,)]})
  with open(done.paths['train'], encoding='utf-8') as f:
    dataset = json.load(f)
  assert done.paths['train'] == str(tmp_path / 'set_train.json')
  assert [(i['id'], i['file_name']) for i in dataset['images']] == [
      (1, '2.png'), (2, '0.png'), (3, '1.png')]
  assert [(a['id'], a['image_id']) for a in dataset['annotations']] == [
      (1, 1), (2, 1), (3, 1), (4, 2), (5, 3), (6, 3)]
  text = str(done)
  assert 'train: 3 images, 3 instances, 3 crowds' in text
  assert 'cat=3, dog=0' in text
  assert "next: panet data coco --image_dir '/a b' --annotations" in text


def test_a_split_is_written_whole_or_not_at_all(tmp_path):
  write(tmp_path, {'train': [(1,)], 'val': [(2,)]})
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
  with pytest.raises(errors.InputError, match='3.png: damaged'):
    write(tmp_path, {'val': [(0,), (3,)]})
  assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_output_that_cannot_be_written_is_named_before_the_work(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.InputError,
                     match='file: File exists; expected a folder'):
    write(tmp_path / 'file', {'val': [(3,)]})


def test_converters_need_no_tensorflow():
  """Each process would pay for it."""
  code = ('import sys; from panet_tf.data.sources import cityscapes, mapillary'
          '; sys.exit("tensorflow" in sys.modules)')
  assert not subprocess.run(
      [sys.executable, '-c', code], check=False,
      env=os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}).returncode
