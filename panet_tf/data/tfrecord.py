"""COCO JSON and images to TFRecord shards, and the ground truth back.

The shards carry Model Garden's feature names, and each mask a second time, cut
to its object; `shards.py` says which files a data set consists of.
"""

import json
import os

from google.protobuf import message
from PIL import Image

from panet_tf import errors
from panet_tf.data import coco_json
from panet_tf.data import example
from panet_tf.data import image_bytes
from panet_tf.data import ledger as ledger_lib
from panet_tf.data import parallel
from panet_tf.data import shards
from panet_tf.data import tfrecord_file

Ledger = ledger_lib.Ledger
read_dataset_info = shards.read_dataset_info
shard_paths = shards.shard_paths
check_shards = shards.check_shards


def convert_coco(image_dir, annotations, output_prefix, num_shards=32,
                 include_masks=True, skip_invalid=False,
                 num_workers=None) -> Ledger:
  """Converts images and a COCO instances file to TFRecord shards.

  The shards `<output_prefix>-00000-of-00032.tfrecord`, ... appear only when
  all of them are complete, the sidecar `<output_prefix>.dataset.json` last;
  they are the same bytes at any `num_workers`.

  Args:
    image_dir: folder that the JSON's file names are relative to.
    annotations: path of the COCO instances JSON.
    output_prefix: path and first part of the shards' names.
    num_shards: number of files; fewer where one would be empty, which
      check_shards takes for damaged.
    include_masks: write masks; annotations without one are rejected.
    skip_invalid: count unusable images and annotations as rejected, where
      otherwise the first one raises.
    num_workers: processes; default one per core.

  Raises:
    InputError: naming the file, field or id.
  """
  image_bytes.check_folder(image_dir)
  check_prefix(output_prefix)
  if not 1 <= num_shards <= 99999:
    raise errors.InputError(f'num_shards: {num_shards}, should be 1 to 99999')
  dataset = coco_json.read(annotations, check_references=not skip_invalid)
  num_shards = min(num_shards, len(dataset['images']))
  ledger = Ledger()
  images = _with_annotations(dataset, ledger)
  categories = sorted(dataset['categories'], key=lambda c: c['id'])
  options = example.Options(
      annotations, image_dir,
      {c['id']: (label, c['name']) for label, c in enumerate(categories, 1)},
      include_masks, skip_invalid)
  try:
    with shards.moved_into_place(output_prefix, num_shards) as directory:
      _write_shards(directory, images, options, num_shards, num_workers, ledger)
      ledger.check()
      if not ledger.images_written:
        raise errors.InputError(
            f'{annotations}: no image is left to write, all '
            f'{ledger.images_read} were rejected, such as '
            f'{images[0][1]["file_name"]!r:.60} in {image_dir}')
      _write_sidecar(directory, dataset, options, ledger)
  except RecursionError as e:  # On the way to another process.
    raise errors.InputError(f'{annotations}: a field is nested too deep; '
                            '`panet data check` names it') from e
  except OSError as e:
    raise errors.InputError(
        f'{output_prefix}: shards cannot be written: {e.strerror}') from e
  return ledger


def check_prefix(output_prefix):
  """Raises InputError for a prefix that leaves the files without a name."""
  if not os.path.basename(output_prefix):
    raise errors.InputError(f'{output_prefix!r}: output prefix should end in '
                            'the first part of a file name, as in data/train')


def _with_annotations(dataset, ledger):
  """[(source id, image, annotations)]; strays are rejected in the ledger."""
  by_image = {image['id']: [] for image in dataset['images']}
  for annotation in dataset['annotations']:
    if annotation['image_id'] in by_image:
      by_image[annotation['image_id']].append(annotation)
    else:
      ledger.annotations_read += 1
      ledger.reject('unknown image', annotation['id'])
  ordinals = _original_ids(dataset) is not None
  return [(str(position if ordinals else image['id']), image,
           by_image[image['id']])
          for position, image in enumerate(dataset['images'], 1)]


def _original_ids(dataset):
  """The image ids where source ids must be ordinals, else None.

  Model Garden reads `image/source_id` as an integer.
  """
  ids = [image['id'] for image in dataset['images']]
  return ids if any(isinstance(i, str) for i in ids) else None


