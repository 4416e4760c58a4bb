"""Which images are predicted, under which ids, and where pictures go."""

import json
import os

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils
import pytest

from panet_tf import errors
from panet_tf.drawing import pictures
from panet_tf.inference import detector
from panet_tf.inference import open_model
from panet_tf.prediction import outputs
from panet_tf.prediction import predict
from panet_tf.structures import detections
from panet_tf.structures import mask_windows


class _Predictor(detector.Detector):
  """Finds one object in each image."""
  categories = [{'label': 1, 'id': 7, 'name': 'thing'}]

  def _detect(self, image):
    return detections.Detections(
        np.float32([[1, 1, 6, 6]]), np.float32([0.9]), np.int32([1]),
        image.shape[:2])


@pytest.fixture(autouse=True)
def _no_checkpoint(monkeypatch):
  monkeypatch.setattr(open_model, 'open_model', lambda *unused: _Predictor())


@pytest.fixture(name='image')
def _image(tmp_path):
  def write(name):
    path = tmp_path / 'images' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lstrip('.') or 'png'
    Image.fromarray(np.zeros([8, 8, 3], np.uint8)).save(path, ending)
    return path
  return write


def _run(tmp_path, images='images', output='out', names=None):
  """Image ids of the results; `names`: file name of image 1, 2, .."""
  annotations = ''
  if names:
    annotations = tmp_path / 'a.json'
    annotations.write_text(json.dumps({
        'images': [{'id': i, 'file_name': name}
                   for i, name in enumerate(names, 1)],
        'annotations': [], 'categories': [{'id': 7, 'name': 'thing'}]}))
  predict.predict('none', str(tmp_path / images), str(tmp_path / output),
                  annotations=str(annotations))
  found = json.loads((tmp_path / output / 'predictions.json').read_text())
  return [result['image_id'] for result in found]


def test_a_file_name_is_the_id_where_there_are_no_annotations(tmp_path, image):
  image('a.png'), image('b.png')
  assert _run(tmp_path) == ['a.png', 'b.png']
  assert sorted(os.listdir(tmp_path / 'out')) == [
      'a.png', 'b.png', 'index.html', 'predictions.json']


def test_folders_tell_images_of_one_name_apart(tmp_path, image):
  image('val/ulm/x.png'), image('val/ulm/y.png')
  names = ['val/bonn/x.png', 'val/ulm/x.png', 'train/ulm/x.png', 'y.png']
  assert _run(tmp_path, 'images/val/*/*.png', names=names) == [2, 4]


def test_an_image_that_may_be_either_of_two_is_named(tmp_path, image):
  image('x.png')
  with pytest.raises(errors.InputError, match='x.png may be ulm/x.png or bonn'):
    _run(tmp_path, names=['ulm/x.png', 'bonn/x.png'])
  with pytest.raises(errors.InputError, match='x.png is not among'):
    _run(tmp_path, names=['ulm/xx.png'])
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('names', [None, ['ulm/x.png', 'bonn/x.png']])
def test_two_images_of_one_name_are_refused(tmp_path, image, names):
  image('ulm/x.png'), image('bonn/x.png')
  with pytest.raises(errors.InputError, match='bonn/x.png and .*ulm/x.png'):
    _run(tmp_path, 'images/*/x.png', names=names)
  assert not (tmp_path / 'out').exists()


def test_no_two_images_share_a_picture(tmp_path, image):
  names = ['a.jpeg', 'a.png', 'a.png.bmp', 'b.png']
  for name in names:
    image(name)
  _run(tmp_path)
  assert sorted(os.listdir(tmp_path / 'out')) == [
      'a.jpeg.png', 'a.png.bmp.png', 'a.png.png', 'b.png', 'index.html',
      'predictions.json']


@pytest.mark.parametrize('output', ['images', 'images/../images', 'link'])
def test_images_are_not_replaced_by_their_pictures(tmp_path, image, output):
  before = image('a.png').read_bytes()
  (tmp_path / 'link').symlink_to(tmp_path / 'images')
  with pytest.raises(errors.InputError, match='output_dir .* another folder'):
    _run(tmp_path, 'images/a.*', output)
  assert os.listdir(tmp_path / 'images') == ['a.png']
  assert (tmp_path / 'images' / 'a.png').read_bytes() == before


