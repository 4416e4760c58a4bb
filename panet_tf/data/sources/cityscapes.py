"""Cityscapes' fine annotations to COCO instances JSON.

The layout is that of leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip:

  leftImg8bit/val/CITY/CITY_SEQ_FRAME_leftImg8bit.png
  gtFine/val/CITY/CITY_SEQ_FRAME_gtFine_instanceIds.png, ..._polygons.json

A pixel of instanceIds.png is a label id (stuff, void, or a group of objects
that were not told apart), or label id * 1000 + number of the object. The label
ids are those of cityscapesScripts, not its training ids.
"""

import os

from panet_tf import errors
from panet_tf import files
from panet_tf.data.sources import instance_png

# The eight classes that instances are evaluated of, with Cityscapes' own ids.
INSTANCE_CLASSES = {
    'person': 24, 'rider': 25, 'car': 26, 'truck': 27, 'bus': 28, 'train': 31,
    'motorcycle': 32, 'bicycle': 33}

_NAMES = {label: name for name, label in INSTANCE_CLASSES.items()}
_LAST_LABEL = 33
_WITH_NUMBERS = range(24, 34)  # Caravans and trailers have numbers too.
_IMAGE, _TRUTH, _POLYGONS = (
    '_leftImg8bit.png', '_gtFine_instanceIds.png', '_gtFine_polygons.json')


def convert_cityscapes(root, output_dir, splits=('train', 'val'),
                       num_workers=None) -> instance_png.Conversion:
  """Writes `<output_dir>/cityscapes_<split>.json`, COCO instances.

  Categories are INSTANCE_CLASSES under Cityscapes' own ids, groups are crowds
  (`iscrowd` 1). Image ids are 1, 2, ... in order of file name; file names are
  relative to `root`. Split 'test', whose truth is withheld, has images only.
  Where polygons.json is there, its size and groups must agree with the PNG.

  Args:
    root: folder with leftImg8bit and gtFine.
    output_dir: folder of the JSON files.
    splits: any of 'train', 'val', 'test'.
    num_workers: processes; default one per core.

  Raises:
    InputError: naming the file, the pixel value and what would be right.
  """
  frames = {split: _frames(root, split) for split in splits}
  categories = [{'id': label, 'name': name}
                for name, label in INSTANCE_CLASSES.items()]
  return instance_png.write_splits(
      _read_frame, frames, categories, root,
      os.path.join(output_dir, 'cityscapes'), num_workers)


def _frames(root, split):
  """[(root, image, instanceIds or None)], names relative to `root`."""
  images = instance_png.images_of(
      root, f'leftImg8bit/{split}/*/*{_IMAGE}', split,
      ('train', 'val', 'test'), 'leftImg8bit and gtFine')
  if split == 'test':
    return [(root, image, None) for image in images]
  truths = ['gtFine' + name.removeprefix('leftImg8bit').removesuffix(_IMAGE)
            + _TRUTH for name in images]
  return instance_png.pairs(
      root, images, truths,
      instance_png.listed(root, f'gtFine/{split}/*/*{_TRUTH}'),
      'gtFine_trainvaltest.zip has it, and cityscapesscripts.preparation.'
      'json2instanceImg (with Pillow below 13) makes it of polygons.json')


def _read_frame(root, image, truth):
  """`instance_png.read_frame`, and a look at polygons.json."""
  entry, annotations = instance_png.read_frame(root, image, truth, _category_of)
  polygons = os.path.join(root, (truth or '').removesuffix(_TRUTH) + _POLYGONS)
  if truth and os.path.exists(polygons):
    groups = {_NAMES[a['category_id']] + 'group'
              for a in annotations if a['iscrowd']}
    _check_polygons(polygons, entry, groups)
  return entry, annotations


def _category_of(value):
  """(label id, is it a group) of a pixel, None if it is not evaluated."""
  label = value if value < 1000 else value // 1000
  if label > _LAST_LABEL:
    raise ValueError(f'has label id {label}, should be 0 to {_LAST_LABEL}')
  if value >= 1000 and label not in _WITH_NUMBERS:
    raise ValueError(
        f'numbers an object of label id {label}, only {_WITH_NUMBERS[0]} to '
        f'{_WITH_NUMBERS[-1]} have numbers (instanceTrainIds are others)')
  return (label, int(value < 1000)) if label in _NAMES else None


def _check_polygons(path, image, groups):
  """polygons.json tells of the same frame as the PNG, as far as it shows."""
  try:
    frame = files.read_json(path)
    size = frame['imgWidth'], frame['imgHeight']
    labels = {o['label'] for o in frame['objects'] if not o.get('deleted')}
  except (OSError, ValueError, RecursionError, LookupError, TypeError,
          AttributeError) as e:
    raise errors.InputError(f'{path}: should be JSON with imgWidth, imgHeight '
                            f'and objects that have labels ({e!r:.80})') from e
  if size != (image['width'], image['height']):
    raise errors.InputError(
        f'{path}: imgWidth x imgHeight is {size[0]!r:.20}x{size[1]!r:.20}, '
        f'should be {image["width"]}x{image["height"]} as of '
        f'{image["file_name"]}')
  for label in sorted(groups - labels):
    raise errors.InputError(
        f'{path}: has no {label!r}, though instanceIds.png has pixels of value '
        f'{INSTANCE_CLASSES[label.removesuffix("group")]}; they should be of '
        'the same release')
