"""Images and videos through a detector: decoded ahead, stored as they come.

The model's thread does nothing but detect. Threads read what comes next, and
turn what was found into results and pictures.
"""

import collections
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
import contextlib
import functools
import itertools
import math
import os
import sys
from typing import Any

import tqdm

from panet_tf import errors
from panet_tf.data import parallel
from panet_tf.inference import detector as detector_lib
from panet_tf.prediction import annotated_video
from panet_tf.prediction import frames as frames_lib
from panet_tf.prediction import outputs
from panet_tf.prediction import partial_results

_MOST_THREADS = 8  # Each holds an image.


class PredictionRun(contextlib.AbstractContextManager['PredictionRun']):
  """A run over images and videos, in order; a context manager.

  Attributes:
    num_predicted: images that have results, without those of an earlier run.
    num_stored: images that had results of an earlier run.
    num_failed: images without results.
  """

  def __init__(self, detector: detector_lib.Detector,
               partial: partial_results.PartialResults,
               pictures: Mapping[str, str], progress: tqdm.tqdm, *,
               truth: Callable[[Any, int, int], Any], score_threshold: float,
               batch_size: int, num_ahead: int, strict: bool):
    """Starts the threads.

    Args:
      detector: any.
      partial: where results go, and those of an earlier run are.
      pictures: path of an image or video -> where it is drawn to.
      progress: counts images.
      truth: id, height and width of an image -> what `outputs.draw` takes.
      score_threshold: least score that is drawn.
      batch_size: images that the detector gets at a time.
      num_ahead: images that are decoded ahead of it.
      strict: whether an image that fails stops the run.
    """
    self.num_predicted = self.num_stored = self.num_failed = 0
    self._detector, self._partial = detector, partial
    self._pictures, self._progress, self._truth = pictures, progress, truth
    self._score_threshold, self._strict = score_threshold, strict
    self._batch_size, self._num_ahead = batch_size, num_ahead
    self._names = {c['label']: c['name'] for c in detector.categories}
    self._category_ids = [c['id'] for c in detector.categories]
    threads = min(parallel.num_cores(), _MOST_THREADS)
    # A chunk is stored once it is drawn, so that no picture is ever missing.
    self._most_pending = math.ceil(min(num_ahead, threads) / batch_size)
    self._pending = collections.deque()  # Chunks: (futures, already stored).
    self._readers = futures.ThreadPoolExecutor(threads)
    self._drawers = futures.ThreadPoolExecutor(threads)

  def __exit__(self, *unused):
    for pool in self._readers, self._drawers:
      pool.shutdown(cancel_futures=True)

  def images(self, images: Iterable[tuple[str, Any]]):
    """Predicts image files, a path and an image id each.

    InputError if one fails, if strict; or if a file cannot be written.
    """
    new = itertools.dropwhile(
        lambda chunk: self._stored([image_id for _, image_id in chunk]),
        frames_lib.chunks(images, self._batch_size))
    read = frames_lib.read_images(
        itertools.chain.from_iterable(new), self._readers, self._num_ahead)
    for chunk in frames_lib.chunks(read, self._batch_size):
      self._predict(chunk, self._drawers, self._draw_image)
    self._store(0)

  def video(self, path: str):
    """Predicts the frames of a file; InputError as `images`."""
    name = os.path.basename(path)
    if self._partial.has_ended(name):
      while (chunk := self._stored()) and 'video' not in chunk[-1]:
        pass
      return
    with contextlib.ExitStack() as stack:
      try:
        video = stack.enter_context(frames_lib.Video(path))
      except errors.InputError as e:
        self._append([{'image_id': name, 'error': str(e)}, {'video': name}])
        return
      drawn = stack.enter_context(annotated_video.AnnotatedVideo(
          self._pictures[path], video.rate, self._detector.categories,
          self._score_threshold)) if path in self._pictures else None
      # One thread, as one frame comes after the other.
      pool = stack.enter_context(futures.ThreadPoolExecutor(1))
      for chunk in frames_lib.chunks(
          video.frames(self._num_ahead), self._batch_size):
        stored = self._stored([frame.image_id for frame in chunk])
        if stored is None:
          self._predict(chunk, pool, functools.partial(_draw_frame, drawn))
        else:
          self._queue([pool.submit(_draw_frame, drawn, frame, None, record)
                       for frame, record in zip(chunk, stored, strict=True)],
                      True)
      self._store(0)
    self._append([{'video': name}])

  def _stored(self, image_ids=None):
    """The next chunk of an earlier run, which must be of these images."""
    chunk = self._partial.stored()
    if chunk is None:
      return None
    if image_ids and image_ids != [r.get('image_id') for r in chunk]:
      raise errors.InputError(
          f'{self._partial.path}: {chunk[0].get("image_id")} was predicted '
          f'where {image_ids[0]} is now; delete the file to begin anew')
    for record in chunk:
      self.num_stored += 'results' in record
      if 'error' in record:
        self._failed(record['error'] + self._strict * (
            f'; in an earlier run without --strict: delete '
            f'{self._partial.path} to begin anew'))
    return chunk

  def _failed(self, line):
    if self._strict:
      raise errors.InputError(line)
    self.num_failed += 1
    tqdm.tqdm.write(f'error: {line}', sys.stderr)

  def _predict(self, chunk, pool, draw):
    """Detects in a chunk; its results and pictures follow in the pool."""
    self._queue([pool.submit(self._finish, frame, found, draw)
                 for frame, found in zip(
                     chunk, self._detect(chunk), strict=True)], False)

  def _detect(self, chunk):
    """Detections of each frame, or the line that says why it has none."""
    whole = [frame.pixels for frame in chunk if not frame.error]
    try:
      found = iter(self._detector.detect_many(whole) if whole else ())
    except (errors.InputError, OSError) as e:  # An image's, not the run's.
      if len(chunk) == 1:
        return [f'{chunk[0].path}: {e}']
      return [one for frame in chunk for one in self._detect([frame])]
    return [frame.error or next(found) for frame in chunk]

  def _finish(self, frame, found, draw):
    """In a thread: what is stored of an image, drawn."""
    if isinstance(found, str):
      record = {'image_id': frame.image_id, 'error': found}
    else:
      record = {'image_id': frame.image_id, 'results': found.to_coco(
          frame.image_id, self._category_ids)}
    draw(frame, found, record)
    return record

  def _draw_image(self, frame, found, record):
    if 'results' in record and frame.path in self._pictures:
      outputs.draw(frame.pixels, found, self._names, self._score_threshold,
                   self._pictures[frame.path],
                   self._truth(frame.image_id, *frame.pixels.shape[:2]))

  def _queue(self, tasks, is_stored):
    self._pending.append((tasks, is_stored))
    self._store(self._most_pending)

  def _store(self, most_pending):
    """Stores the oldest chunks, until no more than so many are pending."""
    while len(self._pending) > most_pending:
      done, is_stored = self._pending.popleft()
      chunk = [future.result() for future in done]
      if not is_stored:
        self._append(chunk)

  def _append(self, chunk):
    for record in chunk:
      if 'error' in record:
        self._failed(record['error'])
    self._partial.append(chunk)
    self.num_predicted += sum('results' in record for record in chunk)
    self._progress.update(sum('image_id' in record for record in chunk))


def _draw_frame(video, frame, unused_found, record):
  """Draws a frame of a video, if that is drawn."""
  if video is not None:
    video.add(frame.pixels, record.get('results', ()))
