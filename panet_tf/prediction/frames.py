"""Images and the frames of videos, read by threads ahead of the model.

Whatever the threads do, frames come in order, and no more than a given number
wait for the model.
"""

from collections.abc import Iterable, Iterator
from concurrent import futures
import contextlib
import itertools
import os
from typing import Any, NamedTuple

# OpenCV reads these when it opens its first video; FFmpeg's own lines would
# stand beside the one line that names a broken file.
os.environ.setdefault('OPENCV_FFMPEG_DEBUG', '1')  # Lets the level count.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # Quiet.

import cv2
import numpy as np

from panet_tf import errors
from panet_tf.data import image_bytes
from panet_tf.data import parallel

_MOST_LOST = 64  # Frames lost in a row after which a video has ended.


class Frame(NamedTuple):
  """One image to predict.

  Attributes:
    image_id: of the results.
    path: its file, or file and number of a frame.
    pixels: [H, W, 3] uint8, RGB; None if they cannot be had.
    error: why not, one line that names the path.
  """
  image_id: Any
  path: str
  pixels: np.ndarray | None
  error: str = ''


def chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
  """Lists of `size` items in order, the last one perhaps shorter."""
  items = iter(items)
  while chunk := list(itertools.islice(items, size)):
    yield chunk


def read_images(images: Iterable[tuple[str, Any]], pool: futures.Executor,
                depth: int) -> Iterator[Frame]:
  """Reads files, (path, image id) each, `depth` of them ahead, in threads."""
  return parallel.ahead(pool, _read_image, images, depth)


def _read_image(path, image_id):
  try:
    return Frame(image_id, path, image_bytes.read_rgb(path))
  except errors.InputError as e:
    return Frame(image_id, path, None, f'{path}: {e.reason}')


@contextlib.contextmanager
def silent_opencv() -> Iterator[None]:
  """Keeps OpenCV from printing what the caller will say better."""
  level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
  try:
    yield
  finally:
    cv2.utils.logging.setLogLevel(level)


class Video(contextlib.AbstractContextManager['Video']):
  """The frames of a video file; a context manager.

  Attributes:
    path: of the file.
    name: the file's own.
    announced: number of frames according to its header; 0 if that says none.
    rate: frames per second; 25 if the header says nothing sensible.
  """

  def __init__(self, path: str):
    """Opens a file that OpenCV's FFmpeg reads; InputError if it does not."""
    self.path, self.name = path, os.path.basename(path)
    with silent_opencv():
      self._capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    if not self._capture.isOpened():
      raise errors.InputError(
          f'{path}: not a video that opens, or cut off or empty')
    self.announced = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
    rate = self._capture.get(cv2.CAP_PROP_FPS)
    self.rate = rate if 0 < rate < 2**16 else 25.0
    # One thread: a frame is decoded from the one before.
    self._pool = futures.ThreadPoolExecutor(1)

  def __exit__(self, *unused):
    """Ends the thread, and closes the file."""
    self._pool.shutdown(cancel_futures=True)  # Before what it reads from.
    self._capture.release()

  def frames(self, depth: int) -> Iterator[Frame]:
    """Decodes every frame, once, `depth` of them ahead.

    Their ids are NAME/000000, NAME/000001, ... One that does not decode among
    others that do has an error. So has a last one if the file ends clearly
    before the header says; it stands for all that are missing.
    """
    done = lost = 0
    for pixels in parallel.ahead(
        self._pool, self._decode, itertools.repeat(()), depth):
      if pixels is None:
        lost += 1
        if lost > _MOST_LOST:
          break
        continue
      for _ in range(lost):
        yield self._frame(done, None, 'this frame does not decode')
        done += 1
      yield self._frame(done, pixels)
      done, lost = done + 1, 0
    # Headers, and what OpenCV makes of them, are often off by one.
    if not done or done + max(1, self.announced // 100) < self.announced:
      yield self._frame(
          done, None, 'the video ends before this frame, its header says '
          f'{self.announced} frames; it is damaged or cut off')

  def _decode(self):
    found, pixels = self._capture.read()
    return np.ascontiguousarray(pixels[:, :, ::-1]) if found else None

  def _frame(self, number, pixels, reason=''):
    path = f'{self.path}/{number:06d}'
    return Frame(f'{self.name}/{number:06d}', path, pixels,
                 reason and f'{path}: {reason}')


def num_announced(path: str) -> int:
  """Frames of a video according to its header; 0 if nothing says how many."""
  try:
    with Video(path) as video:
      return video.announced
  except errors.InputError:
    return 0
