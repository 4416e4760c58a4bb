"""The training input of PANet beside Model Garden's, on the same records.

Each contestant runs in a process of its own, in turn: images/s, processor time
per image and peak memory after the first batches.

  python benchmarks/data/input_pipeline.py --records='shards/train-*' \
      --size=256 --anchor_size=4 --flips [--repeats=3] [--num_images=400]
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

from absl import app
from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string('records', None, 'Pattern of the shards.', required=True)
flags.DEFINE_integer('size', 512, 'Height and width of the network input.')
flags.DEFINE_float('anchor_size', 8.0, 'Side of an anchor, in strides.')
flags.DEFINE_integer('batch_size', 4, 'Images a batch.')
flags.DEFINE_integer('max_num_instances', 100, 'Objects kept of an image.')
flags.DEFINE_bool('flips', False, 'Vertical flips and scale jitter as well.')
flags.DEFINE_integer('num_images', 400, 'Images timed in one run.')
flags.DEFINE_integer('repeats', 3, 'Runs of each contestant.')
flags.DEFINE_string('worker', '', 'Internal: the contestant to run.')

_CONTESTANTS = {'panet': 'panet_coco',
                'model_garden': 'maskrcnn_resnetfpn_coco'}


def dataset(experiment):
  """Batches of (image, labels) of an experiment, with the flags' options."""
  from official.core import exp_factory
  from official.core import task_factory

  params = exp_factory.get_exp_config(experiment)
  parser = {'aug_rand_hflip': True,
            'max_num_instances': FLAGS.max_num_instances}
  if FLAGS.flips:
    parser |= {'aug_rand_vflip': True, 'aug_scale_min': 0.8,
               'aug_scale_max': 1.25}
  if experiment == 'panet_coco':
    parser |= {'short_edge': [], 'long_edge': 0}
  params.override({'task': {
      'model': {'input_size': [FLAGS.size, FLAGS.size, 3],
                'anchor': {'anchor_size': FLAGS.anchor_size}},
      'train_data': {
          'input_path': FLAGS.records, 'global_batch_size': FLAGS.batch_size,
          'dtype': 'float32', 'shuffle_buffer_size': 100, 'parser': parser}}})
  task = task_factory.get_task(params.task)
  return task.build_inputs(params.task.train_data)


def work():
  """Times one contestant and prints what was seen as JSON."""
  num_batches = -(-FLAGS.num_images // FLAGS.batch_size)
  batches = iter(dataset(_CONTESTANTS[FLAGS.worker]))
  for _ in range(4):
    next(batches)
  before = resource.getrusage(resource.RUSAGE_SELF)
  start = time.perf_counter()
  for _ in range(num_batches):
    next(batches)
  seconds = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_SELF)
  processor = (after.ru_utime + after.ru_stime
               - before.ru_utime - before.ru_stime)
  num_images = num_batches * FLAGS.batch_size
  print(json.dumps({'images/s': num_images / seconds,
                    'cpu ms/image': 1000 * processor / num_images,
                    'peak GiB': after.ru_maxrss / 2**20}))


def compare():
  """Runs the contestants in turn and prints medians and their ratios."""
  seen = {name: [] for name in _CONTESTANTS}
  for _ in range(FLAGS.repeats):
    for name, runs in seen.items():
      output = subprocess.run(
          [sys.executable, *sys.argv, f'--worker={name}'], check=True,
          stdout=subprocess.PIPE, text=True).stdout
      runs.append(json.loads(output.splitlines()[-1]))
      print(name, {k: round(v, 2) for k, v in runs[-1].items()}, flush=True)
  for key in seen['panet'][0]:
    ours, theirs = (statistics.median(run[key] for run in seen[name])
                    for name in _CONTESTANTS)
    print(f'{key:12}  panet {ours:8.2f}  model_garden {theirs:8.2f}  '
          f'ratio {ours / theirs:.2f}')


def main(_):
  work() if FLAGS.worker else compare()


if __name__ == '__main__':
  app.run(main)
