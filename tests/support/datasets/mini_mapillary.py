"""A tiny Mapillary Vistas: the real folders and files, images of 48 x 80.

Version 1.2 alone (config.json, training/instances) and the 2.0 download, which
holds both versions (config_v1.2.json, training/v1.2/instances, ...). Images
hold instances that touch, one cut in two, stuff, unlabeled pixels, the bird 0
whose pixels are 0, and in 2.0 a group, which is a class of its own.
"""

import json

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 80

# {version: {word of IMAGES: (name, has instances)}}, in order of label id; the
# real tables have 66 and 124 labels.
LABELS = {
    'v1.2': {
        'bird': ('animal--bird', True),
        'road': ('construction--flat--road', False),
        'person': ('human--person', True),
        'sky': ('nature--sky', False),
        'pole': ('object--support--pole', True),
        'car': ('object--vehicle--car', True),
        'truck': ('object--vehicle--truck', True),
        'unlabeled': ('void--unlabeled', False)},
    'v2.0': {
        'bird': ('animal--bird', True),
        'road': ('construction--flat--road', False),
        'person': ('human--person--individual', True),
        'group': ('human--person--person-group', False),
        'sky': ('nature--sky', False),
        'pole': ('object--support--pole', True),
        'car': ('object--vehicle--car', True),
        'unlabeled': ('void--unlabeled', False)}}

# {split: {key: [(label, instance, x1, y1, x2, y2)]}}, ends not included, what
# is in front last.
_GROUND = [('road', 0, 2, 24, 80, 48), ('sky', 0, 2, 0, 80, 24)]
IMAGES = {
    'training': {
        '_a0Bz-cyclist': [
            *_GROUND, ('car', 0, 8, 20, 30, 36), ('car', 1, 30, 22, 52, 38),
            ('pole', 0, 38, 2, 41, 44),  # Cuts that car in two.
            ('person', 4, 56, 16, 62, 40), ('person', 7, 62, 18, 68, 40),
            ('bird', 0, 70, 4, 76, 8)],
        '-Zx9Qw0empty': [*_GROUND],
        'M2kh-two-poles': [
            *_GROUND, ('group', 0, 50, 18, 74, 30), ('car', 255, 6, 10, 36, 40),
            ('pole', 1, 40, 4, 43, 40), ('pole', 2, 43, 6, 46, 40)]},
    'validation': {
        'Yv7_val': [*_GROUND, ('person', 0, 20, 10, 30, 40),
                    ('car', 0, 30, 14, 60, 36)]},
    'testing': {'tEst-0': [*_GROUND, ('car', 0, 10, 10, 40, 40)]}}


def build(root, versions=('v1.2',)) -> None:
  """Writes all splits; without truth in 'testing', as in the real set.

  Args:
    root: pathlib.Path, becomes the folder with the config.
    versions: ('v1.2',) is the layout of that release; ('v1.2', 'v2.0') that of
      the 2.0 download.
  """
  for version in versions:
    folder = '' if versions == ('v1.2',) else version
    name = f'config_{version}.json' if folder else 'config.json'
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(_config(version)), encoding='utf-8')
    for split, images in IMAGES.items():
      for key, objects in images.items():
        ids = _paint(objects, version)
        _save(root / split / 'images' / f'{key}.jpg', _picture(ids))
        if split != 'testing':
          path = root / split / folder
          _save(path / 'instances' / f'{key}.png', ids)
          _save(path / 'labels' / f'{key}.png', (ids // 256).astype(np.uint8))


def _config(version):
  return {
      'labels': [{'color': [label, 2 * label, 3 * label],
                  'instances': instances, 'name': name,
                  'readable': name.split('--')[-1].title(),
                  'evaluate': not name.endswith(('unlabeled', 'group'))}
                 for label, (name, instances) in enumerate(
                     LABELS[version].values())],
      'version': 1.1 if version == 'v1.2' else '2.0', 'mapping': 'public',
      'folder_structure': '{split}/{content}/{key:.{22}}.{ext}'}


def _save(path, pixels):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path)


def _paint(objects, version):
  """Pixels of an instance PNG, [HEIGHT, WIDTH] uint16: label * 256 + number."""
  labels = {word: label for label, word in enumerate(LABELS[version])}
  ids = np.full([HEIGHT, WIDTH], labels['unlabeled'] * 256, np.uint16)
  for word, number, x1, y1, x2, y2 in objects:
    # 1.2 has no groups: they are unlabeled there.
    ids[y1:y2, x1:x2] = labels.get(word, labels['unlabeled']) * 256 + number
  return ids


def _picture(ids):
  """A colour per pixel value, [HEIGHT, WIDTH, 3] uint8."""
  values, index = np.unique(ids, return_inverse=True)
  colors = np.random.default_rng(0).integers(20, 236, [values.size, 3])
  return colors[index.reshape(ids.shape)].astype(np.uint8)
