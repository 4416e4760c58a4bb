"""Claims about the experiments, and about mistakes in a configuration."""

import pathlib

import pytest
import yaml

from panet_tf import errors
from panet_tf.configs import experiments

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize('name, drop, end', [
    ('panet_coco', 120_000, 160_000), ('panet_coco_box', 60_000, 80_000)])
def test_schedule_is_that_of_section_4_1(name, drop, end):
  """"0.02 for 120k and 0.002 for 40k" masks, "60k and 20k" box detectors."""
  trainer = experiments.read(name).trainer
  optimizer = trainer.optimizer_config
  rate = optimizer.learning_rate.get()
  assert (rate.boundaries, rate.values) == ([drop], [0.02, 0.002])
  assert trainer.train_steps == end
  assert optimizer.optimizer.type == 'sgd'
  assert optimizer.optimizer.get().momentum == 0.9
  assert optimizer.warmup.get().warmup_steps < 1000


@pytest.mark.parametrize('name', ['panet_coco', 'panet_coco_box'])
def test_data_and_sampling_are_those_of_section_4(name):
  task = experiments.read(name).task
  assert task.train_data.global_batch_size == 16
  assert task.losses.l2_weight_decay == 1e-4
  sampler = task.model.roi_sampler
  assert sampler.num_sampled_rois == 512
  assert sampler.foreground_fraction == 1 / (1 + 3)
  train, val = task.train_data.parser, task.validation_data.parser
  assert (train.short_edge, train.long_edge) == ([400, 1400], 1400)
  assert (val.short_edge, val.long_edge) == ([800, 800], 1000)
  assert train.aug_rand_hflip and not train.aug_rand_vflip
  assert task.model.num_classes == 81
  assert task.model.include_mask == (name == 'panet_coco')


@pytest.mark.parametrize('name', [
    name for name in experiments.EXPERIMENTS
    if 'official' not in name and name != 'panet_rpn'])
def test_every_experiment_has_all_of_the_papers_parts(name):
  model = experiments.read(name).task.model
  switches = {field: getattr(model, field) for field in (
      'bottom_up_path', 'adaptive_feature_pooling', 'pooling_fusion',
      'fuse_after', 'fully_connected_fusion', 'fc_source', 'fc_fusion',
      'fc_relu', 'box_head', 'normalization')}
  assert switches == {
      'bottom_up_path': True, 'adaptive_feature_pooling': True,
      'pooling_fusion': 'max', 'fuse_after': 'first_layer',
      'fully_connected_fusion': True, 'fc_source': 'conv3', 'fc_fusion': 'sum',
      'fc_relu': False, 'box_head': '4conv1fc', 'normalization': 'sync_batch'}
  assert not model.backbone.frozen_stages and not model.backbone.normalization


@pytest.mark.parametrize('name', experiments.EXPERIMENTS)
def test_every_experiment_is_valid(name):
  params = experiments.read(name)
  params.validate()
  params.task.model.check()


def test_later_overrides_win(tmp_path):
  first, second = tmp_path / '1.yaml', tmp_path / '2.yaml'
  first.write_text('task: {model: {fc_fusion: max, box_head: 2fc}, seed: 1}')
  second.write_text('task: {model: {fc_fusion: product}, seed: 2}')
  task = experiments.read('panet_coco', [str(first), str(second)],
                     'task.seed=3').task
  assert task.model.box_head == '2fc'
  assert task.model.fc_fusion == 'product'
  assert task.seed == 3
  task = experiments.read('panet_coco', [str(second), str(first)]).task
  assert (task.model.fc_fusion, task.seed) == ('max', 1)


def test_an_address_of_a_tpu_loses_to_the_override():
  assert experiments.read('panet_coco', tpu='a').runtime.tpu == 'a'
  params = experiments.read('panet_coco', (), 'runtime.tpu=b', tpu='a')
  assert params.runtime.tpu == 'b'


def test_experiments_do_not_share_values():
  experiments.read('panet_coco', (), 'task.model.box_head=2fc')
  assert experiments.read('panet_coco').task.model.box_head == '4conv1fc'


def message(*args, **kwargs) -> str:
  with pytest.raises(errors.InputError) as e:
    experiments.read(*args, **kwargs)
  text = str(e.value)
  assert '\n' not in text and '<class' not in text
  return text


def test_an_unknown_experiment_is_named_with_those_there_are():
  text = message('panet_cocoo')
  assert "'panet_cocoo'" in text
  assert all(name in text for name in experiments.EXPERIMENTS)


def test_an_absent_config_file_is_named():
  assert 'no/such.yaml' in message('panet_coco', ['no/such.yaml'])
  assert 'no/such.yaml' in message(
      'panet_coco', params_override='no/such.yaml')


