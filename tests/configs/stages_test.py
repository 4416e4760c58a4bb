"""Models of one stage: what they learn and take over, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from panet_tf import errors
from panet_tf.cli import front_end
from panet_tf.configs import experiments
from panet_tf.modeling.proposals import rpn_model
from panet_tf.training import loop
from panet_tf.training import task as task_lib
from tests.support import tiny

RPN = dict(stages='rpn', include_mask=False)


def proposals(seed=0):
  """[2, 32, 4] boxes in 64 px, some of them zeros."""
  rng = np.random.default_rng(seed)
  start = rng.uniform(0, 40, [2, 32, 2])
  boxes = np.concatenate([start, start + rng.uniform(4, 24, start.shape)], -1)
  boxes[:, 28:] = 0
  return tf.constant(boxes, tf.float32)


def batch(stages):
  """Images and labels as the parser of a model of these stages gives them."""
  fields = RPN if stages == 'rpn' else {}
  images, labels = tiny.batch(tiny.params(**fields))
  if stages == 'detector':
    labels = {key: value for key, value in labels.items()
              if not key.startswith('rpn')}
    del labels['anchor_boxes']
    labels['proposals'] = proposals()
  return images, labels


def task_of(stages, **fields):
  return tiny.task(tiny.params(**(
      RPN if stages == 'rpn' else dict(stages=stages))), **fields)


@pytest.mark.parametrize('stages, learns', [
    ('rpn', ('backbone', 'decoder', 'rpn_head')),
    ('detector', ('backbone', 'decoder', 'detection_head', 'mask_head'))])
def test_two_steps_change_all_parts_and_there_are_no_others(stages, learns):
  task = task_of(stages)
  model = task.build_model()
  if stages == 'rpn':  # From 1e-5, no gradient would move a norm's gamma of 1.
    for v in model.rpn_head.scores.variables:
      v.assign(tf.random.normal(v.shape, stddev=0.1))
  before = {id(v): v.numpy() for v in model.trainable_variables}
  optimizer = tf_keras.optimizers.SGD(0.01, momentum=0.9)
  metrics = task.build_metrics(training=True)
  for _ in range(2):
    logs = task.train_step(batch(stages), model, optimizer, metrics)
    assert np.isfinite(logs['loss'])
  assert not [v.name for v in model.trainable_variables
              if np.array_equal(v.numpy(), before[id(v)])]
  parts = [getattr(model, part) for part in learns]
  assert set(before) == {id(v) for part in tf.nest.flatten(parts)
                         for v in part.trainable_variables}
  found = {m.name: float(m.result()) for m in metrics}
  for name, value in found.items():
    assert np.isfinite(value)
    absent = {'rpn': ('frcnn', 'mask'), 'detector': ('rpn',)}[stages]
    assert (value == 0) == name.startswith(absent), name


def test_losses_of_an_rpn_are_those_of_the_whole_model_by_anchors():
  """Model Garden divides the sum over anchors by the number of RoIs, 16."""
  whole, alone = tiny.task(), task_of('rpn')
  model, rpn = whole.build_model(), alone.build_model()
  for part in ('backbone', 'decoder', 'rpn_head'):
    getattr(rpn, part).set_weights(getattr(model, part).get_weights())
  images, labels = batch('both')
  fields = dict(image_shape=labels['image_info'][:, 1],
                anchor_boxes=labels['anchor_boxes'],
                gt_boxes=labels['gt_boxes'], gt_classes=labels['gt_classes'],
                training=True)
  expected = whole.build_losses(
      model(images, gt_masks=labels['gt_masks'], **fields), labels)
  found = alone.build_losses(rpn(images, **fields), labels, aux_losses=[2., 3.])
  anchors = 2046  # Of `tiny.data_config`.
  np.testing.assert_allclose(found['rpn_box_loss'], expected['rpn_box_loss'],
                             rtol=1e-4)
  np.testing.assert_allclose(found['rpn_score_loss'] * anchors,
                             expected['rpn_score_loss'] * 16, rtol=1e-4)
  np.testing.assert_allclose(
      found['total_loss'],
      found['rpn_box_loss'] + found['rpn_score_loss'] + 5, rtol=1e-6)


def test_proposals_of_an_rpn_are_its_detections_without_the_empty_ones():
  tf_keras.utils.set_random_seed(0)  # Some weights leave an image without any.
  task = task_of('rpn')
  model = task.build_model()
  assert isinstance(model, rpn_model.RPNModel)
  rng = np.random.default_rng(0)
  for v in model.rpn_head.trainable_variables:
    v.assign(rng.normal(scale=0.3, size=v.shape))
  images, labels = batch('rpn')
  shape = tf.constant([[64., 64.], [40., 24.]])
  found = model(images, image_shape=shape, training=False,
                anchor_boxes=labels['anchor_boxes'])
  boxes, scores = model.propose(model.features(images), shape)
  for i, count in enumerate(found['num_detections'].numpy()):
    present = np.all(boxes[i, :, 2:] > boxes[i, :, :2], 1)
    assert 0 < count == present.sum()
    kept = found['detection_boxes'][i, :count]
    np.testing.assert_allclose(kept, boxes[i][present], atol=1e-3)
    np.testing.assert_allclose(
        found['detection_scores'][i, :count], scores[i][present], atol=1e-5)
    assert np.all(np.diff(found['detection_scores'][i, :count]) <= 0)
    assert np.max(kept[:, 2]) <= shape[i, 0] and np.max(
        kept[:, 3]) <= shape[i, 1]
  assert np.all(found['detection_classes'] == 1)
  # Rows that NMS leaves are behind the boxes, and not counted.
  swapped = rpn_model._as_detections(
      tf.constant([[[0., 0, 0, 0], [1, 1, 5, 5], [3, 3, 3, 9], [2, 2, 4, 4]]]),
      tf.constant([[.9, .8, .7, .6]]))
  np.testing.assert_array_equal(
      swapped['detection_boxes'][0, :2], [[1, 1, 5, 5], [2, 2, 4, 4]])
  assert swapped['num_detections'] == [2]


@pytest.mark.parametrize('modules', ['backbone', ['backbone', 'decoder']])
@pytest.mark.parametrize('stages', ['both', 'detector'])
def test_a_model_starts_from_the_checkpoint_of_an_rpn(
    modules, stages, tmp_path):
  rpn = task_of('rpn').build_model()
  path = tf.train.Checkpoint(model=rpn, backbone=rpn.backbone,
                             decoder=rpn.decoder).write(str(tmp_path / 'ckpt'))
  task = task_of(stages, init_checkpoint=path, init_checkpoint_modules=modules)
  model = task.build_model()
  before = {v.name: v.numpy() for v in model.variables}
  task.initialize(model)
  for part in ('backbone', 'decoder'):
    taken = part in modules
    for mine, its in zip(getattr(model, part).get_weights(),
                         getattr(rpn, part).get_weights(), strict=True):
      assert not taken or np.array_equal(mine, its)
    assert taken == any(
        np.any(v.numpy() != before[v.name])
        for v in getattr(model, part).variables)
  for v in model.detection_head[0].variables:
    np.testing.assert_array_equal(v.numpy(), before[v.name])


# What is refused.


@pytest.fixture(scope='module')
def shards(tmp_path_factory):
  return tiny.write_shards(tmp_path_factory.mktemp('shards'), 2)


def refused(shards, override, mode='train_and_eval'):
  params = experiments.read('panet_shapes', (), override)
  params.override({'task': {'train_data': {'input_path': shards},
                            'validation_data': {'input_path': shards}}})
  with pytest.raises(errors.InputError) as e:
    loop.prepare(params, mode)
  assert '\n' not in str(e.value)
  return str(e.value)


RPN_TASK = 'model: {stages: rpn, include_mask: false}'


@pytest.mark.parametrize('override, words', [
    ('model: {stages: heads}', ['task.model.stages', 'both, rpn, detector']),
    ('model: {stages: rpn}', ['include_mask is true', 'must be false']),
    ('model: {stages: detector}', ['task.train_data.proposals is empty']),
    ('model: {stages: detector}, train_data: {proposals: x.pkl}',
     ['task.validation_data.proposals is empty']),
    ('train_data: {proposals: x.pkl}',
     ['task.train_data.proposals is x.pkl', 'stages is both']),
    (RPN_TASK + ', validation_data: {proposals: x.pkl}',
     ['task.validation_data.proposals is x.pkl', 'stages is rpn']),
    (RPN_TASK + ', inference: {flip: true}', ['task.inference', 'rpn']),
    (RPN_TASK + ', validation_data: {parser: {pad_to: 64}}', ['pad_to is 64']),
    (RPN_TASK + ', init_checkpoint: runs/x, init_checkpoint_modules: all',
     ['init_checkpoint_modules is all', 'backbone and decoder']),
    ('model: {stages: detector}, train_data: {proposals: x.pkl, '
     'enable_tf_data_service: true}', ['enable_tf_data_service']),
    ('model: {stages: detector}, train_data: {proposals: x.pkl, decoder: '
     '{simple_decoder: {regenerate_source_id: true}}}',
     ['task.train_data.decoder', 'regenerate_source_id'])])
def test_what_does_not_go_with_the_stages_is_named(shards, override, words):
  text = refused(shards, f'task: {{{override}}}')
  assert all(word in text for word in words), text


def test_only_data_that_the_mode_reads_needs_proposals(shards):
  params = experiments.read(
      'panet_shapes', (), 'task: {model: {stages: detector}, '
      f'validation_data: {{proposals: x.pkl, input_path: "{shards}"}}}}')
  loop.prepare(params, 'eval')


def test_an_image_that_the_file_lacks_is_one_line(shards, tmp_path, capsys):
  (tmp_path / 'x.json').write_text('[]', encoding='utf-8')
  task = task_lib.PANetTask(experiments.read(
      'panet_shapes', (), 'task: {model: {stages: detector, num_classes: 5}, '
      f'validation_data: {{proposals: "{tmp_path}/x.json", '
      f'input_path: "{shards}"}}}}').task)
  assert 2 == front_end.exit_code(
      lambda: list(task.build_inputs(task.task_config.validation_data)))
  last = capsys.readouterr().err.strip().splitlines()[-1]
  assert last.startswith('error: ') and 'x.json has no proposals' in last
