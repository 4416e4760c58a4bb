"""Results in a file as they come, which a run that was killed goes on from.

The first line says what the run was. Then each image has a line, in order:
its COCO results, or why it has none. Lines come in chunks, what the model saw
at a time; the last of a chunk says so, and a chunk without its last line is as
if it were not there. So a run that goes on gives its model what an
uninterrupted one does.
"""

from collections.abc import Iterator, Sequence
import contextlib
import glob
import hashlib
import itertools
import json
import os
import textwrap
from typing import Any, BinaryIO

from panet_tf import errors
from panet_tf import files

PARTIAL = 'predictions.partial.jsonl'  # Beside what is written in the end.
_FORMAT = 'panet predict 1'
_LAST = 'last_of_chunk'

Record = dict[str, Any]


def identity(paths: Sequence[str]) -> list[list[Any]]:
  """What tells files and models from those that lay there before.

  Of each file that `paths` mean, of whatever `open_model` opens those that a
  new one replaces: its path, bytes and time of change.
  """
  found = []
  for path in map(os.path.abspath, paths):
    names = ['', '.index', *(f'/{name}' for name in (
        'checkpoint', '*.index', files.PARAMS, files.DATASET_INFO,
        'saved_model.pb', '*/saved_model.pb'))]
    for name in names:
      for file in sorted(glob.glob(glob.escape(path) + name)):
        if os.path.isfile(file):
          status = os.stat(file)
          found.append([file, status.st_size, status.st_mtime_ns])
  return found


class PartialResults(contextlib.AbstractContextManager['PartialResults']):
  """The file; a context manager.

  Attributes:
    path: of the file.
    num_images: images that an earlier run left results or errors of.
  """

  def __init__(self, path: str, run: dict[str, Any]):
    """Opens the file of a run, or begins it.

    `run` has whatever shapes results, of types that JSON knows, by the name
    that a person knows. InputError if the file is of another, or cannot be
    written.
    """
    self.path, self.num_images, self._ended = path, 0, set()
    header = {'format': _FORMAT, **{
        name: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
        for name, value in run.items()}}
    num_chunks = 0
    with self._writing():
      # What is written goes to the end, wherever it was read.
      self._file = open(path, 'a+b')
      self._file.seek(0)
      line = self._file.readline()
      if line.endswith(b'\n'):
        self._check(line, header)
      else:
        self._file.truncate(0)
        self._write([header])
      self._start = end = self._file.tell()
      for chunk in _chunks(self._file):
        end, num_chunks = self._file.tell(), num_chunks + 1
        self.num_images += sum('image_id' in record for record in chunk)
        self._ended |= {record.get('video') for record in chunk}
      self._file.truncate(end)
    self._stored = itertools.islice(self._read(), num_chunks)

  def __exit__(self, *unused):
    """Closes the file, which stays."""
    self._file.close()

  def _check(self, line, header):
    """Raises InputError unless a first line is this run's."""
    try:
      found = json.loads(line)
      if found['format'] != _FORMAT:
        raise KeyError
    except (ValueError, TypeError, KeyError, RecursionError) as e:
      raise errors.InputError(
          f'{self.path}: is not what `panet predict` keeps of a run; move it '
          'away') from e
    others = [name for name in sorted({*header, *found})
              if found.get(name) != header.get(name)]
    if others:
      raise errors.InputError(
          f'{self.path}: is left of a run that had other '
          f'{", ".join(others)}; repeat that one to go on with it, or delete '
          'the file to begin anew')

  @contextlib.contextmanager
  def _writing(self):
    try:
      yield
    except OSError as e:
      raise errors.InputError(
          f'{self.path}: {e.strerror}; expected a file that can be written'
      ) from e

  def _write(self, lines):
    self._file.write(''.join(
        json.dumps(line, separators=(',', ':')) + '\n' for line in lines
    ).encode('ascii'))
    self._file.flush()

  def append(self, chunk: Sequence[Record]):
    """Writes the results of a chunk; InputError if they cannot be written.

    They are {'image_id', 'results' or 'error'} of each image, or {'video'}, the
    name of a video that has ended.
    """
    with self._writing():
      self._write({**record, _LAST: record is chunk[-1]} for record in chunk)

  def has_ended(self, video: str) -> bool:
    """Whether an earlier run has seen a video's end."""
    return video in self._ended

  def stored(self) -> list[Record] | None:
    """The next chunk of an earlier run; None after the last."""
    return next(self._stored, None)

  def _read(self):
    """Yields the chunks that are in the file."""
    with open(self.path, 'rb') as f:
      f.seek(self._start)
      yield from _chunks(f)

  def finish(self, path: str) -> int:
    """Writes all results as a JSON list, deletes the file, and counts them.

    InputError if `path` cannot be written.
    """
    count = 0
    with files.written_whole(path) as temporary:
      with open(temporary, 'w', encoding='utf-8') as f:  # As `write_json`.
        f.write('[')
        for record in itertools.chain.from_iterable(self._read()):
          for result in record.get('results', ()):
            f.write(',\n' * bool(count) or '\n')
            f.write(textwrap.indent(json.dumps(result, indent=2), '  '))
            count += 1
        f.write('\n]\n' if count else ']\n')
    self._file.close()
    os.remove(self.path)
    return count


def _chunks(file: BinaryIO) -> Iterator[list[Record]]:
  """Yields chunks up to the first line that is torn or broken."""
  chunk = []
  while (line := file.readline()).endswith(b'\n'):
    try:
      record = json.loads(line)
      last = record.pop(_LAST)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
      return
    chunk.append(record)
    if last:
      yield chunk
      chunk = []
