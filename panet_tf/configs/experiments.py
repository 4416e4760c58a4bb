"""The experiments, and how one is read with its overrides."""

from collections.abc import Sequence
import dataclasses
import os

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import optimization
from official.vision.configs import maskrcnn

from panet_tf import errors
from panet_tf.configs import official_release
from panet_tf.configs import panet
from panet_tf.configs import strict_overrides

EXPERIMENTS = []


def _experiment(function):
  """Registers a configuration under its function's name."""
  EXPERIMENTS.append(function.__name__)
  return exp_factory.register_config_factory(function.__name__)(function)


def _trainer(steps: list[int], learning_rates: list[float], *,
             warmup_steps: int = 500, steps_per_loop: int = 100,
             validation_interval: int = 10000,
             checkpoint_interval: int = 2000) -> cfg.TrainerConfig:
  """SGD with momentum 0.9; the rate changes at `steps[:-1]`."""
  return cfg.TrainerConfig(
      train_steps=steps[-1], validation_steps=-1,
      validation_interval=validation_interval, steps_per_loop=steps_per_loop,
      summary_interval=steps_per_loop, checkpoint_interval=checkpoint_interval,
      optimizer_config=optimization.OptimizationConfig({
          'optimizer': {'type': 'sgd', 'sgd': {'momentum': 0.9}},
          'learning_rate': {'type': 'stepwise', 'stepwise': {
              'boundaries': steps[:-1], 'values': learning_rates}},
          'warmup': {'type': 'linear', 'linear': {
              'warmup_steps': warmup_steps,
              'warmup_learning_rate': learning_rates[0] / 3}}}))


def _on_all_devices(model: panet.PANet, trainer: cfg.TrainerConfig, *,
                    data: Sequence[str | None], batch_size: int,
                    train: panet.ParserConfig, evaluation: panet.ParserConfig
                   ) -> cfg.ExperimentConfig:
  """`data`: the ground truth's file, prefixes of the shards of both splits."""
  task = panet.PANetTask(
      model=model, annotation_file=data[0], train_data=panet.DataConfig(
          input_path=f'{data[1]}-*.tfrecord', is_training=True,
          global_batch_size=batch_size, parser=train),
      validation_data=panet.DataConfig(
          input_path=f'{data[2]}-*.tfrecord', is_training=False,
          global_batch_size=8, drop_remainder=False, parser=evaluation))
  return cfg.ExperimentConfig(
      task=task, trainer=trainer,
      runtime=cfg.RuntimeConfig(distribution_strategy='mirrored'))


def _coco(model: panet.PANet, steps: list[int]) -> cfg.ExperimentConfig:
  """Section 4.2: 16 images a batch, multi-scale, 800/1000 for evaluation."""
  rates = [0.02, 0.002, 0.0002][:len(steps)]
  return _on_all_devices(
      model, _trainer(steps, rates), batch_size=16,
      data=['coco/annotations/instances_val2017.json', 'coco/train',
            'coco/val'],
      train=panet.ParserConfig(
          aug_rand_hflip=True, short_edge=[400, 1400], long_edge=1400),
      evaluation=panet.ParserConfig(short_edge=[800, 800], long_edge=1000))


@_experiment
def panet_coco() -> cfg.ExperimentConfig:
  """PANet with ResNet-50 on COCO, as in section 4.2."""
  return _coco(panet.PANet(num_classes=81, input_size=[1024, 1024, 3]),
               [120000, 160000])


@_experiment
def panet_coco_box() -> cfg.ExperimentConfig:
  """The detector alone (AP^bb of Tables 2 and 3): no mask branch."""
  return _coco(
      panet.PANet(
          num_classes=81, input_size=[1024, 1024, 3], include_mask=False),
      [60000, 80000])


@_experiment
def panet_rpn() -> cfg.ExperimentConfig:
  """The independently trained RPN of section 4.1, on COCO.

  The paper says that "the backbone is not shared", and "following Mask R-CNN";
  so it is FPN's, without what PANet adds to that. Its schedule is not told:
  this is the object detector's, at the scale of section 4.2, 800 and 1000.
  """
  params = _coco(
      panet.PANet(
          num_classes=81, input_size=[1024, 1024, 3], stages='rpn',
          bottom_up_path=False, include_mask=False),
      [60000, 80000])
  params.task.train_data.parser = panet.ParserConfig(
      aug_rand_hflip=True, short_edge=[800, 800], long_edge=1000)
  return params


@_experiment
def panet_official_release() -> cfg.ExperimentConfig:
  """The authors' release, on COCO; see configs/coco/official_*.yaml."""
  params = _coco(official_release.model(), [120000, 160000, 180000])
  params.task.train_data.parser = panet.ParserConfig(
      aug_rand_hflip=True,
      short_edge_choices=[400, 600, 800, 1000, 1200, 1200], long_edge=1400)
  params.task.validation_data.parser = panet.ParserConfig(
      short_edge=[1000, 1000], long_edge=1400, pad_to=32)  # The stride of C5.
  params.task.validation_data.global_batch_size = 1
  return params


