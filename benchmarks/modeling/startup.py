"""Processor seconds until a model does something, for the first time.

  python -m benchmarks.modeling.startup --experiment=panet_coco

Building; tracing, compiling and running inference on one image; tracing a
training step, whose optimizer has its variables, as `train.py` sees to. Random
weights. A time is of all threads, so that other work beside it counts little.
"""

import argparse
import time

import numpy as np
import tensorflow as tf
import tf_keras

from panet_tf import factory
from panet_tf.configs import experiments
from panet_tf.dataloaders import factory as input_factory
from panet_tf.training import task as task_lib


def _timed(what, function):
  began = time.process_time()
  made = function()
  print(f'| {what} | {time.process_time() - began:.1f} |', flush=True)
  return made


def _example(parser, size):
  """A batch of one image with one object, as the parser makes it."""
  return tf.nest.map_structure(lambda x: x[tf.newaxis], parser.parse_fn(True)({
      'source_id': tf.constant('1'),
      'random_seed': tf.constant([1, 1], tf.int64),
      'image': tf.zeros([*size, 3], tf.uint8),
      'height': tf.constant(size[0], tf.int64),
      'width': tf.constant(size[1], tf.int64),
      'groundtruth_classes': tf.constant([1], tf.int64),
      'groundtruth_is_crowd': tf.constant([False]),
      'groundtruth_area': tf.constant([100.0]),
      'groundtruth_boxes': tf.constant([[0.2, 0.2, 0.6, 0.6]]),
      'groundtruth_instance_masks': {
          'png': tf.io.encode_png(tf.ones([*size, 1], tf.uint8))[tf.newaxis],
          'corner': tf.zeros([1, 2], tf.int64)}}))


def main():
  """Prints a table's rows."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--experiment', default='panet_shapes')
  args = parser.parse_args()
  params = experiments.read(args.experiment, (), 'task.model.num_classes=81')
  config = params.task.model
  size = config.input_size[:2]
  model = _timed('build', lambda: factory.build_panet(config))
  detect = tf.function(model.detect)
  image = tf.zeros([1, *size, 3])
  info = tf.constant([[size, size, [1, 1], [0, 0]]], tf.float32)
  _timed('first image', lambda: detect(image, info))
  _timed('second image', lambda: detect(image, info))
  task = task_lib.PANetTask(params.task)
  optimizer = tf_keras.optimizers.legacy.SGD(0.01, momentum=0.9)
  optimizer._create_all_weights(model.trainable_variables)
  batch = _example(input_factory.build_parser(
      config, params.task.train_data), np.array(size))
  step = tf.function(lambda batch: task.train_step(batch, model, optimizer))
  _timed('trace of a training step', lambda: step.get_concrete_function(batch))


if __name__ == '__main__':
  main()
