"""The repaired file, and the list of all that was changed for it."""

import contextlib
import json
import os

from panet_tf import errors


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

  Args:
    path: of the file.
    dataset: the dictionary as it was read; what is no table stays as it is.
    tables: {name: Table}.

  Returns:
    {name: number of entries written}.

  Raises:
    InputError: they cannot be written.
  """
  temporary = {target: f'{target}.{os.getpid()}.tmp'
               for target in (changes_path(path), path)}
  try:
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with _open(temporary[changes_path(path)]) as f:
      for table in tables.values():
        f.writelines(json.dumps(line) + '\n' for line in table.log())
    with _open(temporary[path]) as f:
      counts = _write_dataset(f, dataset, tables)
    for target, name in temporary.items():
      os.replace(name, target)
  except OSError as e:
    raise errors.InputError(f'{path}: cannot be written: {e.strerror}') from e
  except RecursionError as e:
    raise errors.InputError(f'{path}: cannot be written: a field beside '
                            '`images` is nested too deep') from e
  finally:
    for name in temporary.values():
      with contextlib.suppress(OSError):
        os.remove(name)
  return counts


def _open(path):
  return open(path, 'w', encoding='utf-8')


def _write_dataset(f, dataset, tables):
  """Writes entry by entry: the text of all of COCO takes gigabytes."""
  counts = {}
  f.write('{')
  for i, (key, value) in enumerate(dataset.items()):
    f.write(f'{"," if i else ""}\n{json.dumps(key)}: ')
    if key not in tables:
      f.write(json.dumps(value))
      continue
    counts[key] = 0
    f.write('[')
    for _, entry in tables[key].alive():
      f.write(f'{"," if counts[key] else ""}\n{json.dumps(entry)}')
      counts[key] += 1
    f.write(']')
  f.write('}\n')
  return counts
