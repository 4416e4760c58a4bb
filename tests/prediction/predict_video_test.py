"""`panet predict` on videos: ids, what is drawn, going on."""

import json
import os

import numpy as np
from PIL import Image
import pytest

from panet_tf import errors
from panet_tf.cli import main
from panet_tf.inference import open_model
from panet_tf.prediction import frames as frames_lib
from tests.support import fake_detector
from tests.support import streaming


class _Videos:
  """a.mp4 of 7 frames among two images."""

  def __init__(self, tmp_path):
    self.paths = ['images/00.png', 'videos/a.avi', 'images/01.png']
    fake_detector.write_images(tmp_path / 'images', [10, 20])
    fake_detector.write_video(tmp_path / 'videos' / 'a.avi', 7)
    self.ids = ['00.png', *(f'a.avi/{n:06d}' for n in range(7)), '01.png']


@pytest.fixture(name='videos')
def _videos(tmp_path):
  return _Videos(tmp_path)


@pytest.mark.parametrize('batch_size', [1, 3, 7])
def test_frames_of_a_video_are_images_and_are_drawn_as_a_video(
    tmp_path, run, videos, batch_size):
  detector, code = run(images=videos.paths, batch_size=batch_size)
  assert code == 0 and streaming.ids(tmp_path / 'out') == videos.ids
  # Never across the borders of a video.
  assert [len(batch) for batch in detector.batches] == [
      1, *{1: [1] * 7, 3: [3, 3, 1], 7: [7]}[batch_size], 1]
  assert sorted(os.listdir(tmp_path / 'out')) == [
      '00.png', '01.png', 'a.mp4', 'index.html', 'predictions.json']
  drawn, rate = fake_detector.read_video(tmp_path / 'out' / 'a.mp4')
  assert drawn.shape == (7, 96, 144, 3)  # Small ones are enlarged.
  assert rate == 12.5


@pytest.mark.parametrize('at_call', [2, 3, 5, 8, 9])
@pytest.mark.parametrize('batch_size', [1, 2])
def test_a_run_that_stopped_in_a_video_draws_all_of_it(
    tmp_path, run, videos, monkeypatch, at_call, batch_size):
  if batch_size == 2:
    at_call = at_call // 2 + 1
  wanted, _ = run(images=videos.paths, output='wanted', batch_size=batch_size)
  with pytest.raises(streaming.Killed):
    run(fake_detector.FakeDetector({at_call: streaming.die}), videos.paths,
        batch_size=batch_size)
  assert not [name for name in os.listdir(tmp_path / 'out') if 'tmp' in name]
  ended = (tmp_path / 'out' / 'a.mp4').exists()
  assert ended == (at_call == len(wanted.batches))
  kept = streaming.chunks_kept(tmp_path / 'out') - ended  # The end is one, too.
  if ended:  # It is not even decoded.
    monkeypatch.setattr(frames_lib.Video, 'frames', None)
  going_on, code = run(images=videos.paths, batch_size=batch_size)
  assert code == 0 and going_on.batches == wanted.batches[kept:]
  assert streaming.files(tmp_path / 'out') == streaming.files(
      tmp_path / 'wanted')


def test_no_pictures_no_video(tmp_path, run, videos):
  run(images=videos.paths, max_pictures=0)
  assert os.listdir(tmp_path / 'out') == ['predictions.json']
  run(images=videos.paths, max_pictures=2)
  assert sorted(os.listdir(tmp_path / 'out')) == [
      '00.png', 'a.mp4', 'index.html', 'predictions.json']
  assert streaming.ids(tmp_path / 'out') == videos.ids


@pytest.mark.parametrize('keep', [0, 0.85])
def test_a_damaged_video_fails_as_an_image_does(
    tmp_path, run, videos, capsys, keep):
  path = tmp_path / 'videos' / 'a.avi'
  fake_detector.write_video(path, 40)
  data = path.read_bytes()
  path.write_bytes(data[:int(len(data) * keep)])
  whole, code = run(images=videos.paths, output='whole')
  assert code == 1
  lines = [line for line in capsys.readouterr().err.splitlines()
           if line.startswith('error: ')]
  assert len(lines) == 1 and 'a.avi' in lines[0]
  found = streaming.ids(tmp_path / 'whole')
  assert found[0] == '00.png' and found[-1] == '01.png'
  assert (len(found) > 2) == bool(keep)
  assert (tmp_path / 'whole' / 'a.mp4').exists() == bool(keep)
  # Also where the failure lies before what a run goes on from.
  last_call = len(whole.batches) - 1
  without_first = ['videos', 'images/01.png']
  with pytest.raises(streaming.Killed):
    run(fake_detector.FakeDetector({last_call: streaming.die}), without_first)
  going_on, code = run(images=without_first)
  assert code == 1 and going_on.batches == whole.batches[-1:]
  assert capsys.readouterr().err.count('error: ') == 2
  assert streaming.ids(tmp_path / 'out') == found[1:]


def test_a_checkpoint_gives_what_it_gives_image_by_image(
    tmp_path, reference, images, monkeypatch):
  """The one run here with a real model, through the command line."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(open_model, 'open_model', lambda *unused: reference)
  images = images[:2]
  os.mkdir('in')
  for number, image in enumerate(images):
    Image.fromarray(image).save(f'in/{number}.png')
  fake_detector.write_video(tmp_path / 'v.mp4', 3)
  assert main.main(['predict', '--model', 'none', '--images', 'in', 'v.mp4',
                   '--output_dir', 'out', '--batch_size', '2']) == 0
  with frames_lib.Video('v.mp4') as video:
    frames = {frame.image_id: frame.pixels for frame in video.frames(1)}
  frames |= {f'{number}.png': image for number, image in enumerate(images)}
  results = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
  assert [*dict.fromkeys(r['image_id'] for r in results)] == [
      image_id for image_id in sorted(frames)
      if len(reference.detect(frames[image_id]))]
  for image_id, pixels in frames.items():
    wanted = reference.detect(pixels)
    found = [r for r in results if r['image_id'] == image_id]
    np.testing.assert_allclose(
        [r['score'] for r in found], wanted.scores, atol=1e-4)
    assert all(r['segmentation']['size'] == [*pixels.shape[:2]] for r in found)
  drawn, _ = fake_detector.read_video(tmp_path / 'out' / 'v.mp4')
  assert len(drawn) == 3


@pytest.mark.parametrize('batch_size,at_call', [(1, 8), (2, 5)])
def test_results_of_a_video_that_is_now_another_are_not_taken(
    tmp_path, run, videos, batch_size, at_call):
  with pytest.raises(streaming.Killed):
    run(fake_detector.FakeDetector({at_call: streaming.die}),
        videos.paths, batch_size=batch_size, max_pictures=0)
  fake_detector.write_video(tmp_path / 'videos' / 'a.avi', 3)
  with pytest.raises(errors.InputError, match=(
      r'partial.jsonl: a.avi/00000. was predicted where .* delete the file')):
    run(images=videos.paths, batch_size=batch_size, max_pictures=0)
