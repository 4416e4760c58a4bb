"""PNG of a mask, written in the time that its object takes, not its image.

One bit per pixel with the palette {0: 0, 1: 1}: `tf.io.decode_png` gives the 0
and 1 that Model Garden expects (one-bit grey would give 255), in less time than
from eight bits. An image library would compress all of the background for each
of its objects anew; here it comes out of a cache.
"""

import functools
import struct
import zlib

import numpy as np


def encode(pixels, height, width, top=0, left=0):
  """PNG of an image of so many pixels that is 0 outside of one rectangle.

  The rectangle, [rows, columns] uint8 of 0 and 1, may be empty; it begins at
  row `top` and at column `left`, a multiple of 8.
  """
  packed = np.packbits(pixels, axis=1)
  # Each line begins with its filter, 0.
  lines = np.zeros([len(pixels), 1 + (width + 7) // 8], np.uint8)
  start = 1 + left // 8
  lines[:, start:start + packed.shape[1]] = packed
  below = height - top - len(pixels)
  header = struct.pack('>IIBBBBB', width, height, 1, 3, 0, 0, 0)
  stream = _zlib_stream(top * lines.shape[1], lines, below * lines.shape[1])
  return b''.join((b'\x89PNG\r\n\x1a\n', _chunk(b'IHDR', header), _PALETTE,
                   _chunk(b'IDAT', stream), _END))


def _chunk(kind, data):
  return b''.join((struct.pack('>I', len(data)), kind, data,
                   struct.pack('>I', zlib.crc32(data, zlib.crc32(kind)))))


_PALETTE = _chunk(b'PLTE', bytes([0, 0, 0, 1, 1, 1]))
_END = _chunk(b'IEND', b'')


def _zlib_stream(before, data, after):
  """`data` between so many bytes of 0, compressed (RFC 1950)."""
  checksum = zlib.adler32(data, _adler32_of_zeros(before, 1))
  return b''.join((
      b'\x78\x01', _deflated_zeros(before), _deflated(data),
      _deflated_zeros(after), b'\x03\x00',  # An empty block, the last one.
      struct.pack('>I', _adler32_of_zeros(after, checksum))))


def _adler32_of_zeros(count, checksum):
  """`zlib.adler32(bytes(count), checksum)`."""
  high, low = checksum >> 16, checksum & 0xffff
  return (high + count * low) % 65521 << 16 | low


@functools.lru_cache(maxsize=1 << 14)
def _deflated_zeros(count):
  return _deflated(bytes(count)) if count else b''


def _deflated(data):
  """Whole bytes of a deflate stream, which others may follow."""
  deflate = zlib.compressobj(1, wbits=-15, strategy=zlib.Z_RLE)
  return deflate.compress(data) + deflate.flush(zlib.Z_FULL_FLUSH)
