"""Images and masks as bytes that TensorFlow decodes to what was meant."""

import functools
import io
import os
import re
import struct
import zlib

import numpy as np
from PIL import ExifTags
from PIL import Image
from PIL import ImageOps
from pycocotools import mask as coco_mask

from panet_tf import errors
from panet_tf.data import bit_png
from panet_tf.data import segmentation
from panet_tf.structures import run_lengths

# Where Pillow takes an image for an attack.
MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)
_PNG_BIT_DEPTH_AT = 24
_STRIP_HEIGHT = 256  # Pixels.
# Not a stuffed 0xff, a restart or a fill byte: these are part of a scan.
_JPEG_MARKER = re.compile(rb'\xff[^\x00\xd0-\xd7\xff]')
# Whatever Pillow's readers raise on a damaged file.
IMAGE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error,
                IndexError, KeyError, TypeError, zlib.error)


def check_folder(image_dir):
  """Raises InputError unless there is such a folder."""
  if not os.path.isdir(image_dir):
    raise errors.InputError(
        f'{image_dir}: should be the folder with the images')


def encode_image(image_dir, image):
  """Bytes that every decoder turns into the same upright 8-bit RGB pixels.

  RGB JPEG and PNG files pass byte for byte (and grey JPEG, which decoders
  spread over three channels); anything else becomes an RGB PNG. TensorFlow
  ignores EXIF, so a rotation is applied here, unless the JSON's size says that
  the annotations were drawn on the unrotated pixels.

  Args:
    image_dir: folder that `file_name` is relative to.
    image: COCO image; `height` and `width` are checked if present.

  Returns:
    (bytes, 'jpeg' or 'png', height, width), or InputError, whose `reason` names
    nothing.
  """
  path = os.path.join(image_dir, image['file_name'])
  where = f'image {image["id"]!r}: {path}'
  if os.path.relpath(path, image_dir).split(os.sep)[0] == os.pardir:
    raise errors.InputError.at(where, 'file name leads out of the image folder')
  try:
    with open(path, 'rb') as f:
      data = f.read()
  except (OSError, ValueError) as e:
    raise errors.InputError.at(where, str(getattr(e, 'strerror', e))) from e
  try:
    with Image.open(io.BytesIO(data)) as pixels:
      return _encoded(data, pixels, image, where)
  except errors.InputError:
    raise
  except Image.DecompressionBombError as e:
    raise errors.InputError.at(
        where, f'larger than {MOST_PIXELS} pixels') from e
  except IMAGE_ERRORS as e:
    raise errors.InputError.at(
        where, 'not an image that opens, or cut off') from e


def _encoded(data, pixels, image, where):
  """`encode_image` for an open Pillow image."""
  if pixels.format == 'TIFF':  # Pillow itself turns it, when it is loaded.
    ImageOps.exif_transpose(pixels, in_place=True)
  orientation = pixels.getexif().get(ExifTags.Base.Orientation, 1)
  raw_size = pixels.size
  size = raw_size[::-1] if orientation in (5, 6, 7, 8) else raw_size
  rotate = orientation in range(2, 9)
  if not _fits(size, image):
    size, rotate = raw_size, False
  if not _fits(size, image):
    raise errors.InputError.at(
        f'{where}: the file has width x height {size[0]}x{size[1]}, the JSON '
        f'says {image.get("width")}x{image.get("height")}',
        'size differs from the JSON')
  deep = pixels.format == 'PNG' and data[_PNG_BIT_DEPTH_AT] == 16
  plain = ('JPEG', 'RGB'), ('JPEG', 'L'), ('PNG', 'RGB')
  if (pixels.format, pixels.mode) in plain and not deep and not rotate:
    _check_complete(data, pixels)
    return data, pixels.format.lower(), size[1], size[0]
  if rotate:
    pixels = ImageOps.exif_transpose(pixels)
  stream = io.BytesIO()
  _to_rgb(pixels, where).save(stream, format='PNG')
  return stream.getvalue(), 'png', size[1], size[0]


def _check_complete(data, pixels):
  """Raises one of IMAGE_ERRORS for a file that is cut off or undecodable.

  Decoding every JPEG would take most of a conversion's time. Where the markers
  lead to the end, the decoder is shown no pixels but all headers: of damage in
  between it would only warn.
  """
  if pixels.format != 'JPEG':
    pixels.load()
    return
  with Image.open(io.BytesIO(_without_scans(data) or data)) as eighth:
    eighth.draft('L', (1, 1))
    eighth.load()


