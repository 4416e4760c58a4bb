"""The files of one data set: shards `<prefix>-00000-of-00008.tfrecord`, ...
and, next to them, `<prefix>.dataset.json`: what the labels stand for.
"""

import contextlib
import glob
import os
import re
import tempfile

from panet_tf import errors
from panet_tf import files

_SHARD = re.compile(r'(?P<prefix>.*)-\d{5}-of-\d{5}\.tfrecord')
SIDECAR = '.dataset.json'


def shard_name(shard, num_shards):
  """What follows the prefix in the name of a shard, counted from 0."""
  return f'-{shard:05d}-of-{num_shards:05d}.tfrecord'


@contextlib.contextmanager
def moved_into_place(output_prefix, num_shards):
  """A temporary folder whose files become `output_prefix` + name at the end.

  An earlier set under this prefix is replaced whole: shards of another count
  would otherwise be read along with the new ones. Shards that are left empty
  are dropped, and the others numbered without them.
  """
  parent = os.path.dirname(os.path.abspath(output_prefix))
  os.makedirs(parent, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=parent, prefix='.unfinished-') as folder:
    yield folder
    # All images of a shard may have been rejected; check_shards takes an empty
    # one for damaged.
    made = [name for name in (shard_name(shard, num_shards)
                              for shard in range(num_shards))
            if os.path.getsize(os.path.join(folder, name))]
    new = [shard_name(shard, len(made)) for shard in range(len(made))]
    stem = os.path.basename(output_prefix)
    for old in glob.glob(glob.escape(output_prefix) + '-*-of-*.tfrecord'):
      match = _SHARD.fullmatch(os.path.basename(old))
      # `train-*` also matches the shards of another set, `train-extra`.
      if (match and match['prefix'] == stem
          and os.path.basename(old)[len(stem):] not in new):
        os.remove(old)
    for source, name in [*zip(made, new, strict=True), (SIDECAR, SIDECAR)]:
      os.replace(os.path.join(folder, source), output_prefix + name)


def shard_paths(input_path):
  """Shard files of a config's `input_path`, sorted.

  It is a file, a glob, or a comma-separated list of those; sidecars and
  unfinished files that a glob happens to match are left out. InputError names
  one that matches nothing.
  """
  paths = set()
  for pattern in str(input_path).split(','):
    pattern = pattern.strip()
    matches = [pattern] if os.path.isfile(pattern) else glob.glob(pattern)
    found = [path for path in matches
             if os.path.isfile(path) and not path.endswith(SIDECAR)]
    if not found:
      raise errors.InputError(
          f'input_path: {pattern!r} matches no file, should be TFRecord shards '
          'as in data/train-*.tfrecord')
    paths.update(found)
  return sorted(paths)


def read_dataset_info(input_path):
  """The sidecar of the first of `shard_paths`, or None if it has none.

  Returns:
    {'categories': [{'label', 'id', 'name'}], 'num_images', 'num_annotations',
    'include_masks', 'image_ids': None or original ids}, or None.
  """
  match = _SHARD.fullmatch(shard_paths(input_path)[0])
  sidecar = match and match['prefix'] + SIDECAR
  return read_sidecar(sidecar) if sidecar and os.path.exists(sidecar) else None


def read_sidecar(path):
  """What `read_dataset_info` gives, of a sidecar; InputError if it is none."""
  try:
    info = files.read_json(path)
    rows = [(c['label'], c['id'], c['name']) for c in info['categories']]
    if [label for label, *_ in rows] != list(range(1, len(rows) + 1)):
      raise ValueError('labels are not 1..K')
  except (OSError, ValueError, LookupError, TypeError, RecursionError) as e:
    raise errors.InputError(
        f'{path}: not a data set description ({e!r:.80}); convert the data set '
        f'again, or take the {files.DATASET_INFO} of the training') from e
  return info


def check_shards(paths):
  """InputError for one that is empty or cut off; takes a seek per record."""
  for path in paths:
    size = os.path.getsize(path)
    at = 0
    with open(path, 'rb') as f:
      while at < size:
        f.seek(at)
        header = f.read(8)
        at += len(header) + 8 + int.from_bytes(header, 'little')
    if at != size or not size:
      raise errors.InputError(f'{path}: {"truncated" if size else "empty"} '
                              'TFRecord shard; convert the data set again')
