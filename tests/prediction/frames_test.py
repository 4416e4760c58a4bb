"""Images and frames come whole, in order, and not too far ahead."""

from concurrent import futures
import itertools
import random
import threading
import time

import numpy as np
import pytest

from panet_tf import errors
from panet_tf.data import image_bytes
from panet_tf.prediction import annotated_video
from panet_tf.prediction import frames as frames_lib
from tests.support import fake_detector


@pytest.fixture(name='pool')
def _pool():
  with futures.ThreadPoolExecutor(4) as pool:
    yield pool


def _value(frame):
  return int(frame.pixels.mean())


def test_chunks_are_of_one_size_but_the_last():
  assert list(frames_lib.chunks('abcde', 2)) == [
      ['a', 'b'], ['c', 'd'], ['e']]
  assert list(frames_lib.chunks([], 2)) == []


def test_images_come_in_order_whichever_thread_is_first(
    tmp_path, pool, monkeypatch):
  values = list(range(0, 200, 5))
  names = fake_detector.write_images(tmp_path, values)
  read, threads = image_bytes.read_rgb, set()

  def slow(path):
    threads.add(threading.get_ident())
    time.sleep(random.random() / 200)
    return read(path)

  monkeypatch.setattr(image_bytes, 'read_rgb', slow)
  images = [(str(tmp_path / name), number) for number, name in enumerate(names)]
  found = list(frames_lib.read_images(images, pool, 6))
  assert [(frame.path, frame.image_id) for frame in found] == images
  assert [_value(frame) for frame in found] == values
  assert len(threads) > 1


@pytest.mark.parametrize('depth', [1, 5])
def test_no_more_are_read_ahead_than_were_asked_for(
    tmp_path, pool, monkeypatch, depth):
  monkeypatch.setattr(
      image_bytes, 'read_rgb', lambda path: np.zeros([1, 1, 3], np.uint8))
  asked = []
  images = map(lambda n: asked.append(n) or (str(tmp_path / str(n)), n),
               itertools.count())
  frames = frames_lib.read_images(images, pool, depth)
  for taken in range(1, 20):
    next(frames)
    assert len(asked) == taken + depth
  frames.close()


def test_an_image_that_fails_has_its_line_among_the_others(tmp_path, pool):
  names = fake_detector.write_images(tmp_path, [0, 5, 10])
  path = tmp_path / names[1]
  path.write_bytes(path.read_bytes()[:60])
  first, broken, last = frames_lib.read_images(
      [(str(tmp_path / name), name) for name in names], pool, 2)
  assert (_value(first), _value(last)) == (0, 10)
  assert not first.error and not last.error
  assert broken.pixels is None and broken.image_id == names[1]
  assert broken.error == f'{path}: not an image that opens, or cut off'


@pytest.mark.parametrize('name', ['a.mp4', 'a.avi', 'a.mkv', 'A.MOV', 'a.m4v'])
def test_a_video_gives_each_of_its_frames(tmp_path, name):
  fake_detector.write_video(tmp_path / name, 30)
  assert frames_lib.num_announced(str(tmp_path / name)) == 30
  with frames_lib.Video(str(tmp_path / name)) as video:
    assert video.rate == pytest.approx(12.5)
    frames = list(video.frames(4))
  assert [frame.image_id for frame in frames] == [
      f'{name}/{number:06d}' for number in range(30)]
  assert not any(frame.error for frame in frames)
  np.testing.assert_allclose(
      [_value(frame) for frame in frames], np.arange(30) * 5, atol=6)
  assert frames[0].pixels.shape == (32, 48, 3)


def test_frames_are_rgb(tmp_path):
  results = [{'category_id': 1, 'score': 1.0, 'bbox': [0, 0, 1, 1]}]
  red = np.zeros([400, 400, 3], np.uint8)
  red[..., 0] = 200
  with annotated_video.AnnotatedVideo(
      str(tmp_path / 'a.mp4'), 5, [{'id': 1, 'label': 1, 'name': 'x'}],
      2.0) as drawn:
    drawn.add(red, results)
  with frames_lib.Video(str(tmp_path / 'a.mp4')) as video:
    frame, = video.frames(1)
  np.testing.assert_allclose(frame.pixels[200, 200], [200, 0, 0], atol=12)


@pytest.mark.parametrize('keep', [0, 30, 400])
def test_a_video_that_does_not_open_is_named(tmp_path, capfd, keep):
  path = tmp_path / 'a.mp4'
  fake_detector.write_video(path, 9)
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(errors.InputError, match='a.mp4: not a video that opens'):
    frames_lib.Video(str(path))
  assert frames_lib.num_announced(str(path)) == 0
  assert capfd.readouterr() == ('', '')


def test_a_video_that_is_cut_off_gives_what_it_has_and_says_so(tmp_path, capfd):
  path = tmp_path / 'a.avi'
  fake_detector.write_video(path, 40)
  data = path.read_bytes()
  path.write_bytes(data[:len(data) * 6 // 10])
  with frames_lib.Video(str(path)) as video:
    *frames, last = video.frames(3)
  assert 0 < len(frames) < 39 and not any(frame.error for frame in frames)
  assert last.pixels is None
  assert last.image_id == f'a.avi/{len(frames):06d}'
  assert last.error.startswith(f'{path}/{len(frames):06d}: the video ends')
  assert '40 frames' in last.error
  assert capfd.readouterr() == ('', '')


class _Capture:
  """A capture of 9 frames, some of which do not decode."""

  def __init__(self, lost):
    self._reads = iter([n not in lost for n in range(9)])

  def isOpened(self):
    return True

  def get(self, unused_property):
    return 9.0

  def read(self):
    found = next(self._reads, False)
    return found, np.zeros([4, 4, 3], np.uint8) if found else None

  def release(self):
    pass


@pytest.mark.parametrize('lost,errors_at', [
    ((), []), ((3, 4, 6), [3, 4, 6]), ((0,), [0]), ((8,), []),
    ((6, 7, 8), [6]), (range(9), [0])])
def test_a_frame_that_does_not_decode_keeps_the_numbers_of_the_others(
    monkeypatch, lost, errors_at):
  monkeypatch.setattr(
      frames_lib.cv2, 'VideoCapture', lambda *unused: _Capture(lost))
  with frames_lib.Video('x/a.mp4') as video:
    frames = list(video.frames(2))
  assert [int(frame.image_id[-6:]) for frame in frames] == list(
      range(len(frames)))
  assert [n for n, frame in enumerate(frames) if frame.error] == errors_at
  assert [n for n, frame in enumerate(frames)
          if frame.pixels is None] == errors_at
