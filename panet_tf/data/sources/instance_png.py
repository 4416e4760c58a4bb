"""What Cityscapes and Mapillary Vistas share: objects numbered in a PNG.

Beside each image lies a 16-bit grey PNG whose pixels are numbers of objects;
what a number means differs. One pass over the pixels gives the run lengths of
all objects; encoding mask by mask would take a pass per object.
"""

import collections
import contextlib
import dataclasses
import glob
import os
import shlex
import textwrap

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from panet_tf import errors
from panet_tf import files
from panet_tf.data import image_bytes
from panet_tf.data import parallel
from panet_tf.data import segmentation


def image_entry(root, file_name):
  """{'file_name', 'height', 'width'} of an image, from its header.

  Its pixels stay unread: `tfrecord.convert_coco` finds the damaged ones.
  """
  with _opened(os.path.join(root, file_name), ('PNG', 'JPEG')) as pixels:
    return {'file_name': file_name, 'height': pixels.height,
            'width': pixels.width}


def read_frame(root, image, truth, category_of):
  """(image entry, annotations), without ids, of an image and its PNG.

  Names are relative to `root`; a `truth` of None has no annotations, and
  `category_of` is as for `annotations`. InputError names the file.
  """
  entry = image_entry(root, image)
  return entry, annotations(
      os.path.join(root, truth), entry, category_of) if truth else []


def annotations(path, image, category_of):
  """The COCO annotations of an instance PNG, in order of pixel value.

  Args:
    path: the PNG.
    image: its `image_entry`, whose size it must have.
    category_of: function of a pixel value, gives (category id, iscrowd), or
      None for what is no object; raises ValueError saying what is wrong with a
      value that should not occur. An InputError names the file, too.

  Returns:
    List of annotations without ids. `segmentation` is compressed RLE, `area`
    its pixels, `bbox` [x, y, width, height] in pixels, as pycocotools has it.
  """
  ids, found = read_ids(path, image), []
  for value, starts, stops in _runs(ids):
    try:
      category = category_of(value)
    except ValueError as e:
      raise errors.InputError(f'{path}: pixel value {value} {e}') from e
    if category:
      rle = _rle(starts, stops, ids.shape)
      found.append({
          'category_id': category[0], 'iscrowd': category[1],
          'area': int(np.sum(stops - starts)),
          'bbox': coco_mask.toBbox(rle).tolist(),
          'segmentation': segmentation.as_json(rle)})
  return found


def read_ids(path, image):
  """Pixels [height, width] uint16 of an instance PNG of its image's size."""
  with _opened(path, ('PNG',)) as pixels:
    if not pixels.mode.startswith('I'):  # I;16, or I in older Pillow
      raise errors.InputError(f'{path}: its pixels are of mode {pixels.mode}, '
                              'should be 16-bit grey (mode I;16)')
    if pixels.size != (image['width'], image['height']):
      raise errors.InputError(
          f'{path}: width x height is {pixels.width}x{pixels.height}, should '
          f'be {image["width"]}x{image["height"]} as of {image["file_name"]}')
    return np.asarray(pixels)


@contextlib.contextmanager
def _opened(path, formats):
  """Pillow image, whose size is bounded before any pixel is read."""
  try:
    with Image.open(path, formats=formats) as pixels:
      yield pixels
  except Image.DecompressionBombError as e:
    raise errors.InputError(
        f'{path}: larger than {image_bytes.MOST_PIXELS} pixels') from e
  except errors.InputError:
    raise
  except image_bytes.IMAGE_ERRORS as e:
    reason = getattr(e, 'strerror', None) or 'does not open, or is cut off'
    raise errors.InputError(
        f'{path}: {reason}; should be a {" or ".join(formats)} file') from e


def _runs(ids):
  """Where each value stands in `ids` [height, width], read column by column.

  Yields (value, starts, stops), values ascending; starts and stops are
  [num_runs], positions in the columns, ascending.
  """
  columns = ids.ravel(order='F')
  changes = np.flatnonzero(columns[1:] != columns[:-1]) + 1
  starts, stops = np.append(0, changes), np.append(changes, columns.size)
  values = columns[starts]
  order = np.argsort(values, kind='stable')
  found, first = np.unique(values[order], return_index=True)
  for value, runs in zip(
      found.tolist(), np.split(order, first[1:]), strict=True):
    yield value, starts[runs], stops[runs]