@pytest.mark.parametrize('text, named', [
    ('task: {model: {fc_fuson: max}}', "'fc_fuson'"),
    ('fc_fusion: max', "'fc_fusion' does not exist in ExperimentConfig"),
    ('task: {1: 2}', 'key 1 does not exist in PANetTask'),
    ('task: {null: 2}', 'key None does not exist in PANetTask'),
    ('task: {_locked: 1}', "'_locked' is internally reserved"),
    ('task: {model: [', 'line 1'),
    ('task:\n\t- a', 'line 2'),
    ('a: b: c', 'line 1'),
    ('', 'keys to values'),
    ('[1, 2]', 'keys to values'),
    ('just text', 'keys to values'),
    ('task: {model: 3}', 'task.model is 3'),
    ('task: {model: null}', 'task.model is None'),
    ('task: {model: {num_classes: many}}', 'num_classes is \'many\''),
    ('task: {model: {num_classes: true}}', 'num_classes is True'),
    ('task: {model: {bottom_up_path: maybe}}', 'bottom_up_path is \'maybe\''),
    ('task: {model: {input_size: 64}}', 'input_size is 64'),
    ('task: {losses: {l2_weight_decay: much}}', 'l2_weight_decay is \'much\''),
    ('trainer: {optimizer_config: {learning_rate: {type: none}}}', "'none'"),
])
def test_a_mistake_in_a_file_is_named_in_one_line(tmp_path, text, named):
  path = tmp_path / 'mistake.yaml'
  path.write_text(text)
  found = message('panet_coco', [str(path)])
  assert found.startswith(f'config file {path}: ')
  assert named in found


@pytest.mark.parametrize('override', [
    'task: {losses: {l2_weight_decay: 0}}',
    'task: {seed: 1}',
    'task: {annotation_file: null}',
    'task: {init_checkpoint_modules: [backbone, decoder]}',
    'task: {model: {roi_sampler: {cascade_iou_thresholds: [0.6]}}}',
])
def test_values_of_a_field_s_other_kinds_are_taken(override):
  params = experiments.read('panet_coco', (), override)
  value, wanted = params.as_dict(), yaml.safe_load(override)
  while isinstance(wanted, dict):
    (key, wanted), = wanted.items()
    value = value[key]
  assert value == wanted


@pytest.mark.parametrize(
    'path', sorted(CONFIGS.rglob('*.yaml')),
    ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_config_file_is_valid(path):
  params = experiments.read('panet_coco', [str(path)])
  params.validate()
  params.task.model.num_classes = params.task.model.num_classes or 2
  params.task.model.check()
  assert path.read_text().startswith('#'), 'its header says what came out'


WRONG = {
    'pooling_fusion': 'mean',
    'fuse_after': 'second_layer',
    'fc_source': 'conv1',
    'fc_fusion': 'mean',
    'box_head': '3fc',
    'normalization': 'layer',
    'backbone.normalization': 'layer',
    'backbone.model_id': 51,
    'min_level': 3,
    'max_level': 5,
    'outer_boxes_scale': 1.5,
    'roi_sampler.cascade_iou_thresholds': [0.6],
    'detection_head.class_agnostic_bbox_pred': True,
    'mask_roi_aligner.crop_size': 7,
    'mask_head.upsample_factor': 4,
    'mask_head.class_agnostic': True,
    'mask_sampler.num_sampled_masks': 513,
}


@pytest.mark.parametrize('field', WRONG)
def test_a_value_that_no_part_understands_is_named(field):
  model = experiments.read('panet_coco').task.model
  *parents, last = field.split('.')
  owner = model
  for parent in parents:
    owner = getattr(owner, parent)
  setattr(owner, last, WRONG[field])
  with pytest.raises(errors.InputError, match=f'task.model.{field} is ') as e:
    model.check()
  assert '\n' not in str(e.value)
  if field.startswith('mask_'):  # These say nothing without the mask branch.
    model.include_mask = False
    model.check()


@pytest.mark.parametrize('part, filters', [
    ('decoder', 48), ('rpn_head', 16), ('detection_head', 80),
    ('mask_head', 96)])
def test_channels_that_groups_cannot_split_are_named(part, filters):
  model = experiments.read('panet_coco').task.model
  getattr(model, part).num_filters = filters
  model.check()
  model.normalization = 'group'
  with pytest.raises(errors.InputError, match=f'{part}.num_filters'):
    model.check()


@pytest.mark.parametrize('units, valid', [(32, False), (80, False), (64, True)])
def test_units_that_groups_would_silence_are_named(units, valid):
  """32 groups of 1 unit each: minus its own mean, every unit is 0."""
  model = experiments.read('panet_coco').task.model
  model.normalization = 'group'
  model.detection_head.fc_dims = units
  if valid:
    model.check()
    return
  with pytest.raises(errors.InputError, match='fc_dims'):
    model.check()
  model.norm_after_fc = False
  model.check()
