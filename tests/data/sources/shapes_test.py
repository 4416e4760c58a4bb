import glob
import json
import pathlib

import cv2
import numpy as np
from pycocotools import mask as coco_mask
import pytest

from panet_tf import errors
from panet_tf.data import tfrecord
from panet_tf.data.sources import shapes


def files(folder):
  return {str(p.relative_to(folder)): p.read_bytes()
          for p in sorted(folder.rglob('*')) if p.is_file()}


def scenes(seed, count=40, size=128):
  return [shapes.scene(np.random.default_rng([seed, i]), size)
          for i in range(1, count + 1)]


def test_same_seed_gives_the_same_bytes_and_another_seed_other_scenes(
    tmp_path):
  made = []
  for name, seed in ('a', 1), ('b', 1), ('c', 2):
    (tmp_path / name).mkdir()
    shapes.make_shapes(str(tmp_path / name / 'train'), 6, seed, image_size=64)
    made.append(files(tmp_path / name))
  assert made[0] == made[1]
  pictures = [{v for k, v in m.items() if k.endswith('.png')} for m in made]
  assert len(pictures[0]) == 6 and not pictures[0] & pictures[2]


def test_files_agree_with_one_another(tmp_path):
  prefix = str(tmp_path / 'val')
  shapes.make_shapes(prefix, 4, seed=3)
  dataset = json.loads(pathlib.Path(prefix + '.json').read_text())
  assert [c['name'] for c in dataset['categories']] == list(shapes.SHAPES)
  assert sorted(p.name for p in (tmp_path / 'val_images').iterdir()) == [
      i['file_name'] for i in dataset['images']]
  truth = tfrecord.ground_truth_from_shards(prefix + '-*.tfrecord')

  def key(a):
    return (a['image_id'], a['segmentation']['counts'], a['area'])

  assert sorted(map(key, truth['annotations'])) == sorted(
      map(key, dataset['annotations']))
  image, labels, masks = shapes.scene(np.random.default_rng([3, 2]), 128)
  written = cv2.imread(str(tmp_path / 'val_images/000002.png'))
  np.testing.assert_array_equal(written[..., ::-1], image)
  second = [a for a in dataset['annotations'] if a['image_id'] == 2]
  assert [a['category_id'] for a in second] == labels
  for annotation, mask in zip(second, masks, strict=True):
    np.testing.assert_array_equal(
        coco_mask.decode(annotation['segmentation']), mask)


def test_masks_are_disjoint_and_none_is_hidden():
  for _, labels, masks in scenes(1):
    assert 1 <= len(labels) == len(masks) <= 8
    assert np.sum(masks, axis=0).max() == 1
    assert min(mask.sum() for mask in masks) >= 16


def test_sizes_and_classes_are_spread():
  made = scenes(2, count=100)
  areas = np.array([m.sum() for _, _, masks in made for m in masks])
  labels = np.concatenate([labels for _, labels, _ in made])
  assert areas.min() < 60 and areas.max() > 2500
  assert np.bincount(labels)[1:].min() > 0.15 * len(labels)


def test_objects_overlap():
  def touches(a, b):
    return (cv2.dilate(a.astype(np.uint8), np.ones([3, 3])) & b).any()
  touching = sum(touches(a, b) for _, _, masks in scenes(3) for i, a in
                 enumerate(masks) for b in masks[:i])
  assert touching > 10


@pytest.mark.parametrize('shape, fraction', [
    ('circle', np.pi), ('square', 2), ('triangle', 3 * 3**0.5 / 4),
    ('star', 10 * 0.45 * np.sin(np.pi / 5) / 2)])
def test_outline_encloses_the_area_of_its_shape(shape, fraction):

  for angle in 0, 0.7:
    x, y = shapes._outline(shape, angle).T
    area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    assert area == pytest.approx(fraction, rel=0.002)


@pytest.mark.parametrize('shape', shapes.SHAPES)
def test_coverage_is_its_polygon_with_a_soft_edge(shape):

  corners = shapes._outline(shape, 0.7) * 30 + 40.25
  coverage = shapes._coverage(corners, 80)
  contour = corners.astype(np.float32)
  for y, x in np.ndindex(80, 80):
    depth = cv2.pointPolygonTest(contour, (x, y), True)
    if abs(depth) > 2:
      assert coverage[y, x] == (depth > 0)
  assert np.count_nonzero((coverage > 0) & (coverage < 1)) > 50


def test_image_size_scales_the_objects():
  area = {size: np.median([m.sum() for _, _, masks in scenes(4, 60, size)
                           for m in masks]) for size in (64, 128)}
  assert area[128] / area[64] == pytest.approx(4, rel=0.4)


@pytest.mark.parametrize('arguments, name', [
    ((0, 1), 'num_images'), ((1, -1), 'seed'), ((1, 1, 32), 'image_size')])
def test_argument_out_of_range_is_named(tmp_path, arguments, name):
  with pytest.raises(errors.InputError, match=f'{name}: .* should be at least'):
    shapes.make_shapes(str(tmp_path / 'x'), *arguments)
  assert not glob.glob(str(tmp_path / '*'))


def test_prefix_without_a_name_is_refused_before_anything_is_written(tmp_path):
  with pytest.raises(errors.InputError, match='output prefix should end in'):
    shapes.make_shapes(f'{tmp_path}/x/', 1, 1)
  assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_old_json(tmp_path, monkeypatch):
  shapes.make_shapes(str(tmp_path / 'a'), 1, 1, image_size=64)
  before = (tmp_path / 'a.json').read_bytes()

  def full(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr('os.replace', full)
  with pytest.raises(errors.InputError, match='No space left'):
    shapes.make_shapes(str(tmp_path / 'a'), 2, 1, image_size=64)
  assert (tmp_path / 'a.json').read_bytes() == before


def test_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(
      errors.InputError, match='file/x: scenes cannot be written'):
    shapes.make_shapes(str(tmp_path / 'file' / 'x'), 1, 1)
