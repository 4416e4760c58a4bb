"""Time and memory of the deformable convolution beside others.

Prints a markdown table:
  python benchmarks/modeling/deformable_conv.py [--repeats=N] [--torch=PYTHON]

PYTHON is an interpreter that has torch and torchvision
(they need not be where TensorFlow is).
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

# The 3x3 convolutions of a ResNet on an image of 800x1024: height, width,
# channels.
SHAPES = {'stage 3': (100, 128, 128), 'stage 4': (50, 64, 256),
          'stage 5': (25, 32, 512)}
THREADS = 2


def ours(kind, height, width, channels):
  """Forward and forward + backward of 'plain', 'v1' or 'v2'."""
  import tensorflow as tf

  from panet_tf.modeling.layers import deformable_conv
  tf.config.threading.set_intra_op_parallelism_threads(THREADS)

  def normal(*shape, scale=1.):
    return tf.random.stateless_normal(shape, [0, len(shape)], stddev=scale)

  x = normal(1, height, width, channels)
  kernel = normal(3, 3, channels, channels, scale=.02)
  extra = [normal(1, height, width, 18), tf.sigmoid(
      normal(1, height, width, 9))][:('plain', 'v1', 'v2').index(kind)]

  def run(x, kernel, offsets=None, masks=None, training=None):
    if kind == 'plain':
      return tf.nn.conv2d(x, kernel, 1, 'SAME')
    return deformable_conv.deformable_conv2d(
        x, offsets, kernel, masks, training=training)

  inputs = [x, kernel, *extra]

  @tf.function(autograph=False)
  def forward(*inputs):
    return run(*inputs, training=False)

  @tf.function(autograph=False)
  def step(*inputs):
    with tf.GradientTape() as tape:
      tape.watch(inputs)
      y = run(*inputs, training=True)
    return [y, *tape.gradient(y, inputs, tf.ones_like(y))]

  return lambda: forward(*inputs).numpy(), (
      lambda: [tensor.numpy() for tensor in step(*inputs)])


def theirs(kind, height, width, channels):
  """The same of torchvision.ops.deform_conv2d."""
  import torch
  from torchvision import ops
  torch.set_num_threads(THREADS)
  inputs = [torch.randn(1, channels, height, width),
            torch.randn(1, 18, height, width),
            .02 * torch.randn(channels, channels, 3, 3)]
  masks = [torch.rand(1, 9, height, width)] if kind == 'v2' else []
  for tensor in inputs + masks:
    tensor.requires_grad_()

  def run():
    return ops.deform_conv2d(
        *inputs, padding=1, mask=masks[0] if masks else None)

  def forward():
    with torch.no_grad():
      run()

  def step():
    y = run()
    torch.autograd.grad(y, inputs + masks, torch.ones_like(y))

  return forward, step


def _peak_mib():
  # Not `getrusage`: a child starts there with the peak of its parent.
  status = pathlib.Path('/proc/self/status').read_text(encoding='utf-8')
  return int(re.search(r'VmHWM:\s*(\d+) kB', status).group(1)) / 1024


def measure(functions, repeats):
  """Median milliseconds and MiB on top, of forward and forward + backward."""
  found, before = [], _peak_mib()
  for function in functions:
    times = []
    for _ in range(repeats + 2):
      start = time.perf_counter()
      function()
      times.append(1000 * (time.perf_counter() - start))
    found += [statistics.median(times[2:]), _peak_mib() - before]
  return found


def in_a_process(python, kind, name, repeats):
  """`measure` in a fresh process, whose peak of memory is its own."""
  module = 'theirs' if kind.startswith('torchvision ') else 'ours'
  done = subprocess.run(
      [python, __file__, f'--repeats={repeats}', '--one', module,
       kind.removeprefix('torchvision '), name],
      check=True, capture_output=True, text=True)
  return json.loads(done.stdout.splitlines()[-1])


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--repeats', type=int, default=7)
  parser.add_argument('--torch', default='')
  parser.add_argument('--one', nargs=3, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    module, kind, name = args.one
    make = {'ours': ours, 'theirs': theirs}[module]
    print(json.dumps(measure(make(kind, *SHAPES[name]), args.repeats)))
    return
  rows = {'plain': sys.executable, 'v1': sys.executable, 'v2': sys.executable}
  if args.torch:
    rows |= {'torchvision v1': args.torch, 'torchvision v2': args.torch}
  print('|  |', ' | '.join(SHAPES), '|')
  print('|---' * (len(SHAPES) + 1) + '|')
  for kind, python in rows.items():
    cells = [in_a_process(python, kind, name, args.repeats) for name in SHAPES]
    print(f'| {kind} |', ' | '.join(
        f'{a:.0f} ms, {b:.0f} MiB; {c:.0f} ms, {d:.0f} MiB'
        for a, b, c, d in cells), '|', flush=True)


if __name__ == '__main__':
  main()
