"""Images and masks as bytes that TensorFlow decodes to what was meant."""

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image
from PIL import ImageOps
from pycocotools import mask as coco_mask

from panet_tf.dataloaders import segmentation
from panet_tf.errors import InputError

_EXIF_ORIENTATION = 0x0112
_PNG_BIT_DEPTH_AT = 24
# Whatever Pillow's readers raise on a damaged file.
_IMAGE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error,
                 IndexError, KeyError, TypeError, zlib.error)


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
    (bytes, 'jpeg' or 'png', height, width).

  Raises:
    InputError: the message ends in ': ' and a reason that names nothing.
  """
  path = os.path.join(image_dir, image['file_name'])
  where = f'image {image["id"]!r}: {path}'
  if os.path.relpath(path, image_dir).split(os.sep)[0] == os.pardir:
    raise InputError(f'{where}: file name leads out of the image folder')
  try:
    with open(path, 'rb') as f:
      data = f.read()
  except (OSError, ValueError) as e:
    raise InputError(f'{where}: {getattr(e, "strerror", e)}') from e
  try:
    with Image.open(io.BytesIO(data)) as pixels:
      return _encoded(data, pixels, image, where)
  except Image.DecompressionBombError as e:
    raise InputError(f'{where}: larger than '
                     f'{2 * Image.MAX_IMAGE_PIXELS} pixels') from e
  except InputError:
    raise
  except _IMAGE_ERRORS as e:
    raise InputError(f'{where}: not an image that opens, or cut off') from e


def _encoded(data, pixels, image, where):
  """`encode_image` for an open Pillow image."""
  orientation = pixels.getexif().get(_EXIF_ORIENTATION, 1)
  raw_size = pixels.size
  size = raw_size[::-1] if orientation in (5, 6, 7, 8) else raw_size
  rotate = orientation in range(2, 9)
  if not _fits(size, image):
    size, rotate = raw_size, False
  if not _fits(size, image):
    raise InputError(
        f'{where}: the file has width x height {size[0]}x{size[1]}, the JSON '
        f'says {image.get("width")}x{image.get("height")}: size differs from '
        'the JSON')
  deep = pixels.format == 'PNG' and data[_PNG_BIT_DEPTH_AT] == 16
  plain = ('JPEG', 'RGB'), ('JPEG', 'L'), ('PNG', 'RGB')
  if (pixels.format, pixels.mode) in plain and not deep and not rotate:
    # Read to the end, for a file that is cut off; of a JPEG every 8th pixel.
    pixels.draft('L', (1, 1))
    pixels.load()
    return data, pixels.format.lower(), size[1], size[0]
  if rotate:
    pixels = ImageOps.exif_transpose(pixels)
  stream = io.BytesIO()
  _to_rgb(pixels, where).save(stream, format='PNG')
  return stream.getvalue(), 'png', size[1], size[0]


def _fits(size, image):
  """Whether (width, height) is what the JSON says, where it says anything."""
  return all(image.get(name) in (None, side)
             for name, side in zip(('width', 'height'), size))


def _to_rgb(pixels, where):
  """8-bit RGB; 16-bit grey is scaled by its full range, 65535 to 255."""
  if pixels.mode == 'F':
    raise InputError(f'{where}: floating-point pixels')
  if pixels.mode.startswith('I'):
    grey = np.clip(np.asarray(pixels).astype(np.int64), 0, 65535)
    pixels = Image.fromarray(((grey + 128) // 257).astype(np.uint8))
  # A new image: nothing of the old one (EXIF, colour key) is saved along.
  return Image.fromarray(np.asarray(pixels.convert('RGB')))


def mask_png(rle):
  """A mask as a full-size PNG whose pixels decode to 0 and 1.

  One bit per pixel with the palette {0: 0, 1: 1}: `tf.io.decode_png` gives
  the 0 and 1 that Model Garden expects (one-bit grey would give 255), and both
  writing and decoding take less time than with eight bits.

  Args:
    rle: {'size': [height, width], 'counts': compressed string}.

  Returns:
    PNG bytes.
  """
  height, width = rle['size']
  first, columns = segmentation.byte_columns(rle)
  packed = np.packbits(columns, axis=1)
  scanlines = np.zeros([height, 1 + (width + 7) // 8], np.uint8)
  start = 1 + first // 8  # Each scanline begins with its filter, 0.
  scanlines[:, start:start + packed.shape[1]] = packed
  deflate = zlib.compressobj(1, strategy=zlib.Z_RLE)
  return b''.join((
      b'\x89PNG\r\n\x1a\n',
      _chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 1, 3, 0, 0, 0)),
      _chunk(b'PLTE', bytes([0, 0, 0, 1, 1, 1])),
      _chunk(b'IDAT', deflate.compress(scanlines) + deflate.flush()),
      _chunk(b'IEND', b'')))


def _chunk(kind, data):
  return b''.join((struct.pack('>I', len(data)), kind, data,
                   struct.pack('>I', zlib.crc32(kind + data))))


def mask_rle(png):
  """Inverse of `mask_png`, for any PNG whose background is 0."""
  with Image.open(io.BytesIO(png)) as pixels:
    rle = coco_mask.encode(np.asfortranarray(np.asarray(pixels) != 0, np.uint8))
  return {'size': rle['size'], 'counts': rle['counts'].decode('ascii')}


def read_rgb(path):
  """An image file as upright 8-bit RGB pixels, [height, width, 3] uint8.

  Raises:
    InputError: naming the file, if it does not open or is too large.
  """
  folder, name = os.path.split(path)
  data, *_ = encode_image(folder or os.curdir, {'id': name, 'file_name': name})
  with Image.open(io.BytesIO(data)) as pixels:
    return np.asarray(pixels.convert('RGB'))
