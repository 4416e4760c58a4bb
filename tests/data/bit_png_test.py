import io

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf

from panet_tf.data import bit_png


@pytest.mark.parametrize('shape', [(1, 1), (7, 9), (40, 64), (900, 1301)])
def test_a_rectangle_anywhere_decodes_to_0_and_1(shape):
  rng = np.random.default_rng(0)
  for _ in range(5):
    top, stop = np.sort(rng.integers(0, shape[0] + 1, 2))
    left = 8 * rng.integers(0, (shape[1] + 7) // 8)
    pixels = rng.integers(0, 2, [
        stop - top, rng.integers(0, shape[1] - left + 1)], np.uint8)
    expected = np.zeros(shape, np.uint8)
    expected[top:stop, left:left + pixels.shape[1]] = pixels
    png = bit_png.encode(pixels, *shape, int(top), int(left))
    np.testing.assert_array_equal(tf.io.decode_png(png)[..., 0], expected)
    np.testing.assert_array_equal(Image.open(io.BytesIO(png)), expected)


def test_bytes_do_not_depend_on_what_was_written_before():
  pixels = np.ones([3, 5], np.uint8)
  first = bit_png.encode(pixels, 200, 300, 100, 16)
  bit_png.encode(pixels, 200, 300, 90, 16)
  assert bit_png.encode(pixels, 200, 300, 100, 16) == first


def test_size_grows_with_the_object_and_hardly_with_the_image():
  pixels = np.ones([20, 20], np.uint8)
  assert len(bit_png.encode(pixels, 99, 99)) < 200
  assert len(bit_png.encode(pixels, 2000, 2000)) < 700
