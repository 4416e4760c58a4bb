"""A video with what was found drawn on every frame."""

from collections.abc import Sequence
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


class AnnotatedVideo(contextlib.AbstractContextManager['AnnotatedVideo']):
  """Frames drawn into an MP4 file; a context manager: whole, or not at all.

  OpenCV writes even sides: of an odd one the last row or column is cut.
  """

  def __init__(self, path: str, rate: float,
               categories: Sequence[dict[str, Any]], score_threshold: float):
    """Writes nothing yet.

    Args:
      path: NAME.mp4. Without a single frame, nothing is written.
      rate: frames per second.
      categories: {'label', 'id', 'name'} of each class.
      score_threshold: detections below it are not drawn.
    """
    # One name, so that a run that goes on writes over what a killed one left;
    # the ending tells OpenCV the format.
    self._path, self._temporary, self._rate = path, f'{path}.tmp.mp4', rate
    self._labels = {c['id']: c['label'] for c in categories}
    self._names = {c['label']: c['name'] for c in categories}
    self._score_threshold = score_threshold
    self._writer: cv2.VideoWriter | None = None
    self._picture = np.zeros([0, 0, 3], np.uint8)
    self._lost = self._num_frames = 0

  def add(self, pixels: np.ndarray | None, results: Sequence[dict[str, Any]]):
    """Draws the next frame, [H, W, 3] uint8, RGB, or None if it is lost.

    On the place of a lost one the last one stands. COCO results of a frame are
    all that a run that goes on has of those before, which must look the same.
    InputError if the video cannot be written, or a mask is not of this frame.
    """
    if pixels is None:
      self._lost += 1
      return
    picture = pictures.draw_detections(
        pixels, self._detections(results, *pixels.shape[:2]), self._names,
        self._score_threshold)
    writer = self._writer = self._writer or self._open(picture)
    height, width = self._picture.shape[:2]
    if picture.shape != self._picture.shape:  # It would be dropped silently.
      picture = cv2.resize(picture, (width, height))
    for _ in range(self._lost):
      writer.write(self._picture)
    self._picture = np.ascontiguousarray(picture[:, :, ::-1])
    writer.write(self._picture)
    self._num_frames += self._lost + 1
    self._lost = 0

  def _detections(self, results, height, width):
    """What is drawn of results; what is below the threshold is not read."""
    results = [r for r in results if r['score'] >= self._score_threshold]
    boxes = np.array([r['bbox'] for r in results], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = (self._masks(results, height, width)
             if results and 'segmentation' in results[0] else None)
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
          f'{self._temporary}: a mask of an earlier run {e}') from e

  def _open(self, picture):
    height, width = picture.shape[:2]
    self._picture = np.zeros_like(picture)
    with frames.silent_opencv():
      writer = cv2.VideoWriter(
          self._temporary, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*'mp4v'),
          self._rate, (width, height))
    if not writer.isOpened():
      raise errors.InputError(
          f'{self._temporary}: a video of {width}x{height} pixels and '
          f'{self._rate:g} frames/s cannot be written here; --max_pictures 0 '
          'draws none')
    return writer

  def __exit__(self, kind, *unused):
    """Moves the video to its place, if nothing failed and it is all there."""
    try:
      if self._writer is not None:
        self._writer.release()
        if kind is None:
          self._move()
    finally:
      with contextlib.suppress(OSError):
        os.remove(self._temporary)

  def _move(self):
    found = frames.num_announced(self._temporary)
    if found != self._num_frames:  # OpenCV does not say so when it writes.
      raise errors.InputError(
          f'{self._path}: {found} of {self._num_frames} frames could be '
          'written; is there room on the disk?')
    try:
      os.replace(self._temporary, self._path)
    except OSError as e:
      raise errors.InputError(f'{self._path}: {e.strerror}; expected a file '
                              'that can be written') from e
