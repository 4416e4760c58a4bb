"""Claims about starting a training from a checkpoint of other classes."""

import re

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.configs import panet
from panet_tf.training import initial_weights
from tests import factory_test
from tests.support import tiny

CLASSES = 3  # With background; the source has tiny.NUM_CLASSES, 5.
PER_CLASS = {'class_logits': 1, 'box_deltas': 4, 'classifier': 1}


def build(num_classes=CLASSES, **switches):
  return tiny.task(
      tiny.params(num_classes=num_classes, **switches)).build_model()


def scramble(model, seed):
  """Gives every variable, moving statistics too, values that no other has."""
  rng = np.random.default_rng(seed)
  for v in model.variables:
    v.assign(rng.normal(size=v.shape))


def values(model):
  return {factory_test.name_of(v): v.numpy() for v in model.variables}


@pytest.fixture(scope='module')
def source_model():
  model = build(tiny.NUM_CLASSES)
  scramble(model, 1)
  return model


@pytest.fixture(scope='module')
def source(source_model, tmp_path_factory):
  """A model of 5 classes: (checkpoint as a trainer writes it, its values)."""
  # The trainer's root; `backbone`, ... make other keys than `model` alone.
  saved = tf.train.Checkpoint(
      model=source_model, global_step=tf.Variable(7),
      **source_model.checkpoint_items)
  folder = tmp_path_factory.mktemp('source')
  return saved.save(str(folder / 'ckpt')), values(source_model)


@pytest.fixture(scope='module')
def target(two_replicas):
  """A model of 3 classes, on two devices as in a training."""
  with two_replicas.scope():
    return build()


def initialize(model, checkpoint, **fields):
  task = tiny.task(tiny.params(num_classes=CLASSES), init_checkpoint=checkpoint,
                   **fields)
  task.task_config.check('train')
  task.initialize(model)


def of_class(name, value, label, num_classes):
  """The numbers of one class, by hand; None for a layer without classes."""
  for layer, n in PER_CLASS.items():
    if f'/{layer}/' in f'/{name}':
      assert value.shape[-1] == n * num_classes
      return value[..., n * label:n * label + n]
  return None


@pytest.mark.parametrize('labels', [(3, 0), (2, 2), (0, 0), (4, 1)])
def test_mapped_classes_are_copied_others_stay_and_the_rest_is_loaded(
    source, target, labels):
  checkpoint, stored = source
  scramble(target, 2)
  before = values(target)
  initialize(target, checkpoint, init_labels=list(labels))
  after = values(target)
  by_class = 0
  for name, value in after.items():
    if of_class(name, value, 0, CLASSES) is None:
      np.testing.assert_array_equal(value, stored[name], name)
      continue
    by_class += 1
    for label, origin in enumerate((0, *labels)):
      if label and not origin:
        wanted = of_class(name, before[name], label, CLASSES)
      else:
        wanted = of_class(name, stored[name], origin, tiny.NUM_CLASSES)
      np.testing.assert_array_equal(
          of_class(name, value, label, CLASSES), wanted, name)
  assert by_class == 2 * len(PER_CLASS)  # A kernel and a bias each.


def test_a_variable_of_several_replicas_is_set_on_all(
    source, target, two_replicas):
  scramble(target, 2)
  with two_replicas.scope():  # As Orbit calls it; other tests do without.
    initialize(target, source[0], init_labels=[3, 1])
  for v in target.variables:
    first, second = two_replicas.experimental_local_results(v)
    np.testing.assert_array_equal(first.numpy(), second.numpy(), v.name)


def test_what_was_not_loaded_is_printed(source, target, capsys):
  checkpoint, _ = source
  initialize(target, checkpoint, init_labels=[3, 0])
  assert capsys.readouterr().out == (
      f'initial weights: {checkpoint}\n'
      '  labels of class_logits, box_deltas, classifier: 1 from 3\n'
      '  not loaded, new weights for labels: 2\n')


def test_without_a_mask_branch_its_weights_are_named_as_not_used(
    source, capsys):
  checkpoint, stored = source
  model = build(include_mask=False)
  initialize(model, checkpoint, init_labels=[3, 0])
  assert all(
      np.array_equal(value, stored[name]) for name, value in
      values(model).items() if of_class(name, value, 0, CLASSES) is None)
  unused = re.search('not used: (.*)', capsys.readouterr().out).group(1)
  names = re.findall(r'\S+/\S+(?=,)', unused)
  assert names and all(name.startswith('mask_head/') for name in names)
  more = sum('mask_head' in name for name in stored) - len(names)
  assert unused.endswith(f'({more} more)')


def test_the_same_classes_need_no_labels(source, source_model):
  checkpoint, stored = source
  scramble(source_model, 3)
  initialize(source_model, checkpoint)
  for name, value in values(source_model).items():
    np.testing.assert_array_equal(value, stored[name], name)


def test_without_labels_all_but_the_last_layers_is_loaded(
    source, target, capsys):
  checkpoint, stored = source
  scramble(target, 2)
  before = values(target)
  initialize(target, checkpoint)
  for name, value in values(target).items():
    is_by_class = of_class(name, value, 0, CLASSES) is not None
    np.testing.assert_array_equal(
        value, (before if is_by_class else stored)[name], name)
  assert ('not loaded: class_logits, box_deltas, classifier: 4 classes there, '
          '2 here') in capsys.readouterr().out


@pytest.mark.parametrize(
    'modules', ['all', 'backbone', ['backbone', 'decoder']])
