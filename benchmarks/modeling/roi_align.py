"""Times ROIAlign on four levels against plain formulations, interleaved.

Prints markdown tables: `python benchmarks/modeling/roi_align.py [--repeats=N]`.
"""

import argparse
import collections
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np
import tensorflow as tf

from panet_tf.ops import roi_align

Size = collections.namedtuple(
    'Size', 'batch, height, width, channels, box_pixels, boxes')
SIZES = {
    'large': Size(1, 832, 1024, 256, (16, 500), {7: 256, 14: 256}),
    'small': Size(4, 256, 256, 64, (8, 200), {7: 128, 14: 32}),
    'tiny': Size(8, 128, 128, 32, (5, 80), {7: 64, 14: 16}),
}
TASKS = (('forward', 7), ('forward', 14), ('forward + backward', 7),
         ('forward + backward', 14))


def make_inputs(size, output_size):
  """Returns features, boxes inside of the image, upstream gradients."""
  rng = np.random.default_rng(0)
  features = {
      str(level): tf.random.stateless_normal([
          size.batch, size.height >> level, size.width >> level, size.channels
      ], [0, level]) for level in (2, 3, 4, 5)
  }
  shape = [size.batch, size.boxes[output_size], 2]
  extent = rng.uniform(*size.box_pixels, shape)
  start = rng.uniform(0, 1, shape) * ([size.height, size.width] - extent)
  upstream = tf.random.stateless_normal(
      shape[:2] + [output_size, output_size, size.channels], [0, 0])
  return (features,
          tf.constant(np.concatenate([start, start + extent], -1), tf.float32),
          upstream)


def _sample_grid(boxes, stride, output_size):
  boxes = boxes / stride - 0.5
  start, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
  steps = (tf.range(2 * output_size, dtype=tf.float32) + 0.5) / 2
  grid = start[..., tf.newaxis] + steps * size[..., tf.newaxis] / output_size
  return tf.unstack(grid, axis=2)


def crop_and_average(features, boxes, output_size):
  """The usual shortcut. Wrong at the border, where the crop kernel fills."""
  pooled = []
  for level, feature in features.items():
    batch, height, width, channels = feature.shape
    y, x = _sample_grid(boxes, 2.0**int(level), output_size)
    corners = tf.stack([
        y[..., 0] / (height - 1), x[..., 0] / (width - 1),
        y[..., -1] / (height - 1), x[..., -1] / (width - 1)], axis=-1)
    crops = tf.image.crop_and_resize(
        feature, tf.reshape(corners, [-1, 4]),
        tf.repeat(tf.range(batch), boxes.shape[1]), [2 * output_size] * 2)
    pooled.append(tf.reshape(
        tf.nn.avg_pool2d(crops, 2, 2, 'VALID'),
        [batch, -1, output_size, output_size, channels]))
  return pooled


def gather_taps(features, boxes, output_size):
  """Sixteen gathers in plain ops, accumulated, with automatic gradients."""
  pooled = []
  for level, feature in features.items():
    batch, height, width, channels = feature.shape
    axes = []
    for grid, length in zip(
        _sample_grid(boxes, 2.0**int(level), output_size), (height, width),
        strict=True):
      grid = tf.clip_by_value(grid, 0.0, length - 1.0)
      low = tf.cast(grid, tf.int32)
      fraction = grid - tf.cast(low, tf.float32)
      taps = ((low, 1 - fraction), (tf.minimum(low + 1, length - 1), fraction))
      axes.append([(cell[..., k::2], weight[..., k::2] / 2)
                   for k in (0, 1) for cell, weight in taps])
    cells = tf.reshape(feature, [-1, channels])
    images = tf.reshape(tf.range(batch) * height, [-1, 1, 1])
    total = 0.0
    for row, row_weight in axes[0]:
      for column, column_weight in axes[1]:
        index = ((images + row) * width)[..., tf.newaxis] + (
            column[:, :, tf.newaxis])
        weight = row_weight[..., tf.newaxis] * column_weight[:, :, tf.newaxis]
        total += tf.gather(cells, index) * weight[..., tf.newaxis]
    pooled.append(total)
  return pooled