def _rle(starts, stops, shape):
  """COCO's compressed RLE of the pixels in these runs."""
  height, width = shape
  edges = np.stack([starts, stops], axis=1).ravel()
  counts = np.diff(edges, prepend=0, append=height * width)
  if not counts[-1]:
    counts = counts[:-1]  # As pycocotools writes a mask that ends in ones.
  return segmentation.of_runs(counts, height, width)


def listed(root, pattern):
  """Names of the files of a glob, relative to `root` and sorted."""
  return sorted(glob.glob(pattern, root_dir=root))


def images_of(root, pattern, split, splits, folders):
  """Names of a split's images; InputError where there are none."""
  if split not in splits:
    raise errors.InputError(
        f'splits: {split!r}, should be of {", ".join(splits)}')
  images = listed(root, pattern)
  if not images:
    raise errors.InputError(
        f'{os.path.join(root, pattern)}: no image; root should be the folder '
        f'with {folders}, splits what it holds')
  return images


def pairs(root, images, truths, found, right):
  """[(root, image, truth)]: names relative to a root.

  InputError names the first of the truths that is not among those `found`, and
  says what would be right, or one found that has no image.
  """
  for names, others, lack, advice in (
      (truths, found, 'missing', right),
      (found, truths, 'without image', 'each should have its image')):
    lacking = sorted(set(names) - set(others))
    if lacking:
      raise errors.InputError(f'{os.path.join(root, lacking[0])}: {lack}, as '
                              f'{len(lacking)} of {len(names)} are; {advice}')
  return [(root, *pair) for pair in zip(images, truths, strict=True)]


@dataclasses.dataclass
class Conversion:
  """What was written: {split: path}; its text tells a person of it."""
  paths: dict = dataclasses.field(default_factory=dict)
  lines: list = dataclasses.field(default_factory=list)

  def __str__(self):
    """A line for each split, and what to do next."""
    return '\n'.join(self.lines)


def write_splits(function, frames, categories, root, output_prefix,
                 num_workers=None) -> Conversion:
  """Writes `<output_prefix>_<split>.json` for each split.

  A file is written whole or not at all; InputError names what cannot be.

  Args:
    function: found by name in a module without TensorFlow; of the arguments of
      a frame gives (image entry, annotations), without ids.
    frames: {split: list of tuples of arguments}, in the order of image ids,
      which are 1, 2, ...
    categories: list of COCO categories.
    root: folder that the images' file names are relative to.
    output_prefix: path and first part of the files' names.
    num_workers: processes; default one per core.
  """
  done = Conversion()
  for split, arguments in frames.items():
    path = f'{output_prefix}_{split}.json'
    files.make_folder(os.path.dirname(path) or '.')  # Before hours of work.
    dataset = _dataset(function, arguments, categories, split, num_workers)
    files.write_json(path, dataset)
    done.paths[split] = path
    done.lines += _lines(dataset, split, path, root)
  return done


def _dataset(function, arguments, categories, split, num_workers):
  """The COCO dictionary of one split."""
  images, annotations = [], []
  for image_id, (image, objects) in enumerate(parallel.with_progress(
      function, arguments, num_workers, desc=split, least=50), 1):
    images.append({'id': image_id} | image)
    annotations += [{'id': number, 'image_id': image_id} | annotation
                    for number, annotation in enumerate(
                        objects, len(annotations) + 1)]
  return {'images': images, 'annotations': annotations,
          'categories': categories}


def _lines(dataset, split, path, root):
  """How many of what there are, absent classes too, and what to do next."""
  names = {c['id']: c['name'] for c in dataset['categories']}
  instances = collections.Counter(dict.fromkeys(names.values(), 0))
  instances.update(names[a['category_id']] for a in dataset['annotations']
                   if not a['iscrowd'])
  crowds = len(dataset['annotations']) - instances.total()
  lines = [f'{split}: {len(dataset["images"])} images, {instances.total()} '
           f'instances, {crowds} crowds: {path}']
  if dataset['annotations']:
    lines += textwrap.wrap(
        ', '.join(f'{name}={count}' for name, count in instances.items()), 80,
        initial_indent='  ', subsequent_indent='  ', break_on_hyphens=False)
    lines.append('  next: ' + shlex.join([
        'panet', 'data', 'coco', '--image_dir', root, '--annotations', path,
        '--output_prefix', os.path.splitext(path)[0]]))
  return lines
