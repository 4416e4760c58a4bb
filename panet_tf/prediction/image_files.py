"""Which images and videos are predicted, under which ids, and what is drawn."""

import collections
from collections.abc import Iterable, Sequence
import glob
import os
import pathlib
from typing import Any

from panet_tf import errors

PREDICTIONS = 'predictions.json'  # Beside the pictures.
_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp')
_VIDEO_ENDINGS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')


def is_video(path: str) -> bool:
  """Whether a file's name is that of a video."""
  return path.lower().endswith(_VIDEO_ENDINGS)


def image_paths(images: str | Sequence[str], flag: str = '--images',
                videos: bool = False) -> list[str]:
  """Images of folders, globs and single files, each file once.

  They keep the order of `images`, those of a folder or glob that of their
  names.

  Args:
    images: folders, globs or files, one or several; InputError for one that
      matches none.
    flag: that they come from, for the message.
    videos: whether folders give their videos, too.
  """
  found = {}
  for pattern in [images] if isinstance(images, str) else images:
    for path in _matches(pattern, flag, videos):
      found.setdefault(os.path.abspath(path), path)
  return list(found.values())


def _matches(pattern, flag, videos):
  """What one folder, glob or file gives, sorted."""
  endings = _ENDINGS + _VIDEO_ENDINGS * videos
  if os.path.isdir(pattern):
    found = [os.path.join(pattern, name) for name in os.listdir(pattern)
             if name.lower().endswith(endings)]
  elif os.path.isfile(pattern):  # Its name may have brackets.
    found = [pattern]
  else:
    found = [path for path in glob.glob(pattern) if os.path.isfile(path)]
  if not found:
    raise errors.InputError(
        f'{flag} {pattern!r} matches no image; it must be a folder with '
        f'images ({", ".join(endings)}), a file or a quoted glob')
  return sorted(found)


def picture_paths(paths: list[str], output_dir: str,
                  others: Iterable[str] = ()) -> dict[str, str]:
  """Where the picture of each image or video goes in a folder.

  NAME.png, or NAME.jpg.png where that might be another image's, too; of a video
  NAME.mp4 or NAME.avi.mp4. `others` go there, too, beside PREDICTIONS.

  Raises:
    InputError: a file that is written might replace an image, even one that is
      not predicted, or stands where a folder is; or two images have one file
      name, which pictures and results go by.
  """
  seen = {}
  for path in paths:
    other = seen.setdefault(os.path.basename(path), path)
    if other != path:
      raise errors.InputError(
          f'images {other} and {path} have the same file name; predict one '
          'folder at a time, each with its own --output_dir')
  folders = {os.path.realpath(os.path.dirname(path)) for path in paths}
  folders |= {os.path.dirname(os.path.realpath(path)) for path in paths}
  if os.path.realpath(output_dir) in folders:
    raise errors.InputError(
        f'--output_dir {output_dir} holds the images, which pictures might '
        'replace; it should be another folder')
  pictures = {
      path: os.path.join(output_dir, name)
      for kind, ending in ((False, '.png'), (True, '.mp4'))
      for path, name in _named(
          [p for p in paths if is_video(p) == kind], ending).items()}
  for path in (*pictures.values(), *(
      os.path.join(output_dir, name) for name in (PREDICTIONS, *others))):
    if os.path.isdir(path):
      raise errors.InputError(f'{path}: is a folder; a file should go there')
  return pictures


def _named(paths, ending):
  """A file name for each path, no two the same."""
  names = [os.path.basename(path) for path in paths]
  stems = [os.path.splitext(name)[0] for name in names]
  taken = collections.Counter(stems + names)
  return {path: (stem if taken[stem] == 1 else name) + ending
          for path, name, stem in zip(paths, names, stems, strict=True)}


def image_ids(paths: list[str], annotations: str = '',
              images: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
  """The image id of each path.

  Args:
    paths: of images.
    annotations: COCO JSON that gives each file name its id, the one with most
      folders in common where several end alike; '' takes the file name as id.
    images: of the COCO JSON.

  Raises:
    InputError: an image that the JSON does not have, or twice; or a video.
  """
  if not annotations:
    return {path: os.path.basename(path) for path in paths}
  known = collections.defaultdict(list)
  for image in images:
    known[os.path.basename(image['file_name'])].append(image)
  for path in filter(is_video, paths):
    raise errors.InputError(
        f'{path}: --annotations {annotations} has no ids for the frames of a '
        'video; predict videos in a run without --annotations')
  return {
      path: _image_of(path, known[os.path.basename(path)], annotations)['id']
      for path in paths}


def _image_of(path, candidates, annotations):
  """The image whose file name shares most folders with the path."""
  def shared(image):
    return len(os.path.commonprefix([
        pathlib.PurePath(name).parts[::-1]
        for name in (os.path.abspath(path), image['file_name'])]))

  *others, best = sorted(candidates, key=shared) or [None]
  if not best:
    raise errors.InputError(
        f'image {path} is not among the file names of {annotations}')
  if others and shared(others[-1]) == shared(best):
    raise errors.InputError(
        f'image {path} may be {others[-1]["file_name"]} or '
        f'{best["file_name"]} of {annotations}; --images should have the '
        'folders that tell them apart')
  return best