@_experiment
def panet_cityscapes() -> cfg.ExperimentConfig:
  """Section 4.3, fine annotations; see configs/cityscapes."""
  return _on_all_devices(
      panet.PANet(num_classes=9, input_size=[1024, 2048, 3]),
      _trainer([18000, 24000], [0.01, 0.001], validation_interval=6000),
      data=['cityscapes/cityscapes_val.json', 'cityscapes/cityscapes_train',
            'cityscapes/cityscapes_val'],
      batch_size=8,
      train=panet.ParserConfig(
          aug_rand_hflip=True, short_edge_choices=[800, 1024], long_edge=2048,
          canvases=['1024x2048'], max_num_instances=200),
      evaluation=panet.ParserConfig(
          short_edge=[1024, 1024], long_edge=2048, canvases=['1024x2048']))


@_experiment
def panet_mvd() -> cfg.ExperimentConfig:
  """Section 4.4 and Appendix A; see configs/mapillary."""
  model = panet.PANet(
      num_classes=38, input_size=[2432, 2432, 3],
      anchor=maskrcnn.Anchor(
          anchor_size=4.0, aspect_ratios=[0.2, 0.5, 1.0, 2.0, 5.0]),
      detection_generator=maskrcnn.DetectionGenerator(max_num_detections=200))
  return _on_all_devices(
      model, _trainer([60000, 80000], [0.02, 0.002]), batch_size=16,
      data=['mapillary/mapillary_validation.json',
            'mapillary/mapillary_training', 'mapillary/mapillary_validation'],
      train=panet.ParserConfig(
          aug_rand_hflip=True, short_edge=[600, 2000], long_edge=2400,
          canvases=['1024x1408', '1408x1024', '2048x2432', '2432x2048'],
          max_num_instances=300),
      evaluation=panet.ParserConfig(short_edge=[1800, 1800], long_edge=2400))


@_experiment
def panet_shapes() -> cfg.ExperimentConfig:
  """The embedded default: a small PANet on generated scenes."""
  model = panet.PANet(
      num_classes=0, input_size=[128, 128, 3],
      anchor=maskrcnn.Anchor(anchor_size=4.0),
      backbone=panet.Backbone(model_id=18, width_multiplier=0.5),
      decoder=panet.Neck(num_filters=32),
      rpn_head=maskrcnn.RPNHead(num_filters=32),
      detection_head=maskrcnn.DetectionHead(num_filters=32, fc_dims=128),
      mask_head=maskrcnn.MaskHead(num_filters=32),
      roi_generator=maskrcnn.ROIGenerator(
          num_proposals=200, test_num_proposals=200),
      roi_sampler=maskrcnn.ROISampler(num_sampled_rois=64),
      mask_sampler=maskrcnn.MaskSampler(num_sampled_masks=16),
      norm_activation=dataclasses.replace(
          panet.PANet().norm_activation, norm_momentum=0.97))
  trainer = _trainer(
      [650, 800], [0.04, 0.004], warmup_steps=100, steps_per_loop=50,
      validation_interval=800, checkpoint_interval=400)
  params = _on_all_devices(
      model, trainer, batch_size=8,
      data=[None, 'runs/demo/data/train', 'runs/demo/data/val'],
      train=panet.ParserConfig(aug_rand_hflip=True, mask_crop_size=56),
      evaluation=panet.ParserConfig(mask_crop_size=56))
  params.task.seed = 1
  params.task.validation_data.global_batch_size = 10
  params.runtime.distribution_strategy = 'off'
  return params


def read(experiment: str, config_files: Sequence[str] = (),
         params_override: str = '', tpu: str = '') -> cfg.ExperimentConfig:
  """Reads an experiment with its overrides, in Model Garden's order.

  Args:
    experiment: a registered name, such as 'panet_coco'.
    config_files: YAML or JSON files, later ones win.
    params_override: YAML or JSON text, or a file; wins over the files.
    tpu: address of a TPU.

  Returns:
    The configuration, not locked.

  Raises:
    InputError: naming the experiment, the file or the key that is wrong.
  """
  try:
    params = exp_factory.get_exp_config(experiment)
  except LookupError as e:
    raise errors.InputError(
        f'unknown experiment {experiment!r}; there are '
        f'{", ".join(EXPERIMENTS)}') from e
  for path in config_files:
    if not os.path.isfile(path):
      raise errors.InputError(f'config file {path} does not exist')
    strict_overrides.apply(params, path, f'config file {path}')
  if tpu:
    params.override({'runtime': {'tpu': tpu}})
  if params_override:
    strict_overrides.apply(params, params_override, '--params_override')
  return params
