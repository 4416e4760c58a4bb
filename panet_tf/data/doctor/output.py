"""The repaired file, and the list of all that was changed for it."""

import json
import os

from panet_tf import errors
from panet_tf import files


def changes_path(path):
  """Where the list of changes of a repaired file goes."""
  return f'{path}.changes.jsonl'


def check_path(path, annotations):
  """Refuses to write over the file that is read."""
  for target in path, changes_path(path):
    if os.path.realpath(target) == os.path.realpath(annotations):
      raise errors.InputError(f'{path}: would overwrite the file that is '
                              'checked; --fix should name another one')
  if os.path.isdir(path) or not os.path.basename(path):
    raise errors.InputError(
        f'{path}: is a folder, --fix should name a JSON file')


def write(path, dataset, tables):
  """Writes the list of changes and, as the last thing, the repaired file.

  What is no table of the dictionary that was read stays as it is. InputError
  where they cannot be written.
  """
  files.make_folder(os.path.dirname(path) or '.')
  try:
    with files.written_whole(path) as temporary:
      with open(temporary, 'w', encoding='utf-8') as f:
        f.writelines(_text(dataset, tables))
      files.write_text(changes_path(path), (
          json.dumps(line) + '\n' for table in tables.values()
          for line in table.log()))
  except RecursionError as e:
    raise errors.InputError(
        f'{path}: cannot be written: a field beside `images` is nested too '
        'deep') from e


def _text(dataset, tables):
  """Yields JSON entry by entry: the text of all of COCO takes gigabytes."""
  yield '{'
  for i, (key, value) in enumerate(dataset.items()):
    yield f'{"," if i else ""}\n{json.dumps(key)}: '
    if key not in tables:
      yield json.dumps(value)
      continue
    yield '['
    for number, (_, entry) in enumerate(tables[key].alive()):
      yield f'{"," if number else ""}\n{json.dumps(entry)}'
    yield ']'
  yield '}\n'
