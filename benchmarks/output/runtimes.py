"""AP, latency and memory of one checkpoint in every runtime.

  python -m benchmarks.output.runtimes --checkpoint=runs/nuclei \
      --images=nuclei/val --annotations=nuclei/val.json \
      --calibration_images=nuclei/train --output_dir=/tmp/exports

Latency is of `detect`, image to detections, one at a time: all runtimes take
turns on each image, in one process. Memory is the peak of a process that opens
one runtime and predicts the same images.
"""

import argparse
import os
import subprocess
import sys
import time

import numpy as np

from panet_tf.data import image_bytes
from panet_tf.evaluation import evaluate
from panet_tf.inference import open_model
from panet_tf.prediction import image_files
from panet_tf.prediction import predict
from panet_tf.serving import export_options
from panet_tf.serving import exporter

FORMATS = {
    'saved_model': dict(format='saved_model'),
    'onnx': dict(format='onnx'),
    'tflite': dict(format='tflite'),
    'tflite fp16': dict(format='tflite', quant_type='fp16'),
    'tflite default': dict(format='tflite', quant_type='default'),
    'tflite int8_full_fp32_io': dict(
        format='tflite', quant_type='int8_full_fp32_io'),
}
_PEAK = """
import re, sys
from panet_tf.data import image_bytes
from panet_tf.inference import open_model
from panet_tf.prediction import image_files
model = open_model.open_model(sys.argv[1])
for path in image_files.image_paths(sys.argv[2])[:20]:
  model.detect(image_bytes.read_rgb(path))
# Not `getrusage`: a child starts there with the peak of its parent.
status = open('/proc/self/status').read()
print(int(re.search('VmHWM:\\s*(\\d+)', status)[1]) / 1024)
"""


def _export(args, name, options):
  folder = os.path.join(args.output_dir, name.replace(' ', '_'))
  path = os.path.join(folder, f'model.{options["format"]}')
  if options['format'] == 'saved_model':
    path = os.path.join(folder, '1')
  if os.path.exists(path):  # Of a run that stopped.
    return path
  int8 = options.get('quant_type') == 'int8_full_fp32_io'
  return exporter.export(
      args.checkpoint, folder, export_options.Options(
          verify_images=args.images,
          calibration_images=args.calibration_images if int8 else '',
          **options))


def _size(path):
  names = [os.path.join(folder, name) for folder, _, names in os.walk(path)
           for name in names] or [path]
  return sum(map(os.path.getsize, names)) / 2**20


def _average_precision(args, name, path):
  folder = os.path.join(args.output_dir, 'predictions', name.replace(' ', '_'))
  predict.predict(path, args.images, folder, annotations=args.annotations,
                  max_pictures=0)
  return evaluate.evaluate_predictions(
      os.path.join(folder, 'predictions.json'), args.annotations, folder)


def _latencies(models, images, rounds):
  """Seconds [model, round * image], the models taking turns."""
  taken = {name: [] for name in models}
  for image in images[:3]:
    for model in models.values():
      model.detect(image)
  for number in range(rounds):
    for image in images:
      for name in sorted(models, reverse=bool(number % 2)):
        start = time.perf_counter()
        models[name].detect(image)
        taken[name].append(time.perf_counter() - start)
  return {name: np.array(each) for name, each in taken.items()}


def main():
  """Prints one table."""
  parser = argparse.ArgumentParser(description=__doc__)
  for name in ('checkpoint', 'images', 'annotations', 'calibration_images',
               'output_dir'):
    parser.add_argument(f'--{name}', required=True)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--num_images', type=int, default=20,
                      help='for latency')
  args = parser.parse_args()
  paths = {'checkpoint': args.checkpoint}
  paths.update((name, _export(args, name, options))
               for name, options in FORMATS.items())
  metrics = {name: _average_precision(args, name, path)
             for name, path in paths.items()}
  peaks = {name: float(subprocess.run(
      [sys.executable, '-c', _PEAK, path, args.images], check=True,
      capture_output=True, text=True).stdout.split()[-1])
           for name, path in paths.items()}
  images = [image_bytes.read_rgb(path)
            for path in image_files.image_paths(args.images)[:args.num_images]]
  models = {name: open_model.open_model(path) for name, path in paths.items()}
  taken = _latencies(models, images, args.rounds)
  base = np.median(taken['checkpoint'])
  print('| runtime | box AP | mask AP | ms | of the checkpoint | MiB on disk | '
        'peak MiB |\n|---|---|---|---|---|---|---|')
  for name, path in paths.items():
    size = '' if name == 'checkpoint' else f'{_size(path):.1f}'
    median = np.median(taken[name])
    print(f'| {name} | {metrics[name]["box"]["AP"]:.4f} | '
          f'{metrics[name]["mask"]["AP"]:.4f} | {1000 * median:.1f} | '
          f'{median / base:.2f} | {size} | {peaks[name]:.0f} |')


if __name__ == '__main__':
  main()