def _without_scans(data):
  """A JPEG less its entropy-coded pixels; None where its end is missing."""
  kept, start, at = [], 0, 2
  while (marker := data[at:at + 2]) != b'\xff\xd9':  # End of image.
    if marker[:1] != b'\xff':
      return None
    at += 2 + int.from_bytes(data[at + 2:at + 4], 'big')
    if marker == b'\xff\xda':  # Start of scan: pixels up to the next marker.
      kept.append(data[start:at])
      found = _JPEG_MARKER.search(data, at)
      if not found:
        return None
      start = at = found.start()
  return b''.join(kept) + data[start:at + 2]


def _fits(size, image):
  """Whether (width, height) is what the JSON says, where it says anything."""
  return all(image.get(name) in (None, side)
             for name, side in zip(('width', 'height'), size, strict=True))


def _to_rgb(pixels, where):
  """8-bit RGB; 16-bit grey is scaled by its full range, 65535 to 255."""
  if pixels.mode == 'F':
    raise errors.InputError.at(where, 'floating-point pixels')
  if pixels.mode.startswith('I'):
    grey = np.clip(np.asarray(pixels).astype(np.int64), 0, 65535)
    pixels = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
  # A new image: nothing of the old one (EXIF, colour key) is saved along.
  rgb = Image.new('RGB', pixels.size)
  for top, strip in _rgb_strips(pixels):
    rgb.paste(strip, (0, top))
  return rgb


def mask_png(rle):
  """A mask (compressed RLE) as a full-size PNG whose pixels are 0 and 1."""
  height, width = rle['size']
  top, left, pixels = _cut(height, rle['counts'])
  return bit_png.encode(pixels, height, width, top, left)


def crop_png(rle):
  """A mask cut to its bounding box: (PNG like `mask_png`, top, left in pixels).

  Decoding it takes time by the object, not by the image. Of an empty mask it is
  one pixel of 0 at 0, 0.
  """
  top, left, pixels = _cut(rle['size'][0], rle['counts'])
  if not pixels.size:
    pixels = np.zeros([1, 1], np.uint8)
  columns = np.flatnonzero(pixels.any(axis=0)).tolist() or [0]
  pixels = pixels[:, columns[0]:columns[-1] + 1]
  return bit_png.encode(pixels, *pixels.shape), top, left + columns[0]


@functools.lru_cache(maxsize=1)  # For the mask, then for its crop.
def _cut(height, counts):
  """(top, left, pixels) of an object; left is a multiple of 8.

  Pixels are [height, width] of 0 and 1, cut to the object's rows.
  """
  left, columns = run_lengths.byte_columns(
      {'size': [height], 'counts': counts})
  rows = np.flatnonzero(columns.any(axis=1))
  if not rows.size:
    return 0, 0, np.zeros([0, 0], np.uint8)
  pixels = np.ascontiguousarray(columns[rows[0]:rows[-1] + 1])
  return int(rows[0]), int(left), pixels


def mask_rle(png):
  """Inverse of `mask_png`, for any PNG whose background is 0."""
  with Image.open(io.BytesIO(png)) as pixels:
    return segmentation.as_json(coco_mask.encode(
        np.asfortranarray(np.asarray(pixels) != 0, np.uint8)))


def read_rgb(path):
  """An image file, upright, as [height, width, 3] uint8 RGB, or InputError."""
  return decode_rgb(upright_file(path))


def upright_file(path):
  """An image file as bytes that every decoder sees upright, see `read_rgb`."""
  folder, name = os.path.split(path)
  data, *_ = encode_image(folder or os.curdir, {'id': name, 'file_name': name})
  return data


def decode_rgb(data):
  """Bytes of `encode_image`, as [height, width, 3] uint8."""
  with Image.open(io.BytesIO(data)) as pixels:
    rgb = np.empty([pixels.height, pixels.width, 3], np.uint8)
    for top, strip in _rgb_strips(pixels):
      rgb[top:top + strip.height] = np.asarray(strip)
  return rgb


def _rgb_strips(pixels):
  """An image in RGB, as (first row, rows of it).

  Pillow's ways to another mode and to an array copy an image several times; of
  one of 10,000 x 10,000 pixels that is more than the model takes.
  """
  for top in range(0, pixels.height, _STRIP_HEIGHT):
    below = min(top + _STRIP_HEIGHT, pixels.height)
    yield top, pixels.crop((0, top, pixels.width, below)).convert('RGB')
