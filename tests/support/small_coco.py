"""A data set of a few small images, to be changed by each test."""

import json

import numpy as np
from PIL import Image
import pytest

from panet_tf.data import tfrecord

HEIGHT, WIDTH = 12, 16


class Coco:
  """A folder with images and a COCO dictionary; `write` makes the JSON."""

  def __init__(self, folder):
    self.folder = folder
    self.image_dir = str(folder / 'images')
    self.json = str(folder / 'annotations.json')
    self.prefix = str(folder / 'shards' / 'train')
    self.data = {'images': [], 'annotations': [],
                 'categories': [{'id': 7, 'name': 'cat'},
                                {'id': 3, 'name': 'dog'}]}
    (folder / 'images').mkdir()

  def add_image(self, image_id, file_name=None, pixels=None, **fields):
    """Saves an image (random RGB by default) and lists it."""
    file_name = file_name or f'{image_id}.png'
    if pixels is None:
      pixels = np.random.default_rng(len(self.data['images'])).integers(
          0, 256, [HEIGHT, WIDTH, 3], np.uint8)
    if isinstance(pixels, np.ndarray):
      pixels = Image.fromarray(pixels)
    pixels.save(self.folder / 'images' / file_name)
    self.data['images'].append(
        {'id': image_id, 'file_name': file_name} | fields)

  def add(self, image_id, segmentation=None, category_id=3, **fields):
    """Lists an annotation; ids count from 1."""
    annotation = {'id': len(self.data['annotations']) + 1,
                  'image_id': image_id, 'category_id': category_id} | fields
    if segmentation is not None:
      annotation['segmentation'] = segmentation
    self.data['annotations'].append(annotation)

  def write(self):
    with open(self.json, 'w', encoding='utf-8') as f:
      json.dump(self.data, f)
    return self.image_dir, self.json, self.prefix

  def convert(self, **options):
    options = {'num_shards': 2, 'num_workers': 0} | options
    return tfrecord.convert_coco(*self.write(), **options)

  def truth(self):
    return tfrecord.ground_truth_from_shards(self.prefix + '-*.tfrecord')

  def left_behind(self):
    """Names in the shards' folder, hidden ones included."""
    folder = self.folder / 'shards'
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def coco(tmp_path):
  """Two images of 12 x 16; three objects on the first, none on the second."""
  dataset = Coco(tmp_path)
  dataset.add_image(5)
  dataset.add_image(9)
  dataset.add(5, [[2, 1, 10, 1, 10, 7, 2, 7]])
  dataset.add(5, {'size': [HEIGHT, WIDTH], 'counts': [20, 5, 167]}, iscrowd=1)
  dataset.add(5, [[1, 1, 4, 1, 4, 4], [8, 8, 14, 8, 14, 11, 8, 11]],
              category_id=7)
  return dataset
