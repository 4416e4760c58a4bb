"""export_report.json: what it says is what was given and measured."""

import itertools
import json
import pathlib
import resource
import time

import numpy as np
import pytest

from panet_tf import errors
from panet_tf.serving.verification import report
from panet_tf.serving.verification import verify

_FIGURES = verify.Figures(
    images=3, compared='scores from 0.3', reference_detections=20,
    exported_detections=21, matched_reference=1.0, matched_exported=20 / 21,
    class_agreement=1.0, box_iou_min=0.995, box_iou_mean=0.999,
    mask_iou_min=None, mask_iou_mean=None, score_difference=1e-5,
    box_difference=0.01, worst_image={'box_iou_min': 'a.jpg'})


def _write(path, **changes):
  return report.write(str(path), **dict(
      dict(kind='onnx', checkpoint='/some/where/ckpt-450', canvas=(64, 96),
           experiment='panet_shapes', figures=_FIGURES,
           tolerance=verify.TOLERANCES['onnx'],
           sizes={'model.onnx': 3 * 2**20}, ops={'Conv': 9, 'Add': 2},
           options={'batch_size': None},
           latency={'exported_ms': 12.34, 'in_process_ms': 20.0, 'runs': 7}),
      **changes))


def test_the_file_has_all_that_was_given(tmp_path):
  written = _write(tmp_path / 'export_report.json')
  # Strict JSON: no NaN, no Infinity.
  read = json.loads((tmp_path / 'export_report.json').read_text(),
                    parse_constant=pytest.fail)
  assert read == written
  assert read['checkpoint'] == 'ckpt-450' and read['canvas'] == [64, 96]
  assert read['verified']['matched_exported'] == 20 / 21
  assert read['verified']['mask_iou_min'] is None
  assert read['verified']['worst_image'] == {'box_iou_min': 'a.jpg'}
  assert read['tolerance']['box_iou'] == 0.99
  assert list(read['ops'].items()) == [('Add', 2), ('Conv', 9)]
  assert read['versions']['numpy'] == np.__version__
  assert 'onnxruntime' in read['versions']
  assert 'ai-edge-litert' not in read['versions']
  assert read['date'].endswith('+00:00')


def test_every_kind_has_a_report(tmp_path):
  for kind, tolerance in verify.TOLERANCES.items():
    _write(tmp_path / kind, kind=kind, tolerance=tolerance)
    json.loads((tmp_path / kind).read_text(), parse_constant=pytest.fail)


def test_peak_memory_is_that_of_this_process(tmp_path):
  pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
  now = pages * resource.getpagesize() / 2**20
  peak = _write(tmp_path / 'a')['peak_rss_mib']
  # It has the peak of the parent in it, too.
  most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  assert now - 1 <= peak <= most + 1


def test_a_report_that_cannot_be_written_is_one_line(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.InputError, match='file'):
    _write(tmp_path / 'file' / 'export_report.json')


def test_the_summary_says_what_matters(tmp_path):
  lines = report.summary(_write(tmp_path / 'a')).split('\n')
  text = '\n'.join(lines)
  assert len(lines) == 4
  for part in ('onnx of ckpt-450', '3.0 MiB in 1 files', '11 ops of 2 kinds',
               '3 images', '21 of the export', 'matched_exported 0.9524',
               'box_iou_min 0.995', '12.3 ms', '20.0 ms', '7 runs'):
    assert part in text
  assert 'mask_iou' not in text


def test_sizes_are_of_every_file_below(tmp_path):
  (tmp_path / '1' / 'variables').mkdir(parents=True)
  (tmp_path / '1' / 'variables' / 'shard').write_bytes(b'12345')
  (tmp_path / 'models.config').write_bytes(b'1')
  assert report.file_sizes(str(tmp_path)) == {
      'models.config': 1, '1/variables/shard': 5}


class _Sleeper:
  """A predictor that takes its time, the first time more."""

  def __init__(self, name, seconds, calls):
    self._name, self._seconds, self._calls = name, seconds, calls

  def detect(self, image):
    first = (self._name, image.shape) not in [c[:2] for c in self._calls]
    self._calls.append((self._name, image.shape, image[0, 0, 0]))
    time.sleep(0.2 if first else self._seconds)


def test_latency_is_of_both_in_turns_without_the_first_runs():
  calls = []
  images = [np.full(shape, i, np.uint8) for i, shape in enumerate(
      [(8, 8, 3), (9, 8, 3), (8, 8, 3)])]
  latency = report.measure_latency(
      _Sleeper('checkpoint', 0.02, calls), _Sleeper('export', 0.005, calls),
      images, seconds=0.5)
  assert 19 < latency['in_process_ms'] < 60
  assert 4 < latency['exported_ms'] < 19
  assert latency['runs'] >= 5
  measured = calls[4:]  # Two sizes, twice.
  assert len(measured) == 2 * latency['runs']
  turns = list(zip(measured[::2], measured[1::2], strict=True))
  assert all(a[2] == b[2] and a[0] != b[0] for a, b in turns)
  firsts = [a[0] for a, _ in turns]
  assert all(a != b for a, b in itertools.pairwise(firsts))
  # Every image has both orders.
  assert [a[2] for a, _ in turns[:5]] == [0, 0, 1, 1, 2]


def test_slow_models_are_run_a_few_times_all_the_same():
  latency = report.measure_latency(
      _Sleeper('a', 0.01, []), _Sleeper('b', 0.01, []),
      [np.zeros((8, 8, 3), np.uint8)], seconds=0)
  assert latency['runs'] == 5
