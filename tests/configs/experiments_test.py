"""Claims about the experiments on street scenes, and their config files."""

import pathlib

import pytest

from panet_tf.configs import experiments
from panet_tf.data.sources import cityscapes

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'


def read(name, *files):
  return experiments.read(name, [str(CONFIGS / file) for file in files])


def schedule(params):
  rate = params.trainer.optimizer_config.learning_rate.get()
  return rate.values, rate.boundaries, params.trainer.train_steps


@pytest.mark.parametrize('name, batch_size, expected', [
    # "18k iterations with learning rate 0.01 and another 6k [...] 0.001".
    ('panet_cityscapes', 8, ([0.01, 0.001], [18_000], 24_000)),
    # "0.02 for 60k iterations and 0.002 for another 20k", "16 images".
    ('panet_mvd', 16, ([0.02, 0.002], [60_000], 80_000))])
def test_schedule_and_batch_are_those_of_the_paper(name, batch_size, expected):
  params = read(name)
  assert schedule(params) == expected
  assert params.task.train_data.global_batch_size == batch_size
  assert params.runtime.distribution_strategy == 'mirrored'
  for interval in (params.trainer.validation_interval,
                   params.trainer.checkpoint_interval):
    assert params.trainer.train_steps % interval == 0
    assert interval % params.trainer.steps_per_loop == 0


def test_cityscapes_trains_on_two_scales_and_infers_on_one():
  task = read('panet_cityscapes').task
  train, evaluation = task.train_data.parser, task.validation_data.parser
  assert train.short_edge_choices == [800, 1024] and not train.short_edge
  assert evaluation.short_edge == [1024, 1024]
  assert not evaluation.short_edge_choices
  assert train.long_edge == evaluation.long_edge == 2048
  assert task.model.input_size == [1024, 2048, 3]


def test_cityscapes_has_five_anchor_sizes_and_three_ratios():
  anchor = read('panet_cityscapes').task.model.anchor
  sizes = [anchor.anchor_size * 2**level for level in range(2, 7)]
  assert sizes == [32, 64, 128, 256, 512] and anchor.num_scales == 1
  assert anchor.aspect_ratios == [0.5, 1, 2]


def test_mvd_trains_at_2400_pixels_and_takes_the_middle_of_seven_anchor_sizes():
  task = read('panet_mvd').task
  train, evaluation = task.train_data.parser, task.validation_data.parser
  assert (train.short_edge, train.long_edge) == ([600, 2000], 2400)
  assert (evaluation.short_edge, evaluation.long_edge) == ([1800, 1800], 2400)
  anchor = task.model.anchor
  sizes = [anchor.anchor_size * 2**level for level in range(2, 7)]
  assert sizes == [2**i for i in range(3, 10)][1:-1] and anchor.num_scales == 1
  assert anchor.aspect_ratios == [0.2, 0.5, 1, 2, 5]


@pytest.mark.parametrize('name, num_classes', [
    ('panet_cityscapes', 1 + len(cityscapes.INSTANCE_CLASSES)),
    ('panet_mvd', 1 + 37)])
def test_classes_are_those_of_the_data_set_and_the_background(
    name, num_classes):
  assert read(name).task.model.num_classes == num_classes


@pytest.mark.parametrize('name, validation', [
    ('panet_cityscapes', 'cityscapes/cityscapes_val'),
    ('panet_mvd', 'mapillary/mapillary_validation')])
def test_data_is_where_the_converters_put_it(name, validation):
  task = read(name).task
  assert task.annotation_file == f'{validation}.json'
  assert task.validation_data.input_path == f'{validation}-*.tfrecord'
  assert task.train_data.input_path == validation.replace(
      '_validation', '_training').replace('_val', '_train') + '-*.tfrecord'


@pytest.mark.parametrize('name, file', [
    ('panet_cityscapes', 'cityscapes/panet_r50.yaml'),
    ('panet_mvd', 'mapillary/panet_r50.yaml')])
def test_the_plain_config_file_states_the_defaults(name, file):
  found, default = read(name, file).as_dict(), read(name).as_dict()
  # Without weights to start from; ResNet-50 is what a person may fill in.
  assert found['task'].pop('init_checkpoint_modules') == 'backbone'
  default['task'].pop('init_checkpoint_modules')
  assert found == default


def test_from_coco_trains_4k_steps_at_the_rates_of_cityscapes():
  params = read('panet_cityscapes', 'cityscapes/panet_r50_from_coco.yaml')
  assert schedule(params) == ([0.01, 0.001], [3000], 4000)
  assert params.trainer.optimizer_config.learning_rate.type == 'stepwise'
  assert params.task.train_data == read('panet_cityscapes').task.train_data


def test_from_coco_starts_each_class_from_its_twin():
  """The first 8 categories of COCO, in order of id; a rider has no twin."""
  coco = [None, 'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus',
          'train', 'truck']
  task = read('panet_cityscapes', 'cityscapes/panet_r50_from_coco.yaml').task
  in_order_of_id = sorted(cityscapes.INSTANCE_CLASSES,
                          key=cityscapes.INSTANCE_CLASSES.get)
  twins = (coco[i] for i in task.init_labels)
  assert dict(zip(in_order_of_id, twins, strict=True)) == {
      name: None if name == 'rider' else name for name in in_order_of_id}
  assert len(task.init_labels) == task.model.num_classes - 1
  assert task.init_checkpoint_modules == 'all' and task.init_checkpoint


def test_the_rpn_is_that_of_feature_pyramid_networks_at_one_scale():
  params = read('panet_rpn')
  model, data = params.task.model, params.task
  assert model.stages == 'rpn'
  assert not model.bottom_up_path and not model.include_mask
  assert model.roi_generator.test_num_proposals >= 1000  # Of its metrics.
  for parser in (data.train_data.parser, data.validation_data.parser):
    assert (parser.short_edge, parser.long_edge) == ([800, 800], 1000)
  assert schedule(params) == schedule(read('panet_coco_box'))


def test_the_detector_on_stored_proposals_differs_in_nothing_else():
  plain = read('panet_coco', 'coco/panet_r50.yaml')
  stored = read('panet_coco', 'coco/panet_r50_stored_proposals.yaml')
  assert stored.task.model.stages == 'detector'
  plain.override({'task': {
      'model': {'stages': 'detector', 'roi_generator': {'num_proposals': 2000}},
      'train_data': {'proposals': stored.task.train_data.proposals},
      'validation_data': {
          'proposals': stored.task.validation_data.proposals}}})
  assert stored.as_dict() == plain.as_dict()
