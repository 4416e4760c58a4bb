"""Times ways to convolve in groups, and the dense convolution of equal work.

Prints a markdown table:
  python benchmarks/modeling/grouped_conv.py [--repeats=N] [--xla]

With TF_ENABLE_ONEDNN_OPTS=0 it is that of a CPU without oneDNN.
"""

import argparse
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import tensorflow as tf
import tf_keras

from panet_tf.modeling.layers import grouped_conv

# The 3x3 convolutions of an image of 512x512: height and width, channels,
# groups.
SHAPES = {
    'ResNeXt-101 64x4d, stage 2': (128, 256, 64),
    'ResNeXt-101 64x4d, stage 3': (64, 512, 64),
    'ResNeXt-101 64x4d, stage 4': (32, 1024, 64),
    'ResNeXt-101 64x4d, stage 5': (16, 2048, 64),
    'ResNeXt-101 32x8d, stage 4': (32, 1024, 32),
    'SE-ResNeXt-101 32x4d, stage 4': (32, 512, 32),
}


def split(x, kernel):
  """A convolution for each group."""
  groups = x.shape[-1] // kernel.shape[2]
  return tf.concat([
      tf.nn.conv2d(*parts, 1, 'VALID') for parts in zip(
          tf.split(x, groups, -1), tf.split(kernel, groups, -1),
          strict=True)], -1)


def by_xla(x, kernel):
  """What tf_keras.layers.Conv2D(groups=...) does: XLA."""
  groups = x.shape[-1] // kernel.shape[2]
  layer = tf_keras.layers.Conv2D(kernel.shape[-1], 3, groups=groups)
  return layer._jit_compiled_convolution_op(x, kernel)


def dense(x, kernel):
  """Equal work: as many channels in and out as the kernel has numbers."""
  return tf.nn.conv2d(x, kernel, 1, 'VALID')


WAYS = {'ours': grouped_conv.conv2d, 'a convolution for each group': split,
        'dense, equal work': dense}


def make_functions(way, size, channels, groups):
  """Forward, and forward with both gradients."""
  function, kernel_in = WAYS[way], channels // groups
  if way.startswith('dense'):
    channels = kernel_in = round(channels / groups**.5)
  x = tf.random.stateless_normal([1, size + 2, size + 2, channels], [0, 1])
  kernel = tf.random.stateless_normal([3, 3, kernel_in, channels], [0, 2])
  upstream = tf.random.stateless_normal([1, size, size, channels], [0, 3])

  @tf.function(autograph=False)
  def forward(x, kernel):
    return function(x, kernel)

  @tf.function(autograph=False)
  def step(x, kernel):
    with tf.GradientTape() as tape:
      tape.watch([x, kernel])
      y = function(x, kernel)
    return [y, *tape.gradient(y, [x, kernel], upstream)]

  return lambda: forward(x, kernel).numpy(), (
      lambda: [tensor.numpy() for tensor in step(x, kernel)])


def measure(shape, repeats):
  """{way: (forward, forward + backward)}, median milliseconds, interleaved."""
  functions = {way: make_functions(way, *shape) for way in WAYS}
  times = {way: ([], []) for way in WAYS}
  for repeat in range(repeats + 2):  # Two rounds to trace and warm up.
    for way, pair in functions.items():
      for function, list_of in zip(pair, times[way], strict=True):
        start = time.perf_counter()
        function()
        if repeat >= 2:
          list_of.append(1000 * (time.perf_counter() - start))
  return {way: [statistics.median(values) for values in pair]
          for way, pair in times.items()}


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--repeats', type=int, default=9)
  parser.add_argument(
      '--xla', action='store_true', help='this one takes a minute a step')
  args = parser.parse_args()
  if args.xla:
    WAYS["Keras's, by XLA"] = by_xla
  print('| convolution |', ' | '.join(WAYS), '|')
  print('|---' * (len(WAYS) + 1) + '|')
  for name, shape in SHAPES.items():
    found = measure(shape, args.repeats)
    least = found['dense, equal work']
    print(f'| {name} |', ' | '.join(
        f'{forward:.1f}, {step:.1f} ({forward / least[0]:.1f}, '
        f'{step / least[1]:.1f})' for forward, step in found.values()), '|',
          flush=True)


if __name__ == '__main__':
  main()
