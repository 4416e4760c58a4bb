"""What the pages say of files and of rooms is so."""

import pathlib
import re

import pytest

from tests import imports_test

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'),
                *ROOT.glob('benchmarks/*/*.md')])
# What moved is told by its old name; runs and exports are the reader's.
_ROOTS = ('panet_tf', 'tests', 'docs', 'benchmarks', 'configs')


def _named(text):
  """Paths in backticks, and after a colon or `in` a test of that file."""
  for name in re.findall(r'`([\w./-]+/[\w./*-]*)`', text):
    first = name.split('/')[0]
    if first in _ROOTS and 'NAME' not in name:
      yield name
    elif (ROOT / 'panet_tf' / first).is_dir() and name.endswith('.py'):
      yield f'panet_tf/{name}'  # As in a table of the package.


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
  for name in _named(page.read_text('utf-8')):
    assert list(ROOT.glob(name.rstrip('/'))), name


def test_the_architecture_has_the_rooms_and_their_floors():
  text = (ROOT / 'docs' / 'architecture.md').read_text('utf-8')
  listed = re.findall(r'^\d+\. (`[^.]*)\.?$', text.split('## Adding')[0],
                      re.MULTILINE)
  assert [set(re.findall(r'`(\w+)`', line)) for line in listed] == list(
      imports_test.FLOORS)
  table = set(re.findall(r'`(\w+)(?:/|\.py)`', text.split('## The way')[0]))
  assert {room for floor in imports_test.FLOORS for room in floor} <= table
