"""The books of a check: what was found in a list of a COCO file, what was done.

Every entry of the list ends as exactly one of kept, repaired and rejected.
"""

import collections
import math
import os

from panet_tf import files
from panet_tf.data import segmentation

_NUM_EXAMPLES = 5
_LONGEST_TEXT = 60
# COCO needs six levels; Python's own limit is hit by comparing and printing.
_DEEPEST = 50

# {kind of a defect: (severity, meaning)}, in the order of the report.
KINDS = {kind: (severity, meaning) for severity, kinds in files.read_yaml(
    os.path.join(os.path.dirname(__file__), 'kinds.yaml')).items()
         for kind, meaning in kinds.items()}
OUTCOMES = ('repaired', 'dropped', 'rejected', 'left')


class Table:
  """One list of the file (`images`, ...), repaired entry by entry."""

  def __init__(self, name, entries):
    """Copies the list `entries`, of the file's field `name`."""
    self.name = name
    self.entries = list(entries)
    self.findings = collections.defaultdict(list)  # kind -> positions
    self.examples = collections.defaultdict(list)  # kind -> the first findings
    self.changes = collections.defaultdict(list)
    self.rejected = {}  # position -> (kind, whether a copy of it is kept)

  def find(self, kind, position, detail):
    """Notes a defect; `position` is None for one of the whole list."""
    self.findings[kind].append(position)
    if len(self.examples[kind]) < _NUM_EXAMPLES:
      self.examples[kind].append(
          {'position': position, 'id': self.label(position), 'what': detail})

  def repair(self, kind, position, field, value, detail):
    """Notes a defect and puts the one right value in its place."""
    self.find(kind, position, detail)
    entry = self.entries[position]
    self.changes[position].append(
        {'kind': kind, 'field': field, 'before': entry.get(field),
         'after': value})
    self.entries[position] = {**entry, field: value}

  def reject(self, kind, position, detail, copy=False):
    """Notes a defect for which the entry is left out."""
    self.find(kind, position, detail)
    self.rejected[position] = (kind, copy)

  def alive(self):
    """Yields (position, entry) of all that is not rejected so far."""
    for position, entry in enumerate(self.entries):
      if position not in self.rejected:
        yield position, entry

  def label(self, position):
    """The id of an entry, cut short where it is something odd; or None."""
    if position is None or not isinstance(self.entries[position], dict):
      return None
    value = self.entries[position].get('id')
    is_plain = value is None or segmentation.is_int(value) or (
        isinstance(value, str) and len(value) <= _LONGEST_TEXT)
    return value if is_plain else brief(value)

  def outcomes(self, kind):
    """How many defects of a kind ended how, {outcome: count}."""
    result = dict.fromkeys(OUTCOMES, 0)
    for position in self.findings[kind]:
      if position in self.rejected:
        outcome = 'dropped' if self.rejected[position][1] else 'rejected'
      else:
        repaired = any(change['kind'] == kind
                       for change in self.changes.get(position, ()))
        outcome = 'repaired' if repaired else 'left'
      result[outcome] += 1
    return result

  def ledger(self):
    """{'read', 'kept', 'repaired', 'rejected'}: numbers of entries."""
    changed = [position in self.changes for position, _ in self.alive()]
    return {'read': len(self.entries), 'kept': changed.count(False),
            'repaired': sum(changed), 'rejected': len(self.rejected)}

  def log(self):
    """Yields every change that stays, and every rejection, by position."""
    for position in sorted({*self.changes, *self.rejected}):
      where = {'table': self.name, 'position': position,
               'id': self.label(position)}
      if position in self.rejected:
        kind, copy = self.rejected[position]
        yield where | {'action': 'drop' if copy else 'reject', 'kind': kind}
        continue
      for change in self.changes[position]:
        yield where | {'action': 'repair'} | change | {
            'before': _strict(change['before'])}


def brief(value):
  """A value of the file in a few printable characters."""
  text = repr(value)  # Escapes line ends, control codes and half characters.
  return (text if len(text) <= _LONGEST_TEXT
          else text[:_LONGEST_TEXT - 3] + '...')


def _strict(value):
  """`value` without NaN, which JSON proper has not."""
  if isinstance(value, list):
    return [_strict(v) for v in value]
  if isinstance(value, dict):
    return {k: _strict(v) for k, v in value.items()}
  if isinstance(value, float) and not math.isfinite(value):
    return repr(value)
  return value


def is_finite(value):
  """Whether a value of JSON holds no NaN and no infinity."""
  waiting = [value]
  while waiting:
    value = waiting.pop()
    if isinstance(value, list):
      try:  # The sum of a list of numbers shows it, at a tenth of the time.
        if math.isfinite(sum(value)):
          continue
      except (TypeError, OverflowError):
        pass
      waiting.extend(value)
    elif isinstance(value, dict):
      waiting.extend(value.values())
    elif isinstance(value, float) and not math.isfinite(value):
      return False
  return True


def is_too_deep(value):
  """Whether lists and objects are nested deeper than COCO ever does."""
  level = [value]
  for _ in range(_DEEPEST):
    level = [child for parent in level for child in
             (parent.values() if isinstance(parent, dict) else parent)
             if isinstance(child, (list, dict))]
    if not level:
      return False
  return True
