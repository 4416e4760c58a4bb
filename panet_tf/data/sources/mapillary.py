"""Mapillary Vistas, research edition, to COCO instances JSON.

The layout of version 1.2, and of the 2.0 download, which holds both versions:

  config.json                     config_v1.2.json, config_v2.0.json
  training/images/KEY.jpg         training/images/KEY.jpg
  training/instances/KEY.png      training/{v1.2,v2.0}/instances/KEY.png

A pixel of instances/KEY.png is label id * 256 + number of the object; the
label id is the position in the config's `labels`, each of which says whether it
has instances (37 of 66 do in 1.2, 70 of 124 in 2.0). Label 0 is such a class,
so a pixel of 0 is a bird, not background.

No crowds: these PNGs do not mark any. What annotators could not tell apart has
in 2.0 labels of its own, without instances (human--person--person-group,
object--vehicle--vehicle-group), and is left out like any such label.
"""

import functools
import os

from panet_tf import errors
from panet_tf import files
from panet_tf.data.sources import instance_png

# {version: (names of its config, folder of its instances)}, best first.
_CONFIGS = {'v1.2': ('config_v1.2.json', 'config.json'),
            'v2.0': ('config_v2.0.json',)}
_FOLDERS = {'v1.2': ('v1.2/instances', 'instances'),
            'v2.0': ('v2.0/instances',)}
_MOST_LABELS = 256  # In 16 bits beside a number of 8.


def convert_mapillary(root, output_dir, version='v1.2',
                      splits=('training', 'validation'),
                      num_workers=None) -> instance_png.Conversion:
  """Writes `<output_dir>/mapillary_<split>.json`, COCO instances.

  Categories are the labels with instances, their ids the label ids of the PNG,
  from 0 on. Image ids are 1, 2, ... in order of file name; file names are
  relative to `root`. Split 'testing', whose truth is withheld, has images only.

  Args:
    root: folder with the config and the splits.
    output_dir: folder of the JSON files.
    version: 'v1.2' or 'v2.0'.
    splits: any of 'training', 'validation', 'testing'.
    num_workers: processes; default one per core.

  Raises:
    InputError: naming the file, the pixel value and what would be right.
  """
  if version not in _CONFIGS:
    raise errors.InputError(
        f'version: {version!r}, should be {" or ".join(_CONFIGS)}')
  config = _config(root, version)
  names = _labels(config)
  category_of = functools.partial(_category_of, tuple(map(bool, names)))
  frames = {split: [(*frame, category_of)
                    for frame in _frames(root, split, version)]
            for split in splits}
  categories = [{'id': label, 'name': name}
                for label, name in enumerate(names) if name]
  return instance_png.write_splits(
      instance_png.read_frame, frames, categories, root,
      os.path.join(output_dir, 'mapillary'), num_workers)


def _config(root, version):
  """Path of the class table."""
  for name in _CONFIGS[version]:
    path = os.path.join(root, name)
    if os.path.isfile(path):
      return path
  there = ', '.join(instance_png.listed(root, 'config*.json')) or 'none'
  raise errors.InputError(
      f'{root}: should hold {" or ".join(_CONFIGS[version])} of version '
      f'{version}; of config*.json there is: {there}')


def _labels(path):
  """Name of each label, in order of label id; '' for one without instances."""
  right = 'should be JSON with `labels`, each with `name` and `instances`'
  try:
    found = [(label['name'], label['instances'])
             for label in files.read_json(path)['labels']]
  except (OSError, ValueError, RecursionError, LookupError, TypeError) as e:
    raise errors.InputError(f'{path}: {right} ({e!r:.80})') from e
  for number, (name, instances) in enumerate(found):
    if not (isinstance(name, str) and name and isinstance(instances, bool)):
      raise errors.InputError(
          f'{path}: labels[{number}] has name {name!r:.60} and instances '
          f'{instances!r:.60}, should be a string and true or false')
  if len(found) > _MOST_LABELS or not any(has for _, has in found):
    raise errors.InputError(
        f'{path}: {len(found)} labels, {sum(has for _, has in found)} with '
        f'instances; should be up to {_MOST_LABELS}, at least one with '
        'instances')
  return [name if has else '' for name, has in found]


def _frames(root, split, version):
  """[(root, image, instance PNG or None)]."""
  images = instance_png.images_of(
      root, f'{split}/images/*.jpg', split,
      ('training', 'validation', 'testing'), 'training and validation')
  if split == 'testing':
    return [(root, image, None) for image in images]
  candidates = [f'{split}/{folder}' for folder in _FOLDERS[version]]
  there = [folder for folder in candidates
           if os.path.isdir(os.path.join(root, folder))]
  if not there:
    raise errors.InputError(
        f'{root}: should hold {" or ".join(candidates)} of version {version}')
  truths = [f'{there[0]}/{os.path.splitext(os.path.basename(image))[0]}.png'
            for image in images]
  return instance_png.pairs(
      root, images, truths, instance_png.listed(root, f'{there[0]}/*.png'),
      'each image should have its instance PNG')


def _category_of(has_instances, value):
  """(label id, 0) of a pixel, None if its label has no instances."""
  label = value // 256
  if label >= len(has_instances):
    raise ValueError(f'has label id {label}, should be 0 to '
                     f'{len(has_instances) - 1} as in the config')
  return (label, 0) if has_instances[label] else None
