"""The check of ids and references, before anything looks at a mask.

An id has one right repair where no other reading is possible: 12.0 is 12, '12'
is 12 if all ids of the list are such strings, and nothing refers to the id of
an annotation. Two images or categories of one id have none: what refers to it
may mean either.
"""

import itertools

from panet_tf.data import coco_json
from panet_tf.data import segmentation
from panet_tf.data.doctor import table as table_lib

# What the checks look at; NaN in any other field is somebody else's.
_READ = {'id', 'image_id', 'category_id', 'iscrowd', 'area', 'bbox',
         'segmentation', 'width', 'height', 'file_name', 'name'}
_MOST_DIGITS = 18  # Always an int64.


def check_entries(table):
  """Rejects what is no object, or is nested too deep to be handled."""
  for position, entry in table.alive():
    if not isinstance(entry, dict):
      # A list may be nested too deep to be printed.
      found = 'a list' if isinstance(entry, list) else table_lib.brief(entry)
      table.reject('not-an-object', position, found)
      continue
    if table_lib.is_too_deep(entry):
      # Nothing of it may be printed or compared.
      table.entries[position] = {}
      table.reject('bad-field', position, 'nested too deep')
      continue
    for field in entry.keys() - _READ:
      if not table_lib.is_finite(entry[field]):
        table.find('nan-elsewhere', position,
                   f'`{table_lib.brief(field)}`')


def check_texts(table, field):
  """Rejects images without a file name, categories without a name."""
  for position, entry in table.alive():
    value = entry.get(field)
    if not (isinstance(value, str) and value and '\0' not in value):
      table.reject('bad-field', position,
                   f'`{field}` is {table_lib.brief(value)}')


def check_ids(table):
  """Gives every entry an id of its own, or rejects it.

  Returns whether all ids were numbers in strings, and are numbers now.
  """
  unusable = set()
  for position, entry in table.alive():
    value = _whole(entry.get('id'))
    if not coco_json.is_id(value):
      unusable.add(position)
    elif isinstance(entry['id'], float):
      table.repair('float-id', position, 'id', value,
                   f'{entry["id"]} is {value}')
  were_strings = _check_strings(table, unusable)
  _make_unique(table, unusable)
  return were_strings


def _make_unique(table, unusable):
  """Numbers annotations anew, and rejects others, whose id is not their own.

  The positions in `unusable` are of entries without an id.
  """
  fresh = 1 + max((entry['id'] for position, entry in table.alive()
                   if position not in unusable
                   and segmentation.is_int(entry['id'])), default=0)
  firsts, unclear = _firsts(table, unusable)
  for position, entry in table.alive():
    value = entry.get('id')
    if position in unusable:
      kind = 'nan' if not table_lib.is_finite(value) else 'bad-id'
      detail = table_lib.brief(value)
    elif value in unclear:
      table.reject('duplicate-id', position, 'others of this id differ')
      continue
    elif firsts[value] == position:
      continue
    else:
      first = firsts[value]
      if entry == table.entries[first]:
        table.reject('duplicate-id', position,
                     f'all of {table.name}[{first}] again', copy=True)
        continue
      kind, detail = 'duplicate-id', f'as {table.name}[{first}], not its copy'
    if table.name == 'annotations':
      table.repair(kind, position, 'id', fresh, detail)
      fresh += 1
    else:
      table.reject(kind, position, detail)


def _firsts(table, unusable):
  """{id: position of its first entry}, and ids that stand for two things."""
  firsts, unclear = {}, set()
  for position, entry in table.alive():
    if position not in unusable:
      first = firsts.setdefault(entry['id'], position)
      # Nothing refers to annotations.
      if table.name != 'annotations' and entry != table.entries[first]:
        unclear.add(entry['id'])
  return firsts, unclear


def _check_strings(table, unusable):
  """Turns the strings of a list into numbers if that has one meaning."""
  kind = 'string-category' if table.name == 'categories' else 'string-id'
  ids = {p: e['id'] for p, e in table.alive() if p not in unusable}
  strings = {p: i for p, i in ids.items() if isinstance(i, str)}
  if not strings:
    return False
  numbers = {i: _number(i) for i in strings.values()}
  is_clear = (len(strings) == len(ids) and None not in numbers.values()
              and len(set(numbers.values())) == len(numbers))
  for position, value in strings.items():
    detail = table_lib.brief(value)
    if is_clear:
      table.repair(kind, position, 'id', numbers[value], detail)
    elif table.name == 'categories':
      table.reject(kind, position, detail)
    else:
      table.find(kind, position, detail)
  return is_clear


def check_references(annotations, field, table, were_strings):
  """Rejects annotations of an image or category that is not there any more.

  The `field` (`image_id` or `category_id`) refers to `table`, of whose ids
  `check_ids` said whether they `were_strings`.
  """
  noun = field.removesuffix('_id')
  string_kind = 'string-reference'
  if were_strings:
    string_kind = {'image': 'string-id', 'category': 'string-category'}[noun]
  known = {entry['id'] for _, entry in table.alive()}
  gone = {entry['id'] for entry in map(table.entries.__getitem__,
                                       table.rejected)
          if isinstance(entry, dict) and coco_json.is_id(entry.get('id'))}
  for position, entry in annotations.alive():
    value = _whole(entry.get(field))
    detail = f'`{field}` is {table_lib.brief(entry.get(field))}'
    if not coco_json.is_id(value):
      is_nan = not table_lib.is_finite(value)
      annotations.reject('nan' if is_nan else f'unknown-{noun}', position,
                         detail)
    elif value in known:
      if isinstance(entry[field], float):
        annotations.repair('float-id', position, field, value, detail)
    elif isinstance(value, str) and _number(value) in known:
      annotations.repair(string_kind, position, field, _number(value), detail)
    else:
      annotations.reject(
          f'{noun}-rejected' if value in gone else f'unknown-{noun}', position,
          detail)


def check_gaps(categories):
  """Notes numbers that no category has; COCO itself has ten such gaps."""
  ids = sorted(entry['id'] for _, entry in categories.alive())
  gaps = [(a + 1, b - 1) for a, b in itertools.pairwise(ids) if b - a > 1]
  if gaps:
    first = ', '.join(str(a) if a == b else f'{a}-{b}' for a, b in gaps[:8])
    categories.find(
        'category-gaps', None,
        f'{len(ids)} ids from {ids[0]} to {ids[-1]}, without '
        f'{first}{", ..." if len(gaps) > 8 else ""}')


def _whole(value):
  """12.0 as 12; anything else as it is."""
  if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
    return int(value)
  return value


def _number(text):
  """The whole number that a string stands for, or None."""
  if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS:
    return int(text)
  return None
