"""export_report.json: the evidence that stays with an exported model."""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import datetime
from importlib import metadata
import os
import re
import time
from typing import Any

import numpy as np

from panet_tf import files
from panet_tf.serving.verification import verify

_PACKAGES = ('panet_tf', 'tensorflow', 'tf_keras', 'tf-models-official',
             'numpy', 'opencv-python-headless')
_RUNTIMES = {'saved_model': (), 'onnx': ('tf2onnx', 'onnx', 'onnxruntime')}
_TFLITE = ('ai-edge-litert',)  # The runtime of every other kind.
_LEAST_RUNS = 5


def measure_latency(reference: Any, exported: Any, images: Sequence[np.ndarray],
                    seconds: float = 5.0) -> dict[str, float]:
  """Times the whole of `detect`, from image to detections, one at a time.

  Both take turns on the same images, so that a machine that gets slower slows
  both, and each is first in every other run.

  Args:
    reference: the checkpoint in this process, with a `detect`.
    exported: the export in its own runtime.
    images: at least one.
    seconds: of measuring, after a warm-up of one run per image size; at least
      5 runs in any case.

  Returns:
    exported_ms and in_process_ms, medians in milliseconds, and runs of each.
  """
  sides = {'exported_ms': exported, 'in_process_ms': reference}
  for image in {image.shape: image for image in images}.values():
    for side in sides.values():
      side.detect(image)
  taken = {name: [] for name in sides}
  started, runs = time.perf_counter(), 0
  while runs < _LEAST_RUNS or time.perf_counter() - started < seconds:
    for name in sorted(sides, reverse=bool(runs % 2)):
      before = time.perf_counter()
      sides[name].detect(images[runs // 2 % len(images)])
      taken[name].append(1000 * (time.perf_counter() - before))
    runs += 1
  return {**{name: float(np.median(each)) for name, each in taken.items()},
          'runs': runs}


def file_sizes(folder: str) -> dict[str, int]:
  """Bytes of every file below a folder, by path in it."""
  return {
      os.path.relpath(os.path.join(root, name), folder).replace(os.sep, '/'):
          os.path.getsize(os.path.join(root, name))
      for root, _, names in sorted(os.walk(folder)) for name in sorted(names)}


def write(path: str, *, kind: str, checkpoint: str, experiment: str,
          canvas: Sequence[int], figures: verify.Figures,
          tolerance: verify.Tolerance, sizes: Mapping[str, int],
          ops: Mapping[str, int], options: Mapping[str, Any],
          latency: Mapping[str, float]) -> dict[str, Any]:
  """Writes the report, whole or not at all.

  Args:
    path: of the JSON file; InputError if it cannot be written.
    kind: key of `verify.TOLERANCES`.
    checkpoint: path; its last part is written, for the report may travel.
    experiment: name.
    canvas: height and width of the network input.
    figures: of `verify.compare`.
    tolerance: what they were checked against.
    sizes: bytes of each file of the export, as of `file_sizes`.
    ops: how often the graph has each op.
    options: of the export.
    latency: as of `measure_latency`.

  Returns:
    The report. Beside the arguments: the date (UTC), versions of the packages
    that made and ran the export, and peak_rss_mib, of this process so far:
    conversion, both models and all (None where the system does not say).
  """
  report = {
      'kind': kind,
      'checkpoint': os.path.basename(os.path.normpath(checkpoint)),
      'experiment': experiment,
      'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
      'canvas': [int(edge) for edge in canvas],
      'verified': dataclasses.asdict(figures),
      'tolerance': dataclasses.asdict(tolerance),
      'files': dict(sizes), 'ops': dict(sorted(ops.items())),
      'options': dict(options), 'latency': dict(latency),
      'peak_rss_mib': _peak_rss_mib(),
      'versions': _versions(_PACKAGES + _RUNTIMES.get(kind, _TFLITE)),
  }
  files.write_json(path, report)
  return report


def summary(report: Mapping[str, Any]) -> str:
  """The report in a few lines, for a terminal."""
  verified, latency = report['verified'], report['latency']
  # An export of a fixed batch size runs on as many copies of an image.
  batch_size = report['options'].get('batch_size') or 1
  sizes = report['files'].values()
  counts = (f'{verified["images"]} images, '
            f'{verified["reference_detections"]} detections of the checkpoint '
            f'and {verified["exported_detections"]} of the export '
            f'({verified["compared"]})')
  figures = [f'{name} {verified[name]:.4g}' for name in (
      'matched_reference', 'matched_exported', 'class_agreement', 'box_iou_min',
      'mask_iou_min', 'score_difference', 'box_difference')
             if verified[name] is not None]
  return '\n'.join([
      f'{report["kind"]} of {report["checkpoint"]}: '
      f'{sum(sizes) / 2**20:.1f} MiB in {len(sizes)} files, '
      f'{sum(report["ops"].values())} ops of {len(report["ops"])} kinds',
      f'verified: {counts}',
      f'  {", ".join(figures)}',
      f'latency: {latency["exported_ms"]:.1f} ms for {batch_size} image(s), '
      f'the checkpoint in this process {latency["in_process_ms"]:.1f} ms for '
      f'one (median of {latency["runs"]} runs each)'])


def _versions(names):
  found = {}
  for name in names:
    # Run from its sources, or another runtime was used.
    with contextlib.suppress(metadata.PackageNotFoundError):
      found[name] = metadata.version(name)
  return found


def _peak_rss_mib():
  try:
    with open('/proc/self/status', encoding='utf-8', errors='replace') as f:
      status = f.read()
  except OSError:
    return None
  # Not `getrusage`: a child starts there with the peak of its parent.
  found = re.search(r'VmHWM:\s*(\d+) kB', status)
  return round(int(found[1]) / 1024, 1) if found else None
