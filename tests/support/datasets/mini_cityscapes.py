"""A tiny Cityscapes: the real folders and files, three frames of 64 x 128.

Each frame is polygons painted one over the other, as in the real set: what is
in front hides what is behind. Between them the frames hold all eight classes,
instances that touch, one that a pole cuts in two, one that nothing is left of,
groups, stuff, void, and instances of classes that are not evaluated.
"""

import json

import numpy as np
from PIL import Image
from PIL import ImageDraw

HEIGHT, WIDTH = 64, 128

# Cityscapes' label ids of what the frames hold; -1 is never painted.
_IDS = {
    'unlabeled': 0, 'ego vehicle': 1, 'out of roi': 3, 'road': 7,
    'sidewalk': 8, 'building': 11, 'pole': 17, 'polegroup': 18,
    'vegetation': 21, 'sky': 23, 'person': 24, 'rider': 25, 'car': 26,
    'truck': 27, 'bus': 28, 'caravan': 29, 'trailer': 30, 'train': 31,
    'motorcycle': 32, 'bicycle': 33, 'license plate': -1}
_FIRST_WITH_INSTANCES = 24


def _box(x1, y1, x2, y2):
  """Its corners; both ends are painted."""
  return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


_GROUND = [
    ('sky', _box(0, 0, 127, 20)), ('building', _box(10, 4, 70, 34)),
    ('vegetation', [[72, 6], [127, 10], [127, 36], [80, 36]]),
    ('sidewalk', _box(0, 35, 127, 44)), ('road', _box(0, 45, 127, 63))]
_VOID = [('ego vehicle', [[30, 63], [44, 57], [84, 57], [98, 63]]),
         ('out of roi', _box(0, 0, 2, 63)),
         ('out of roi', _box(0, 62, 127, 63))]

# {frame: [(label, polygon)], what is in front last}
FRAMES = {
    'aachen_000000_000019': [
        *_GROUND,
        ('cargroup', [[100, 28], [127, 26], [127, 40], [104, 41]]),
        ('car', _box(60, 42, 64, 45)),  # Nothing is left of it.
        ('car', [[6, 40], [14, 32], [34, 32], [40, 40], [40, 52], [6, 52]]),
        ('car', [[41, 42], [47, 35], [66, 35], [72, 42], [72, 53], [41, 53]]),
        ('license plate', _box(52, 48, 58, 50)),
        ('pole', _box(55, 8, 58, 58)),  # Cuts that car in two.
        ('person', _box(76, 26, 82, 50)), ('person', _box(83, 28, 89, 51)),
        ('caravan', _box(106, 43, 124, 54)), *_VOID],
    'aachen_000001_000019': [  # No car.
        *_GROUND,
        ('train', [[4, 18], [52, 14], [52, 40], [4, 42]]),
        ('persongroup', _box(90, 30, 120, 42)),
        ('bicycle', [[58, 46], [66, 40], [76, 46], [70, 54], [62, 54]]),
        ('rider', [[64, 24], [70, 24], [72, 42], [64, 46]]),
        ('motorcycle', [[84, 44], [98, 42], [104, 50], [92, 56], [84, 52]]),
        ('person', _box(30, 28, 36, 50)),
        ('polegroup', _box(110, 10, 114, 30)), *_VOID],
    'bochum_000000_000313': [
        *_GROUND,
        ('bus', _box(6, 12, 40, 48)), ('truck', _box(41, 18, 66, 50)),
        ('car', [[60, 42], [66, 36], [88, 36], [94, 42], [94, 54], [60, 54]]),
        ('bicycle', _box(95, 44, 108, 54)), ('bicycle', _box(109, 44, 119, 53)),
        ('bicyclegroup', _box(100, 34, 124, 40)),
        ('person', _box(16, 30, 24, 54)), ('rider', _box(44, 30, 46, 36)),
        ('trailer', _box(70, 24, 90, 33)), *_VOID],
}


def file_path(root, split, frame, kind):
  """Path of one file, as in file_path(root, 'val', frame, 'leftImg8bit.png').

  Args:
    root: pathlib.Path of the tree.
    split: 'train', 'val' or 'test'.
    frame: a key of FRAMES.
    kind: 'leftImg8bit.png', or one of gtFine: 'instanceIds.png',
      'labelIds.png', 'polygons.json'.
  """
  city = frame.split('_')[0]
  if kind.startswith('leftImg8bit'):
    return root / 'leftImg8bit' / split / city / f'{frame}_{kind}'
  return root / 'gtFine' / split / city / f'{frame}_gtFine_{kind}'


def build(root, split='val') -> None:
  """Writes one split; the truth of 'test' is void only, as in the real set.

  Args:
    root: pathlib.Path, becomes the folder with leftImg8bit and gtFine.
    split: 'train', 'val' or 'test'.
  """
  for number, (frame, objects) in enumerate(FRAMES.items()):
    _write_frame(root, split, frame, _VOID if split == 'test' else objects,
                 _picture(_paint(objects), number))


def _write_frame(root, split, frame, objects, picture):
  paths = {kind: file_path(root, split, frame, kind) for kind in (
      'leftImg8bit.png', 'instanceIds.png', 'labelIds.png', 'polygons.json')}
  for path in paths.values():
    path.parent.mkdir(parents=True, exist_ok=True)
  ids = _paint(objects)
  Image.fromarray(picture).save(paths['leftImg8bit.png'])
  Image.fromarray(ids.astype(np.uint16)).save(paths['instanceIds.png'])
  labels = np.where(ids < 1000, ids, ids // 1000)
  Image.fromarray(labels.astype(np.uint8)).save(paths['labelIds.png'])
  paths['polygons.json'].write_text(json.dumps({
      'imgHeight': HEIGHT, 'imgWidth': WIDTH,
      'objects': [{'label': label, 'polygon': polygon}
                  for label, polygon in objects]}), encoding='utf-8')


def _paint(objects):
  """Pixels of instanceIds.png, [HEIGHT, WIDTH] int32.

  A class with instances counts them from 0 on as id * 1000 + number; its group
  has the plain id.
  """
  image = Image.new('I', (WIDTH, HEIGHT), 0)
  draw = ImageDraw.Draw(image)
  count = {}
  for label, polygon in objects:
    is_group = label not in _IDS and label.endswith('group')
    name = label.removesuffix('group') if is_group else label
    value = _IDS[name]
    if value >= _FIRST_WITH_INSTANCES and not is_group:
      number = count.setdefault(name, 0)
      count[name] += 1
      value = value * 1000 + number
    if value >= 0:
      draw.polygon([tuple(point) for point in polygon], fill=value)
  return np.asarray(image)


def _picture(ids, seed):
  """A colour per pixel value and some noise, [HEIGHT, WIDTH, 3] uint8."""
  rng = np.random.default_rng(seed)
  values, index = np.unique(ids, return_inverse=True)
  colors = rng.integers(20, 236, [values.size, 3])[index.reshape(ids.shape)]
  return (colors + rng.integers(-12, 13, colors.shape)).astype(np.uint8)
