"""The rules of docs/architecture.md about imports, read from the sources."""

import ast
import collections
import functools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'panet_tf'

# The rooms, lowest first: a room imports itself and the rooms of lower floors.
FLOORS = (
    {'errors'},
    {'structures', 'ops', 'model_garden'},
    {'files', 'safe_pickle', 'modeling', 'drawing'},
    {'configs'},
    {'data', 'factory'},
    {'dataloaders', 'evaluation'},
    {'runs'},
    {'inference', 'convert'},
    {'training', 'prediction'},
    {'serving'},
    {'cli'},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# Folders that work without TensorFlow, and so without Model Garden: what they
# import at their head, and what that imports. Only the client's gRPC needs it.
NO_TENSORFLOW = ('structures/', 'data/', 'drawing/', 'prediction/',
                 'serving/client/', 'cli/', 'errors.py', 'files.py',
                 'safe_pickle.py', 'inference/open_model.py',
                 'inference/exported/')
WITH_TENSORFLOW = {'serving/client/grpc.py'}
MOST_FILES = 14
MOST_FILES_IN_THE_ROOT = 7

FILES = sorted(PACKAGE.rglob('*.py'))
ALL_FILES = FILES + sorted(
    path for path in ROOT.rglob('*.py')
    if path not in FILES and path.relative_to(ROOT).parts[0] in (
        'tests', 'benchmarks', 'train.py', 'export.py', 'setup.py'))


def name(path):
  return str(path.relative_to(ROOT))


@functools.cache
def parsed(path):
  return ast.parse(path.read_text(encoding='utf-8'))


def imports(path, top_level_only=False):
  """Yields dotted names: 'panet_tf.ops.roi_align', 'official.core', ..."""
  tree = parsed(path)
  for node in tree.body if top_level_only else ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def room(path):
  return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


@pytest.mark.parametrize('path', FILES, ids=name)
def test_imports_go_one_way(path):
  own = room(path)
  if own == '__init__':  # The public face, lazy.
    return
  assert own in FLOOR, f'{own} is a new room: say on which floor it is'
  for imported in imports(path):
    if imported.startswith('panet_tf.'):
      other = imported.split('.')[1]
      assert other == own or FLOOR[other] < FLOOR[own], imported


def test_no_folder_is_an_attic():
  count = collections.Counter(
      path.parent for room in (PACKAGE, ROOT / 'benchmarks', ROOT / 'tests')
      for path in room.rglob('*') if path.is_file()
      and path.parent.name != '__pycache__' and path.name != '__init__.py')
  assert {folder: n for folder, n in count.items() if n > MOST_FILES} == {}
  assert len(list(PACKAGE.glob('*.py'))) <= MOST_FILES_IN_THE_ROOT


def test_files_of_a_room_do_not_import_each_other_in_a_circle():
  graph = {}
  for path in FILES:
    module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    graph[module] = [i for i in imports(path, top_level_only=True)
                     if i.startswith('panet_tf.')]

  def resolve(imported):  # `from collections.abc import ...` names a class.
    return imported if imported in graph else imported.rsplit('.', 1)[0]

  done = set()

  def visit(module, trail):
    assert module not in trail, ' -> '.join([*trail, module])
    if module not in done:
      for imported in map(resolve, graph.get(module, ())):
        visit(imported, [*trail, module])
      done.add(module)

  for module in graph:
    visit(module, [])


@pytest.mark.parametrize('path', ALL_FILES, ids=name)
def test_only_tf_keras_is_used(path):
  """`tf.keras` is Keras 3 beside TensorFlow 2.20, and mixes with nothing."""
  for node in ast.walk(parsed(path)):
    if isinstance(node, ast.Attribute) and node.attr == 'keras':
      assert not isinstance(node.value, ast.Name), f'line {node.lineno}'
  for imported in imports(path):
    assert imported.split('.')[0] != 'keras', imported
    assert not imported.startswith('tensorflow.keras'), imported


@pytest.mark.parametrize('path', ALL_FILES, ids=name)
def test_what_the_wheels_lack_is_not_imported(path):
  """official.projects has holes; tensorflow-addons ended in May 2024."""
  for imported in imports(path):
    assert not imported.startswith(
        ('official.projects', 'tensorflow_addons')), imported


def module_of(path):
  relative = path.relative_to(ROOT).with_suffix('')
  return '.'.join(relative.parts).removesuffix('.__init__')


def imported_in_the_end(module, graph, seen):
  """Fills `seen` with all that importing a module imports."""
  for imported in graph[module]:
    own = imported if imported in graph else imported.rsplit('.', 1)[0]
    if own not in seen:
      seen.add(own)
      if own in graph:
        imported_in_the_end(own, graph, seen)
  return seen


def test_folders_without_tensorflow_import_none():
  graph = {module_of(path): list(imports(path, top_level_only=True))
           for path in FILES}
  for path in FILES:
    relative = path.relative_to(PACKAGE).as_posix()
    if relative.startswith(NO_TENSORFLOW) and relative not in WITH_TENSORFLOW:
      found = {i.split('.')[0] for i in imported_in_the_end(
          module_of(path), graph, set())}
      assert not found & {'tensorflow', 'tf_keras', 'official'}, relative


def test_what_runs_in_a_serving_image_imports_no_model_garden():
  found = set(imports(PACKAGE / 'serving' / 'formats' / 'tensorrt.py'))
  assert not {i.split('.')[0] for i in found} & {'official', 'panet_tf'}
