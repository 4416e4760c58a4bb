"""A video with what was found drawn on every frame."""

from collections.abc import Iterator, Sequence
import contextlib
import os
from typing import Any

import cv2
import numpy as np

from panet_tf import errors
from panet_tf.data import segmentation
from panet_tf.drawing import pictures
from panet_tf.prediction import frames
from panet_tf.structures import detections
from panet_tf.structures import rle_masks


class AnnotatedVideo:
  """Draws frames into an MP4 file, see `written`.

  Attributes:
    num_frames: that were written.
  """

  def __init__(self, path: str, rate: float,
               categories: Sequence[dict[str, Any]], score_threshold: float):
    """Writes nothing yet; the arguments are those of `written`."""
    self._path, self._rate = path, rate
    self._labels = {c['id']: c['label'] for c in categories}
    self._names = {c['label']: c['name'] for c in categories}
    self._score_threshold = score_threshold
    self._writer = self._picture = None
    self._lost = self.num_frames = 0

  def add(self, pixels: np.ndarray, results: Sequence[dict[str, Any]]):
    """Draws the next frame.

    Args:
      pixels: [H, W, 3] uint8, RGB.
      results: of COCO, of this frame: all that a run that goes on has of the
        frames before, which must look the same.

    Raises:
      InputError: the video cannot be written, or a mask is not of this frame.
    """
    picture = pictures.draw_detections(
        pixels, self._detections(results, *pixels.shape[:2]), self._names,
        self._score_threshold)
    if self._writer is None:
      self._open(picture)
    height, width = self._picture.shape[:2]
    if picture.shape != self._picture.shape:  # It would be dropped silently.
      picture = cv2.resize(picture, (width, height))
    for _ in range(self._lost):
      self._writer.write(self._picture)
    self._picture = np.ascontiguousarray(picture[:, :, ::-1])
    self._writer.write(self._picture)
    self.num_frames += self._lost + 1
    self._lost = 0

  def add_lost(self):
    """A frame that does not decode: the last one stands on its place."""
    self._lost += 1

  def _detections(self, results, height, width):
    """What is drawn of results; what is below the threshold is not read."""
    results = [r for r in results if r['score'] >= self._score_threshold]
    boxes = np.array([r['bbox'] for r in results], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = None
    if results and 'segmentation' in results[0]:
      masks = self._masks(results, height, width)
    return detections.Detections(
        boxes[:, [1, 0, 3, 2]],
        np.array([r['score'] for r in results], np.float32),
        np.array([self._labels[r['category_id']] for r in results], np.int32),
        (height, width), masks)

  def _masks(self, results, height, width):
    """Masks, checked: only an earlier run may have left wrong ones."""
    try:
      return rle_masks.RleMasks.from_rles(
          [segmentation.checked_rle(r['segmentation'], height, width)
           for r in results], (height, width))
    except ValueError as e:
      raise errors.InputError(
          f'{self._path}: a mask of an earlier run {e}') from e

  def _open(self, picture):
    height, width = picture.shape[:2]
    self._picture = np.zeros_like(picture)
    with frames.silent_opencv():
      self._writer = cv2.VideoWriter(
          self._path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*'mp4v'),
          self._rate, (width, height))
    if not self._writer.isOpened():
      raise errors.InputError(
          f'{self._path}: a video of {width}x{height} pixels and '
          f'{self._rate:g} frames/s cannot be written here; --max_pictures 0 '
          'draws none')

  def close(self):
    """Writes the end of the file, if it has a beginning."""
    if self._writer is not None:
      self._writer.release()


@contextlib.contextmanager
def written(path: str, rate: float, categories: Sequence[dict[str, Any]],
            score_threshold: float) -> Iterator[AnnotatedVideo]:
  """Yields a video to draw; in the end it is at `path`, whole.

  OpenCV writes even sides: of an odd one the last row or column is cut.

  Args:
    path: NAME.mp4. Without a single frame, nothing is written.
    rate: frames per second.
    categories: {'label', 'id', 'name'} of each class.
    score_threshold: detections below it are not drawn.

  Raises:
    InputError: the file cannot be written.
  """
  # One name, so that a run that goes on writes over what a killed one left;
  # the ending tells OpenCV the format.
  temporary = f'{path}.tmp.mp4'
  video = AnnotatedVideo(temporary, rate, categories, score_threshold)
  try:
    yield video
    video.close()
    if video.num_frames:
      _move(temporary, path, video.num_frames)
  finally:
    video.close()
    with contextlib.suppress(OSError):
      os.remove(temporary)


def _move(temporary, path, num_frames):
  """Moves a video to its place, if it is all there."""
  found = frames.num_announced(temporary)
  if found != num_frames:  # OpenCV does not say so when it writes.
    raise errors.InputError(
        f'{path}: {found} of {num_frames} frames could be written; is there '
        'room on the disk?')
  try:
    os.replace(temporary, path)
  except OSError as e:
    raise errors.InputError(f'{path}: {e.strerror}; expected a file that can '
                            'be written') from e
