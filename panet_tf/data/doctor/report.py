"""What `panet data check` says, to people and to programs."""

import dataclasses
import textwrap

from panet_tf.data.doctor import output
from panet_tf.data.doctor import table as table_lib

_SEVERITIES = ('error', 'warning', 'note')
_EXAMPLES_SHOWN = 3
_CATEGORIES_SHOWN = 10
_SIZES_SHOWN = 5
_BAR = 30


@dataclasses.dataclass(frozen=True)
class Report:
  """Result of a check: `str()` for people, `as_dict()` for programs.

  Attributes:
    path: the file.
    image_dir: its images, if they were looked at.
    findings: [{'severity', 'kind', 'meaning', 'table', 'count', 'repaired',
      'dropped' (a copy of it is kept), 'rejected', 'left', 'examples'
      [{'position', 'id', 'what'}]}], worst first. Without a repaired file the
      four numbers say what would be done.
    ledger: {'images' | 'annotations' | 'categories': {'read', 'kept',
      'repaired', 'rejected'}}.
    summary: sizes, areas and categories of what is kept or repaired, as of
      `doctor.summary`.
    unfit: why there cannot be a repaired file; '' where there can.
    fixed: path of the repaired file, or None.
    num_changes: lines of its list of changes.
  """
  path: str
  image_dir: str | None
  findings: list
  ledger: dict
  summary: dict
  unfit: str
  fixed: str | None
  num_changes: int

  @property
  def has_errors(self):
    """Whether an error is left that the repaired file did not set right.

    Leaving an entry out sets nothing right, unless it was a copy.
    """
    errors = [f for f in self.findings if f['severity'] == 'error']
    if self.unfit or not self.fixed:
      return bool(self.unfit or errors)
    return any(f['rejected'] or f['left'] for f in errors)

  def as_dict(self):
    """All of it, as JSON takes it."""
    changes = output.changes_path(self.fixed) if self.fixed else None
    return dataclasses.asdict(self) | {
        'has_errors': self.has_errors, 'changes': changes}

  def __str__(self):
    """For people: findings, ledger, summary and a verdict."""
    images = (f'images in {self.image_dir}, each opened and checked to its end'
              if self.image_dir else 'image files not checked: no --image_dir')
    return '\n'.join([
        self.path, images, *self._defects(), '', *self._ledger(), '',
        *_summary_lines(self.summary), '', self._verdict()])

  def _defects(self):
    for severity in _SEVERITIES:
      rows = [f for f in self.findings if f['severity'] == severity]
      if rows:
        yield f'\n{severity}s'
      for row in rows:
        yield from _finding_lines(row, '' if self.fixed else '--fix: ')
    if not self.findings:
      yield '\nnothing found'

  def _ledger(self):
    columns = 'read', 'kept', 'repaired', 'rejected'
    yield ' ' * 13 + ''.join(f'{c:>10}' for c in columns) + (
        '' if self.fixed else '   (what --fix would do)')
    for name, counts in self.ledger.items():
      yield f'{name:13}' + ''.join(f'{counts[c]:>10}' for c in columns)

  def _verdict(self):
    if self.unfit:
      return f'unusable: {self.unfit}; nothing is written'
    if not self.fixed:
      return 'errors found' if self.has_errors else 'no errors'
    lines = [f'written: {self.fixed}',
             f'{self.num_changes} changes: '
             + output.changes_path(self.fixed)]
    if self.has_errors:
      lines.append('what had no one right answer was left out of it')
    return '\n'.join(lines)


def findings(tables):
  """Findings of all tables, by severity, then as KINDS has them."""
  result = []
  for kind, (severity, meaning) in table_lib.KINDS.items():
    for table in tables:
      if kind in table.findings:
        result.append({
            'severity': severity, 'kind': kind, 'meaning': meaning,
            'table': table.name, 'count': len(table.findings[kind]),
            **table.outcomes(kind), 'examples': table.examples[kind]})
  return sorted(result, key=lambda f: _SEVERITIES.index(f['severity']))


def _finding_lines(row, prefix):
  yield (f'  {row["count"]} x {row["table"]}, {row["kind"]}: '
         f'{row["meaning"]}')
  if row['count'] != row['left']:
    yield f'      {prefix}' + ', '.join(
        f'{row[name]} {name}' for name in table_lib.OUTCOMES if row[name])
  for example in row['examples'][:_EXAMPLES_SHOWN]:
    where = '' if example['position'] is None else f'[{example["position"]}]'
    name = ('' if example['id'] is None
            else f'id {table_lib.brief(example["id"])}')
    entry = ' '.join(filter(None, [where, name]))
    yield ' ' * 6 + ': '.join(filter(None, [entry, example['what']]))


def _summary_lines(summary):
  yield from _listing(
      'image sizes', [f'{size} ({count})' for size, count
                      in summary['sizes'].items()], _SIZES_SHOWN)
  per_image = summary['objects_per_image']
  if per_image:
    yield from _listing(
        'per image', [f'{name} {per_image[name]}' for name in
                      ('min', 'median', 'mean', 'max')]
        + [f'images without objects {per_image["without"]}'])
  used = [c for c in summary['categories'] if c['count']]
  yield from _listing(
      'categories', [f'{repr(c["name"])[1:-1]:.30} {c["count"]}'
                     for c in used], _CATEGORIES_SHOWN)
  yield from _listing('', [
      f'used {len(used)}', f'unused {len(summary["categories"]) - len(used)}',
      f'crowds {summary["crowds"]}'])
  yield 'areas        by the side of a square of that area, in pixels'
  most = max(1, *(area['count'] for area in summary['areas']))
  for area in summary['areas']:
    span = f'{area["from_side"]}-{area["to_side"] or ""}'
    bar = '#' * round(_BAR * area['count'] / most)
    yield f'{span:>11}{area["count"]:>10} {bar}'.rstrip()


def _listing(name, items, limit=None):
  """Lines of items behind a name; those past `limit` only as a number."""
  more = [f'{len(items) - limit} more'] if limit and len(items) > limit else []
  # Lines break between items, not inside one.
  text = ', '.join(i.replace(' ', '\xa0') for i in items[:limit] + more)
  lines = textwrap.wrap(text, 80, initial_indent=f'{name:13}',
                        subsequent_indent=' ' * 13)
  return [line.replace('\xa0', ' ') for line in lines]