def test_a_plain_backbone_starts_a_deformable_one(tmp_path, modules, capsys):
  def make(**fields):
    return build(include_mask=False, backbone=panet.Backbone(
        model_id=50, width_multiplier=0.125, **fields))

  plain, deformable = make(), make(deformable_stages=[4])
  scramble(plain, 4)
  path = tf.train.Checkpoint(
      model=plain, **plain.checkpoint_items).save(str(tmp_path / 'ckpt'))
  stored = values(plain)
  initialize(deformable, path, init_checkpoint_modules=modules)
  named = [modules] if isinstance(modules, str) else modules
  loaded = {id(v) for name in named for v in (
      deformable if name == 'all' else getattr(deformable, name)).variables}
  offsets = 0
  for v in deformable.variables:
    name = factory_test.name_of(v)
    if '/offset/' in name:
      offsets += 1
      assert not v.numpy().any()
    else:
      equal = np.array_equal(v.numpy(), stored[name])
      assert equal == (id(v) in loaded), name
  assert offsets == 2 * 6  # The six blocks of stage 4.
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].endswith(path) and len(lines) == 2
  assert lines[1].startswith('  not loaded, new: ') and '/offset/' in lines[1]


def test_a_backbone_of_other_layers_is_refused_and_nothing_changes(
    source, tmp_path):
  model = build(backbone=panet.Backbone(model_id=34, width_multiplier=0.125))
  before = values(model)
  with pytest.raises(errors.InputError, match=r'lacks \d+ of \d+ .*res2_2'):
    initialize(model, source[0], init_checkpoint_modules='backbone')
  for name, value in values(model).items():
    np.testing.assert_array_equal(value, before[name], name)


def test_a_folder_stands_for_its_newest_checkpoint(source, target):
  checkpoint, stored = source
  scramble(target, 2)
  initialize(target, checkpoint.rpartition('/')[0], init_labels=[0, 0])
  name = next(name for name in stored if 'lateral_2' in name)
  np.testing.assert_array_equal(values(target)[name], stored[name])


# Mistakes: one line, and the model is as it was.


@pytest.mark.parametrize('fields, words', [
    (dict(init_labels=[1]), ['task.init_labels has 1 entries', 'have 2']),
    (dict(init_labels=[1, 2, 3]), ['task.init_labels has 3', 'have 2']),
    (dict(init_labels=[1, 5]), ['has 5 for label 2', 'labels 1 to 4']),
    (dict(init_labels=[-1, 2]), ['has -1 for label 1', 'labels 1 to 4']),
    (dict(init_labels=['car', 2]), ["has 'car' for label 1", '1 to 4']),
    (dict(init_labels=[True, 2]), ['has True for label 1', '1 to 4']),
    (dict(init_labels=[1, 2], init_checkpoint_modules='backbone'),
     ['task.init_labels', "modules 'backbone'"]),
    (dict(init_checkpoint_modules='heads'), ["modules is 'heads'", 'decoder']),
    (dict(init_checkpoint_modules=['backbone', 'neck']), ["'neck'", 'all']),
    (dict(init_checkpoint_modules=''), ["modules is ''", 'backbone']),
])
def test_a_wrong_map_is_named_and_nothing_changes(
    source, target, fields, words):
  before = values(target)
  with pytest.raises(errors.InputError) as e:
    initialize(target, source[0], **fields)
  assert '\n' not in str(e.value)
  assert all(word in str(e.value) for word in words), str(e.value)
  for name, value in values(target).items():
    np.testing.assert_array_equal(value, before[name], name)


def test_labels_without_a_checkpoint_are_a_mistake(target):
  with pytest.raises(errors.InputError, match='init_checkpoint is None'):
    initialize(target, None, init_labels=[1, 2])


def test_a_checkpoint_with_less_than_the_model_is_refused(target, tmp_path):
  path = tf.train.Checkpoint(model=target.decoder).write(str(tmp_path / 'ckpt'))
  with pytest.raises(errors.InputError, match=r'lacks \d+ of \d+ .* more\)$'):
    initialize(target, path, init_labels=[1, 2])


def save(path, tensors):
  """Writes {key: array} as the file of a checkpoint."""
  tf.raw_ops.SaveV2(prefix=path, tensor_names=list(tensors),
                    shape_and_slices=[''] * len(tensors),
                    tensors=list(tensors.values()))
  return path


def test_a_layer_of_another_size_is_named_with_both_shapes(
    source, target, tmp_path):
  reader = tf.train.load_checkpoint(source[0])
  tensors = {key: reader.get_tensor(key)
             for key in reader.get_variable_to_shape_map()}
  key, = (key for key in tensors if 'mask_fc/bias' in key)
  tensors[key] = np.zeros([13], np.float32)
  path = save(str(tmp_path / 'ckpt'), tensors)
  before = values(target)
  with pytest.raises(errors.InputError, match=(
      r'mask_fc/bias:0 has the shape \(13,\) there .* have \(784,\)')):
    initialize(target, path, init_labels=[1, 2])
  for name, value in values(target).items():
    np.testing.assert_array_equal(value, before[name], name)


def test_a_file_of_tensorflow_1_is_refused(target, tmp_path):
  path = save(str(tmp_path / 'ckpt'), {'a': tf.zeros([1])})
  with pytest.raises(errors.InputError, match='does not fit.* TF2'):
    initialize(target, path)


def test_transfer_by_hand():
  initial = np.array([[1, 2, 3, 4, 5, 6]])  # 3 classes of 2 numbers.
  stored = np.array([[10, 11, 20, 21, 30, 31, 40, 41]])
  np.testing.assert_array_equal(
      initial_weights.transfer(initial, stored, [0, 3, 0]),
      [[10, 11, 40, 41, 5, 6]])
  np.testing.assert_array_equal(initial, [[1, 2, 3, 4, 5, 6]])
