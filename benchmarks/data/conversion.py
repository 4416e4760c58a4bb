"""Times COCO to TFRecord against Model Garden's tool, whole commands in turn.

Prints markdown tables:
  python benchmarks/data/conversion.py --dataset=<folder> [--images=N] \
      [--repeats=N]

The data set, in COCO's layout (`val2017/`,
`annotations/instances_val2017.json`), is listed again under new ids until there
are enough images; both tools read the same files. Linux only.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from panet_tf.data import tfrecord_file  # noqa: E402 - after its path

Run = collections.namedtuple('Run', 'seconds, cpu, main, largest, total')
SHARDS = 32
COMMANDS = {
    '`panet data coco`': lambda image_dir, annotations, prefix: [
        '-m', 'panet_tf.cli.main', 'data', 'coco', f'--image_dir={image_dir}',
        f'--annotations={annotations}', f'--output_prefix={prefix}',
        f'--num_shards={SHARDS}'],
    "Model Garden's tool": lambda image_dir, annotations, prefix: [
        '-m', 'official.vision.data.create_coco_tf_record', '--include_masks',
        f'--image_dir={image_dir}', f'--object_annotations_file={annotations}',
        f'--output_file_prefix={prefix}', f'--num_shards={SHARDS}'],
}
OURS, PEER = COMMANDS
_POLL_SECONDS = 0.05


def write_repeated(source, path, num_images):
  """Writes the COCO file `source` with its images again and again."""
  data = json.loads(source.read_text())
  of_image = collections.defaultdict(list)
  for annotation in data['annotations']:
    of_image[annotation['image_id']].append(annotation)
  images, annotations = [], []
  for image_id in range(1, num_images + 1):
    image = data['images'][image_id % len(data['images'])]
    images.append(image | {'id': image_id})
    for annotation in of_image[image['id']]:
      annotations.append(annotation | {'id': len(annotations) + 1,
                                       'image_id': image_id})
  path.write_text(json.dumps(
      data | {'images': images, 'annotations': annotations}))


def _processes(pid):
  """This process and all that it started."""
  yield pid
  for children in pathlib.Path(f'/proc/{pid}/task').glob('*/children'):
    for child in children.read_text().split():
      yield from _processes(int(child))


def _note_peaks(pid, peaks):
  """Updates {process: peak KiB}."""
  # Not `getrusage`: a child starts there with the peak of its parent.
  try:
    for process in _processes(pid):
      for line in pathlib.Path(f'/proc/{process}/status').open():
        if line.startswith('VmHWM'):
          peaks[process] = int(line.split()[1])
  except OSError:
    pass  # It has just ended.


def run(arguments, log):
  """Runs Python with these arguments; memory in MiB."""
  peaks = collections.Counter()
  with open(log, 'wb') as output:
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], stdout=output,
        stderr=subprocess.STDOUT, env=os.environ | {'PYTHONPATH': str(ROOT)})
    done = 0
    while not done:
      _note_peaks(process.pid, peaks)
      time.sleep(_POLL_SECONDS)
      done, status, usage = os.wait4(process.pid, os.WNOHANG)
    seconds = time.perf_counter() - start
  process.returncode = os.waitstatus_to_exitcode(status)
  if process.returncode:
    raise RuntimeError(pathlib.Path(log).read_text())
  return Run(seconds, usage.ru_utime + usage.ru_stime,
             peaks[process.pid] / 1024, max(peaks.values()) / 1024,
             sum(peaks.values()) / 1024)


def convert(name, image_dir, annotations, num_images):
  """Runs a tool, counts what it wrote, and removes that."""
  with tempfile.TemporaryDirectory(dir=annotations.parent) as folder:
    result = run(COMMANDS[name](image_dir, annotations, f'{folder}/shard'),
                 f'{folder}/log')
    shards = sorted(pathlib.Path(folder).glob('*.tfrecord'))
    written = sum(1 for path in shards for _ in tfrecord_file.records(path))
    if written != num_images:
      raise RuntimeError(f'{name}: {written} of {num_images} images')
  return result


def _median(runs, field):
  return statistics.median(getattr(r, field) for r in runs)


def _spread(runs, field):
  values = [getattr(r, field) for r in runs]
  return (f'{statistics.median(values):.1f} '
          f'({min(values):.1f} to {max(values):.1f})')


def print_speed(runs, num_images):
  """Runs are {(name, number of images): [Run]}."""
  print('\n| command | images | wall seconds | CPU seconds | images/s | peak '
        'MiB, largest process | peaks of all processes, MiB |')
  print('|---|---|---|---|---|---|---|')
  for (name, count), repeats in runs.items():
    print(f'| {name} | {count} | {_spread(repeats, "seconds")} | '
          f'{_spread(repeats, "cpu")} | '
          f'{count / _median(repeats, "seconds"):.1f} | '
          f'{_median(repeats, "largest"):.0f} | '
          f'{_median(repeats, "total"):.0f} |')
  print("\n| Model Garden's / ours | wall | CPU |")
  print('|---|---|---|')
  for label, start in ('whole command', 0), ('less the run on 1 image', 1):
    ratios = []
    for field in 'seconds', 'cpu':
      peer, ours = (_median(runs[name, num_images], field)
                    - start * _median(runs[name, 1], field)
                    for name in (PEER, OURS))
      ratios.append(f'{peer / ours:.1f}')
    print(f'| {label} | {" | ".join(ratios)} |')


def print_memory(image_dir, annotations, counts):
  """Ours: what the main process needs beyond the JSON file it reads."""
  print('\n| images | JSON, MB | reading the JSON alone, peak MiB | main '
        'process, peak MiB | beyond the JSON, MiB | all other processes, peaks '
        'in MiB |')
  print('|---|---|---|---|---|---|')
  for count in counts:
    path = annotations[count]
    alone = run(['-c', 'import sys\nfrom panet_tf.data import tfrecord\n'
                 'tfrecord.coco_json.read(sys.argv[1])', path],
                path.with_suffix('.log'))
    full = convert(OURS, image_dir, path, count)
    print(f'| {count} | {path.stat().st_size / 1e6:.1f} | {alone.main:.0f} | '
          f'{full.main:.0f} | {full.main - alone.main:.0f} | '
          f'{full.total - full.main:.0f} |')


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--dataset', type=pathlib.Path, required=True)
  parser.add_argument('--images', type=int, default=2000)
  parser.add_argument('--repeats', type=int, default=3)
  args = parser.parse_args()
  source = args.dataset / 'annotations' / 'instances_val2017.json'
  image_dir = (args.dataset / 'val2017').resolve()
  with tempfile.TemporaryDirectory() as folder:
    annotations = {count: pathlib.Path(folder, f'{count}.json')
                   for count in (1, args.images, 4 * args.images)}
    for count, path in annotations.items():
      write_repeated(source, path, count)
    cases = [(name, count) for count in (args.images, 1) for name in COMMANDS]
    runs = {case: [] for case in cases}
    for _ in range(args.repeats):
      for name, count in cases:
        runs[name, count].append(
            convert(name, image_dir, annotations[count], count))
        print(name, count, runs[name, count][-1], file=sys.stderr)
    print_speed(runs, args.images)
    print_memory(image_dir, annotations, (args.images, 4 * args.images))


if __name__ == '__main__':
  main()