def _write_shards(directory, images, options, num_shards, num_workers, ledger):
  """Image i goes to shard i modulo `num_shards`."""
  paths, arguments = [], []
  for shard in range(num_shards):
    path = os.path.join(directory, shards.shard_name(shard, num_shards))
    open(path, 'wb').close()  # All its images may be rejected.
    members = images[shard::num_shards]
    paths += [path] * len(members)
    arguments += [(*member, options) for member in members]
  results = parallel.with_progress(
      example.record, arguments, num_workers, at_a_time=16)
  for path, (record, counts) in zip(paths, results, strict=True):
    if record is not None:
      with open(path, 'ab') as f:
        f.write(tfrecord_file.frame(record))
    ledger.add(counts)


def _write_sidecar(directory, dataset, options, ledger):
  info = {
      'categories': [{'label': label, 'id': category_id, 'name': name}
                     for category_id, (label, name)
                     in options.categories.items()],
      'num_images': ledger.images_written,
      'num_annotations': ledger.annotations_written,
      'include_masks': options.include_masks,
      'image_ids': _original_ids(dataset),
  }
  path = os.path.join(directory, shards.SIDECAR)
  with open(path, 'w', encoding='utf-8') as f:
    json.dump(info, f, indent=1)


def ground_truth_from_shards(input_path):
  """The COCO instances that shards were made of, for an evaluator.

  They are given as for `shard_paths`, of this converter or of Model Garden's.

  Returns:
    {'images', 'annotations', 'categories'} in COCO's form: original image and
    category ids (labels where there is no sidecar), masks as compressed RLE,
    `bbox` [x, y, width, height] in image pixels, annotation ids 1, 2, ...

  Raises:
    InputError: naming the shard that is damaged or holds something else.
  """
  paths = shard_paths(input_path)
  infos = [read_dataset_info(path) or {} for path in paths]
  _check_same_categories(paths, infos)
  images, annotations = {}, []
  for path, info in zip(paths, infos, strict=True):
    for image, objects in _examples(path, info.get('image_ids')):
      if images.setdefault(image['id'], image) is not image:
        raise errors.InputError(f'{path}: image {image["id"]!r} is there '
                                'twice, input_path should hold each image once')
      for annotation in objects:
        annotations.append(annotation | {'image_id': image['id'],
                                         'id': len(annotations) + 1})
  categories = infos[0].get('categories') or _labels_as_categories(annotations)
  _replace_labels(annotations, categories, input_path)
  return {'images': list(images.values()), 'annotations': annotations,
          'categories': [{'id': c['id'], 'name': c['name']}
                         for c in categories]}


def _check_same_categories(paths, infos):
  """A label must stand for the same category in all shards."""
  for path, info in zip(paths, infos, strict=True):
    if info.get('categories') != infos[0].get('categories'):
      raise errors.InputError(
          f'{path}: its labels do not stand for the categories of {paths[0]}, '
          'they should be converted alike')


def _examples(path, image_ids):
  """Yields (image, annotations with `label`) of a shard."""
  for record in tfrecord_file.records(path):
    try:
      image, annotations = example.parse(record)
      image['id'] = original_id(image['id'], image_ids)
    except (message.DecodeError, AttributeError, Image.DecompressionBombError,
            *image_bytes.IMAGE_ERRORS) as e:
      raise errors.InputError(f'{path}: holds a record that is not a detection '
                              f'example of Model Garden ({e!r})') from e
    yield image, annotations


def original_id(source_id, image_ids):
  """The image id of a record, by the `image_ids` of the sidecar.

  They are None where source ids, which are text, are the image ids. ValueError
  or LookupError for a source id that they do not have.
  """
  if image_ids is not None:
    return image_ids[int(source_id) - 1]
  return int(source_id) if source_id.lstrip('-').isdecimal() else source_id


def _labels_as_categories(annotations):
  names = {a['label']: a['name'] for a in reversed(annotations)}
  return [{'label': label, 'id': label, 'name': names[label]}
          for label in sorted(names)]


def _replace_labels(annotations, categories, input_path):
  """Puts `category_id` in place of `label` and `name`."""
  ids = {c['label']: c['id'] for c in categories}
  for annotation in annotations:
    label = annotation.pop('label')
    del annotation['name']
    if label not in ids:
      raise errors.InputError(f'{input_path}: label {label} is not in the data '
                              f'set description, should be 1 to {len(ids)}')
    annotation['category_id'] = ids[label]
