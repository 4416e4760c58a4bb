"""`panet data check`: what is wrong with a COCO file, before training on it.

`coco_json.read` stops at the first thing it does not take. This reads whatever
JSON there is, names all of it, and repairs what has one right answer. Whatever
it finds, in = kept + repaired + rejected.
"""

import collections

import tqdm

from panet_tf.data import coco_json
from panet_tf.data import image_bytes
from panet_tf.data.doctor import ids
from panet_tf.data.doctor import images as images_lib
from panet_tf.data.doctor import masks as masks_lib
from panet_tf.data.doctor import output
from panet_tf.data.doctor import report
from panet_tf.data.doctor import summary
from panet_tf.data.doctor import table as table_lib

_NAMES = ('images', 'annotations', 'categories')


def check(annotations, image_dir=None, fix_path=None,
          num_workers=None) -> report.Report:
  """Checks a COCO instances file.

  `panet data coco` takes the repaired file without a complaint, if images
  whose size is known are as the file says; annotations without a mask need
  `--no-include_masks`.

  Args:
    annotations: path of the JSON file.
    image_dir: folder that the file names are relative to; every image is
      opened and checked to its end. None leaves the images alone.
    fix_path: where the repaired file goes, its list of changes beside it as
      `<fix_path>.changes.jsonl`. None only reports.
    num_workers: processes that check images; default one per core.

  Raises:
    InputError: no JSON object in `annotations`, no such folder, or `fix_path`
      cannot be written or is the file itself.
  """
  if image_dir is not None:
    image_bytes.check_folder(image_dir)
  if fix_path is not None:
    output.check_path(fix_path, annotations)
  dataset = coco_json.load(annotations)
  tables = {}
  for name in _NAMES:
    entries = dataset.get(name)
    tables[name] = table_lib.Table(
        name, entries if isinstance(entries, list) else [])
  _check_tables(tables, image_dir, num_workers)
  ledger = {name: table.ledger() for name, table in tables.items()}
  unfit = _unfit(dataset, ledger)
  written = fix_path is not None and not unfit
  if written:
    output.write(fix_path, dataset, tables)
  return report.Report(
      annotations, image_dir, report.findings(tables.values()), ledger,
      summary.summarize(*([entry for _, entry in table.alive()]
                          for table in tables.values())),
      unfit, fix_path if written else None,
      sum(len(list(table.log())) for table in tables.values()))


def _unfit(dataset, ledger):
  """Why nothing can be trained on the file, repaired or not; else ''."""
  for name in _NAMES:
    entries = dataset.get(name)
    if not isinstance(entries, list):
      found = 'missing' if entries is None else f'a {type(entries).__name__}'
      return f'`{name}` should be a list of objects, it is {found}'
    if (name != 'annotations'
        and ledger[name]['rejected'] == ledger[name]['read']):
      return f'`{name}` has no usable entry'
  return ''


def _check_tables(tables, image_dir, num_workers):
  """All checks, each on what the ones before it left."""
  images, annotations, categories = (tables[name] for name in _NAMES)
  for table in tables.values():
    ids.check_entries(table)
  ids.check_texts(images, 'file_name')
  ids.check_texts(categories, 'name')
  for field, table in (('image_id', images), ('category_id', categories)):
    were_strings = ids.check_ids(table)
    ids.check_references(annotations, field, table, were_strings)
  ids.check_gaps(categories)
  ids.check_ids(annotations)
  by_image = collections.defaultdict(list)
  for position, entry in annotations.alive():
    by_image[entry['image_id']].append(position)
  segmentations = {
      image_id: [annotations.entries[p].get('segmentation') for p in positions]
      for image_id, positions in by_image.items()}
  images_lib.check(images, segmentations, image_dir, num_workers)
  _check_annotations(images, annotations, by_image)


def _check_annotations(images, annotations, by_image):
  """Checks all annotations, image by image."""
  usable = {entry['id']: entry for _, entry in images.alive()}
  progress = tqdm.tqdm(total=sum(map(len, by_image.values())),
                       desc='annotations', unit='annotation', mininterval=1)
  with progress:
    for image_id, positions in by_image.items():
      if image_id in usable:
        masks_lib.check_image(annotations, positions, usable[image_id])
      else:
        for position in positions:
          annotations.reject('image-rejected', position,
                             f'image {table_lib.brief(image_id)}')
      progress.update(len(positions))
