"""Training step of a small PANet beside Model Garden's Mask R-CNN.

Same widths, input, batch, proposals and samples; one ready batch; the two run
in turn, in one process.

  python benchmarks/training/train_step.py [--repeats=12]
"""

import os
import statistics
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from absl import app
from absl import flags
from official.core import exp_factory
from official.core import task_factory
import tensorflow as tf
import tf_keras

from panet_tf.configs import experiments
from panet_tf.dataloaders import factory as input_factory

flags.DEFINE_integer('repeats', 12, 'Timed steps of each model.')

_BATCH, _SIZE, _OBJECTS = 4, 256, 30
_CONFIG = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir,
                       'configs/nuclei/panet_r18.yaml')


def peer_params():
  """Model Garden's Mask R-CNN at the widths of configs/nuclei."""
  params = exp_factory.get_exp_config('maskrcnn_resnetfpn_coco')
  params.override({'task': {'init_checkpoint': '', 'model': {
      'num_classes': 2, 'input_size': [_SIZE, _SIZE, 3],
      'anchor': {'anchor_size': 4.0},
      'backbone': {'type': 'resnet', 'resnet': {'model_id': 18}},
      'decoder': {'type': 'fpn', 'fpn': {'num_filters': 64}},
      'rpn_head': {'num_filters': 64},
      'detection_head': {'num_convs': 0, 'num_fcs': 2, 'fc_dims': 256},
      'mask_head': {'num_filters': 64},
      'roi_generator': {'num_proposals': 300, 'test_num_proposals': 300},
      'roi_sampler': {'num_sampled_rois': 128},
      'mask_sampler': {'num_sampled_masks': 32},
      'norm_activation': {'use_sync_bn': False}}}})
  return params


def panet_params():
  """configs/nuclei/panet_r18.yaml."""
  params = experiments.read('panet_coco', [_CONFIG])
  params.task.model.num_classes = 2
  return params


def batch(mask_crop_size):
  """Random images and objects as the parser makes them."""
  params = panet_params()
  params.task.train_data.parser.mask_crop_size = mask_crop_size
  params.task.train_data.parser.max_num_instances = 100
  parser = input_factory.build_parser(params.task.model, params.task.train_data)
  generator = tf.random.Generator.from_seed(1)

  def example(_):
    corner = generator.uniform([_OBJECTS, 2], 0.0, 0.9)
    boxes = tf.concat(
        [corner, corner + generator.uniform([_OBJECTS, 2], 0.03, 0.1)], 1)
    png = tf.io.encode_png(tf.ones([_SIZE, _SIZE, 1], tf.uint8))
    return parser.parse_fn(True)({
        'image': tf.cast(generator.uniform(
            [_SIZE, _SIZE, 3], 0, 255, tf.int32), tf.uint8),
        'random_seed': generator.uniform_full_int([2], tf.int64),
        'groundtruth_is_crowd': tf.zeros([_OBJECTS], tf.bool),
        'groundtruth_boxes': boxes,
        'groundtruth_classes': tf.ones([_OBJECTS], tf.int64),
        'groundtruth_instance_masks': {
            'png': tf.fill([_OBJECTS], png),
            'corner': tf.zeros([_OBJECTS, 2], tf.int64)}})

  dataset = tf.data.Dataset.range(_BATCH).map(example).batch(_BATCH)
  return next(iter(dataset))


def stepper(params, inputs):
  """A compiled training step, its weights built and graph traced."""
  task = task_factory.get_task(params.task)
  model = task.build_model()
  optimizer = tf_keras.optimizers.legacy.SGD(1e-3, momentum=0.9)
  step = tf.function(lambda: task.train_step(inputs, model, optimizer))
  step()
  return step


def main(_):
  """Prints medians and the ratio."""
  # Each with the mask size of its own configuration.
  steps = {'PANet': stepper(panet_params(), batch(56)),
           'Model Garden Mask R-CNN': stepper(peer_params(), batch(112))}
  times = {name: [] for name in steps}
  for _ in range(flags.FLAGS.repeats):
    for name, step in steps.items():
      start = time.perf_counter()
      step()
      times[name].append(time.perf_counter() - start)
  medians = {name: statistics.median(t) for name, t in times.items()}
  for name, seconds in medians.items():
    print(f'{name}: {seconds:.3f} s a step '
          f'(min {min(times[name]):.3f}, max {max(times[name]):.3f})')
  ratios = [a / b for a, b in zip(*times.values(), strict=True)]
  print(f'PANet / Mask R-CNN: {statistics.median(ratios):.2f}')


if __name__ == '__main__':
  app.run(main)
