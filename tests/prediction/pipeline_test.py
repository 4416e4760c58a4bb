"""`panet predict` as a stream: killed and going on, and failures."""

import os
import signal
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from panet_tf import errors
from panet_tf.cli import main
from panet_tf.configs import overrides as overrides_lib
from panet_tf.inference import open_model
from tests.support import fake_detector
from tests.support import streaming

_VALUES = [3, 90, 14, 159, 26, 53, 58, 97, 93, 23]


@pytest.fixture(name='names')
def _names(tmp_path):
  return fake_detector.write_images(tmp_path / 'images', _VALUES)


@pytest.mark.parametrize('batch_size', [1, 3, 10, 11])
def test_the_model_gets_the_images_in_order_and_in_batches(
    tmp_path, run, names, batch_size):
  detector, code = run(batch_size=batch_size)
  assert code == 0
  assert detector.batches == [_VALUES[i:i + batch_size]
                              for i in range(0, 10, batch_size)]
  assert streaming.ids(tmp_path / 'out') == names
  assert sorted(os.listdir(tmp_path / 'out')) == [
      *names, 'index.html', 'predictions.json']


def test_files_are_the_same_at_any_batch_size_and_in_every_run(
    tmp_path, run, names):
  del names
  for output, batch_size in ('a', 1), ('b', 1), ('c', 3):
    run(output=output, batch_size=batch_size)
  files = [streaming.files(tmp_path / output) for output in 'abc']
  assert files[0] == files[1] == files[2]


@pytest.mark.parametrize('batch_size,at_call', [
    (1, 1), (1, 5), (1, 10), (3, 1), (3, 3), (3, 4)])
def test_a_stopped_run_goes_on_to_the_same_files(
    tmp_path, run, names, capsys, at_call, batch_size):
  del names
  wanted, _ = run(fake_detector.FakeDetector(sees_batch=True), output='wanted',
                  batch_size=batch_size)
  with pytest.raises(streaming.Killed):
    run(fake_detector.FakeDetector({at_call: streaming.die}, sees_batch=True),
        batch_size=batch_size)
  assert not (tmp_path / 'out' / 'predictions.json').exists()
  kept = streaming.chunks_kept(tmp_path / 'out')
  assert kept >= at_call - 3
  with (tmp_path / 'out' / 'predictions.partial.jsonl').open('ab') as f:
    f.write(b'{"image_id":"torn","resul')
  pictures = {name: (tmp_path / 'out' / name).stat().st_mtime_ns
              for name in os.listdir(tmp_path / 'out')}
  capsys.readouterr()
  going_on, code = run(fake_detector.FakeDetector(sees_batch=True),
                       batch_size=batch_size)
  assert code == 0
  assert going_on.batches == wanted.batches[kept:]
  assert streaming.files(tmp_path / 'out') == streaming.files(
      tmp_path / 'wanted')
  assert '20 detections in 10 images: ' in capsys.readouterr().out
  for number in range(kept * batch_size):
    name = f'{number:02d}.png'
    assert (tmp_path / 'out' / name).stat().st_mtime_ns == pictures[name]


_KILLED = '''
import os, signal, sys
from tests.support import fake_detector
from panet_tf.inference import open_model
from panet_tf.prediction import predict
open_model.open_model = lambda *unused: fake_detector.FakeDetector(
    {6: lambda: os.kill(os.getpid(), signal.SIGKILL)})
predict.predict('none', *sys.argv[1:])
'''


def test_kill_9_keeps_what_was_done(tmp_path, run, names):
  run(output='wanted')
  died = subprocess.run(
      [sys.executable, '-c', _KILLED, tmp_path / 'images', tmp_path / 'out'],
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}, check=False,
      stderr=subprocess.DEVNULL)
  assert died.returncode == -signal.SIGKILL
  kept = streaming.chunks_kept(tmp_path / 'out')
  assert 0 < kept < 6
  going_on, _ = run()
  assert going_on.batches == [[value] for value in _VALUES[kept:]]
  assert streaming.ids(tmp_path / 'out') == names
  found = streaming.files(tmp_path / 'out')
  torn = [name for name in found if name.endswith('.tmp')]  # A picture.
  assert {name: data for name, data in found.items()
          if name not in torn} == streaming.files(tmp_path / 'wanted')


@pytest.mark.parametrize('options,named', [
    ({'score_threshold': 0.3}, 'score_threshold'),
    ({'images': ['images/03.png']}, 'images'),
    ({'overrides': overrides_lib.Overrides(params_override='a: 1')},
     'params_override')])