FORMULATIONS = {
    'ours, `use_xla=True`': lambda *args: roi_align.multilevel_roi_align(
        *args, formulation='xla'),
    'ours, `use_xla=False`': roi_align.multilevel_roi_align,
    '`crop_and_resize` + average': crop_and_average,
    '16 gathers, plain ops': gather_taps,
}
REFERENCES = list(FORMULATIONS)[2:]


def make_function(pool, task, inputs, output_size):
  """Returns a function that runs one formulation on the inputs."""
  features, boxes, upstream = inputs

  @tf.function(autograph=False)
  def forward(features, boxes):
    return pool(features, boxes, output_size)

  @tf.function(autograph=False)
  def step(features, boxes, upstream):
    with tf.GradientTape() as tape:
      tape.watch(features)
      pooled = pool(features, boxes, output_size)
    # Returned too: TensorFlow prunes a forward pass nobody reads.
    return pooled, tape.gradient(pooled, features, [upstream] * len(pooled))

  if task == 'forward':
    return lambda: forward(features, boxes)
  return lambda: step(features, boxes, upstream)


def measure(size, repeats):
  """Returns {task: {formulation: median seconds}}."""
  results = {}
  for task, output_size in TASKS:
    inputs = make_inputs(size, output_size)
    functions = {
        name: make_function(pool, task, inputs, output_size)
        for name, pool in FORMULATIONS.items()
    }
    times = {name: [] for name in functions}
    for repeat in range(repeats + 2):  # Two rounds to trace and warm up.
      for name, function in functions.items():
        start = time.perf_counter()
        function()
        if repeat >= 2:
          times[name].append(time.perf_counter() - start)
    results[task, output_size] = {
        name: statistics.median(values) for name, values in times.items()
    }
  return results


def peak_memory(name, task, output_size):
  """Returns MiB on top of the inputs: the large size, in a fresh process."""
  command = [sys.executable, __file__, '--memory', name, task, str(output_size)]
  return int(subprocess.run(
      command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _peak_kib():
  # Not `getrusage`: a child starts there with the peak of its parent.
  status = pathlib.Path('/proc/self/status').read_text()
  return int(re.search(r'VmHWM:\s*(\d+) kB', status).group(1))


def print_peak_memory(name, task, output_size):
  output_size = int(output_size)
  inputs = make_inputs(SIZES['large'], output_size)
  before = _peak_kib()
  function = make_function(FORMULATIONS[name], task, inputs, output_size)
  for _ in range(3):
    function()
  print((_peak_kib() - before) // 1024)


def print_table(cell, tasks=TASKS):
  header = [f'{task} {s}x{s}' for task, s in tasks]
  print('\n| formulation |', ' | '.join(header), '|')
  print('|---' * (len(tasks) + 1) + '|')
  for name in FORMULATIONS:
    print(f'| {name} |', ' | '.join(cell(name, *task) for task in tasks), '|')


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--repeats', type=int, default=7)
  parser.add_argument('--memory', nargs=3, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.memory:
    print_peak_memory(*args.memory)
    return
  for label, size in SIZES.items():
    results = measure(size, args.repeats)
    print(f'\n{label}: {size.batch} x {size.height}x{size.width} image, '
          f'{size.channels} channels, boxes per image {size.boxes}, median '
          f'seconds (ratio to {", to ".join(REFERENCES)})')

    def cell(name, *task, results=results):
      seconds = results[task][name]
      ratios = [f'{seconds / results[task][r]:.2f}' for r in REFERENCES]
      return f'{seconds:.4f} ({", ".join(ratios)})'

    print_table(cell)
  print('\nlarge: peak memory in MiB, on top of the inputs')
  print_table(lambda *task: str(peak_memory(*task)),
              [task for task in TASKS if task[1] == 7])


if __name__ == '__main__':
  main()