def test_the_folder_that_a_linked_image_lies_in_is_not_written_to(
    tmp_path, image):
  path = image('a.png')
  (tmp_path / 'links').mkdir()
  (tmp_path / 'links' / 'a.png').symlink_to(path)
  with pytest.raises(errors.InputError, match='another folder'):
    _run(tmp_path, 'links', 'images')


@pytest.mark.parametrize('name', ['a.png', 'predictions.json',
                                  'predictions.partial.jsonl'])
def test_a_folder_in_the_place_of_a_file_is_found_first(tmp_path, image, name):
  image('a.png')
  (tmp_path / 'out' / name).mkdir(parents=True)
  with pytest.raises(errors.InputError, match=f'{name}: is a folder'):
    _run(tmp_path)
  assert os.listdir(tmp_path / 'out') == [name]


def test_an_output_folder_that_is_a_file_is_named(tmp_path, image):
  image('a.png')
  (tmp_path / 'out').write_text('')
  with pytest.raises(errors.InputError, match='out: File exists; expected a f'):
    _run(tmp_path)


def test_masks_as_large_as_the_image_are_written_and_drawn_as_they_are(
    tmp_path, image, monkeypatch):
  image('a.png')
  mask = np.zeros([2, 8, 8], bool)
  mask[0, 2:7, 3], mask[0, 0, 0] = True, True  # Also beyond its box.
  found = detections.Detections(
      np.float32([[1, 1, 6, 6]] * 2), np.float32([0.9, 0.8]), np.int32([1, 1]),
      (8, 8), mask_windows.of_images(mask))
  monkeypatch.setattr(_Predictor, '_detect', lambda self, image: found)
  _run(tmp_path)
  written = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
  for result, wanted in zip(written, mask, strict=True):
    np.testing.assert_array_equal(
        mask_utils.decode(result['segmentation']), wanted)
  np.testing.assert_array_equal(
      Image.open(tmp_path / 'out' / 'a.png'), pictures.draw_detections(
          np.zeros([8, 8, 3], np.uint8), found, {1: 'thing'}))


_SQUARE = {'id': 1, 'image_id': 2, 'category_id': 7,
           'segmentation': [[1, 1, 6, 1, 6, 6, 1, 6]]}


def _run_with_truth(tmp_path, image, *annotations):
  """Pictures of a.png, which is image 1, and b.png, image 2."""
  image('a.png'), image('b.png')
  (tmp_path / 'a.json').write_text(json.dumps({
      'images': [{'id': 1, 'file_name': 'a.png'},
                 {'id': 2, 'file_name': 'b.png'}],
      'annotations': annotations,
      'categories': [{'id': 7, 'name': 'thing'}, {'id': 8, 'name': 'new'}]}))
  predict.predict('none', str(tmp_path / 'images'), str(tmp_path / 'out'),
                  annotations=str(tmp_path / 'a.json'))
  return [np.asarray(Image.open(tmp_path / 'out' / name))
          for name in ('a.png', 'b.png')]


def test_the_truth_of_each_image_is_drawn_beside_what_was_found(
    tmp_path, image):
  unknown = dict(_SQUARE, id=2, category_id=8)
  drawn = _run_with_truth(tmp_path, image, _SQUARE, unknown)
  black = np.zeros([8, 8, 3], np.uint8)
  for picture, truth in zip(drawn, ([], [_SQUARE]), strict=True):
    np.testing.assert_array_equal(picture, pictures.draw_detections(
        black, _Predictor().detect(black), {1: 'thing'},
        ground_truth=outputs.ground_truth(truth, 8, 8, {7: 1})))


def test_a_broken_annotation_is_named_with_its_file(tmp_path, image):
  with pytest.raises(errors.InputError, match=r'a.json: annotation 1: `segm'):
    _run_with_truth(tmp_path, image, dict(_SQUARE, segmentation=[[1]]))