def test_a_run_of_something_else_does_not_go_on(
    tmp_path, run, names, options, named):
  del names
  with pytest.raises(streaming.Killed):
    run(fake_detector.FakeDetector({5: streaming.die}))
  before = streaming.files(tmp_path / 'out')
  with pytest.raises(errors.InputError, match=f'partial.jsonl.*other {named};'):
    run(**options)
  assert streaming.files(tmp_path / 'out') == before
  os.remove(tmp_path / 'out' / 'predictions.partial.jsonl')
  assert run(**options)[1] == 0


@pytest.mark.parametrize('batch_size', [1, 3])
def test_what_fails_is_reported_and_the_others_are_predicted(
    tmp_path, names, monkeypatch, capsys, batch_size):
  (tmp_path / 'images' / names[1]).write_bytes(b'no image')  # Not decoded.
  Image.fromarray(np.full([8, 8, 3], 255, np.uint8)).save(
      tmp_path / 'images' / names[5])  # Not detected in.
  monkeypatch.setattr(
      open_model, 'open_model', lambda *unused: fake_detector.FakeDetector())
  assert main.main([
      'predict', '--model', 'none', '--images', str(tmp_path / 'images'),
      '--output_dir', str(tmp_path / 'out'), '--batch_size', str(batch_size)
  ]) == 1
  left = [name for name in names if name not in (names[1], names[5])]
  assert streaming.ids(tmp_path / 'out') == left
  assert sorted(os.listdir(tmp_path / 'out')) == [
      *left, 'index.html', 'predictions.json']
  printed = capsys.readouterr()
  assert [line for line in printed.err.splitlines() if 'error' in line] == [
      f'error: {tmp_path}/images/{names[1]}: not an image that opens, or cut '
      'off', f'error: {tmp_path}/images/{names[5]}: white as snow']
  assert '2 of 10 images failed' in printed.err
  assert '16 detections in 8 images: ' in printed.out


def test_failures_of_the_run_before_are_still_failures(
    tmp_path, run, names, capsys):
  (tmp_path / 'images' / names[1]).write_bytes(b'no image')
  with pytest.raises(streaming.Killed):
    run(fake_detector.FakeDetector({7: streaming.die}))
  capsys.readouterr()
  with pytest.raises(errors.InputError, match='01.png.* delete .*partial'):
    run(strict=True)
  assert run()[1] == 1
  assert f'{names[1]}: not an image' in capsys.readouterr().err
  assert streaming.ids(tmp_path / 'out') == names[:1] + names[2:]


@pytest.mark.parametrize('strict_again', [False, True])
def test_strict_stops_and_goes_on_when_the_image_is_whole(
    tmp_path, run, names, strict_again):
  run(output='wanted', batch_size=2)
  path = tmp_path / 'images' / names[5]
  whole = path.read_bytes()
  path.write_bytes(whole[:50])
  with pytest.raises(errors.InputError, match='05.png: not an image'):
    run(batch_size=2, strict=True)
  assert streaming.chunks_kept(tmp_path / 'out') == 2
  path.write_bytes(whole)
  detector, code = run(batch_size=2, strict=strict_again)
  assert code == 0 and detector.batches[0] == _VALUES[4:6]
  assert streaming.files(tmp_path / 'out') == streaming.files(
      tmp_path / 'wanted')


def test_a_defect_is_not_an_image_that_fails(run, names):
  del names
  def fail():
    raise ValueError('of ours')
  with pytest.raises(ValueError, match='of ours'):
    run(fake_detector.FakeDetector({3: fail}))


def test_a_picture_that_cannot_be_written_stops_the_run(
    tmp_path, run, names, monkeypatch):
  del names
  def full(*unused, **unused_too):
    raise OSError(28, 'No space left on device')
  monkeypatch.setattr(Image.Image, 'save', full)
  with pytest.raises(errors.InputError, match='00.png: No space left'):
    run()
  assert os.listdir(tmp_path / 'out') == ['predictions.partial.jsonl']


@pytest.mark.parametrize('options', [
    {'batch_size': 0}, {'overlap': 4}, {'tile': -1}, {'tile': 8, 'overlap': 8}])
def test_options_out_of_range_are_named_before_anything_is_written(
    tmp_path, run, names, options):
  del names
  with pytest.raises(errors.InputError, match=f'--{list(options)[-1]} '):
    run(**options)
  assert not (tmp_path / 'out').exists()


def test_tiles_of_large_images_are_predicted_in_batches(tmp_path, run):
  fake_detector.write_images(tmp_path / 'images', [4, 8], (40, 64))
  detector, code = run(tile=32, overlap=0, batch_size=3)
  assert code == 0 and len(streaming.ids(tmp_path / 'out')) == 2
  assert detector.batches == [[4] * 3, [4], [8] * 3, [8]]
