"""The check of images: their stated sizes, and their files, to their end.

Runs in worker processes, so nothing here imports TensorFlow.
"""

import dataclasses
import os

from PIL import ExifTags
from PIL import Image

from panet_tf import errors
from panet_tf.data import image_bytes
from panet_tf.data import parallel
from panet_tf.data import segmentation
from panet_tf.data.doctor import table


@dataclasses.dataclass(frozen=True)
class File:
  """What an image file is."""
  width: int = 0  # upright, pixels
  height: int = 0
  orientation: int = 1  # EXIF's, 1 to 8
  defect: tuple | None = None  # (kind, detail) where it is unusable

  @property
  def sizes(self):
    """The (width, height) that the JSON may state: upright, as stored."""
    stored = self.width, self.height
    return [stored, stored[::-1] if self.orientation >= 5 else stored]


def check(images, segmentations, image_dir=None, num_workers=None):
  """Checks the images that are left; those without a usable size may stay.

  Ids and file names in their Table are checked; segmentations are {image id:
  those of its annotations}. Files are left alone without their folder.
  """
  files = _probed(images, image_dir, num_workers) if image_dir else {}
  for position, entry in list(images.alive()):
    defects = _check_stated(images, position)
    bad = [d for d in defects.values() if d[0] != 'missing-size']
    if position in files:
      _check_file(images, position, files[position], defects,
                  segmentations.get(entry['id'], ()))
    elif bad:
      images.reject(bad[0][0], position, bad[0][1])
    elif defects:
      images.find('missing-size', position, ', '.join(
          detail for _, detail in defects.values()))


def _check_stated(images, position):
  """Defects of `width` and `height`, {field: (kind, detail)}."""
  defects, most = {}, image_bytes.MOST_PIXELS
  for side in ('width', 'height'):
    value = images.entries[position].get(side)
    if isinstance(value, float) and 0 < value < 1e9 and value.is_integer():
      images.repair('bad-size', position, side, int(value),
                    f'{side} is written {value}')
    elif value is None:
      defects[side] = 'missing-size', f'no {side}'
    elif not table.is_finite(value):
      defects[side] = 'nan', f'{side} is {table.brief(value)}'
    elif not (segmentation.is_int(value) and 0 < value <= most):
      defects[side] = 'bad-size', f'{side} is {table.brief(value)}'
  entry = images.entries[position]
  if not defects and entry['width'] * entry['height'] > most:
    detail = f'more than {most} pixels'
    defects = dict.fromkeys(('width', 'height'), ('bad-size', detail))
  return defects


def _check_file(images, position, file, defects, segmentations):
  """Holds the stated size against the file's; `defects` of the former."""
  if file.defect:
    images.reject(file.defect[0], position, file.defect[1])
    return
  actual = {'width': file.width, 'height': file.height}
  for side, (kind, detail) in defects.items():
    images.repair(kind, position, side, actual[side], detail)
  entry = images.entries[position]
  stated = entry['width'], entry['height']
  if file.orientation != 1:
    images.find('exif-rotation', position,
                f'orientation {file.orientation}; the JSON has the size '
                + ('of the upright image' if stated == file.sizes[0]
                   else 'before the rotation'))
  if stated in file.sizes:
    return
  detail = f'{stated[0]}x{stated[1]}, the file is {file.width}x{file.height}'
  # With nothing drawn, or run lengths of the file's size, the file is right.
  if all(isinstance(s, dict) and s.get('size') == [file.height, file.width]
         for s in segmentations):
    for side, value in actual.items():
      if entry[side] != value:
        images.repair('size-mismatch', position, side, value, detail)
  else:
    images.reject('size-mismatch', position, detail)


def _probed(images, image_dir, num_workers):
  """{position: File} of all images that are left."""
  names = {position: entry['file_name'] for position, entry in images.alive()}
  files = parallel.with_progress(
      probe, [(image_dir, name) for name in names.values()], num_workers,
      at_a_time=16)
  return dict(zip(names, files, strict=True))


def probe(image_dir, name):
  """The File of a name, read to its end as the converter would."""
  path = os.path.join(image_dir, name)
  try:
    *_, height, width = image_bytes.encode_image(
        image_dir, {'id': name, 'file_name': name})
  except errors.InputError as e:
    kind = 'unreadable' if os.path.lexists(path) else 'missing'
    return File(defect=(f'image-{kind}',
                        f'{table.brief(name)}: {e.reason}'))
  with Image.open(path) as pixels:
    orientation = (1 if pixels.format == 'TIFF'  # Turned by Pillow itself.
                   else pixels.getexif().get(ExifTags.Base.Orientation, 1))
  return File(width, height,
              orientation if orientation in range(2, 9) else 1)
