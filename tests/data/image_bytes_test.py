import io

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.data import coco_json
from panet_tf.data import image_bytes

H, W = 12, 16
ORIENTATION = 0x0112


def smooth():
  """RGB pixels that survive JPEG, different in every corner."""
  y, x = np.mgrid[:H, :W]
  return np.stack([y * 20, x * 15, 255 - y * 10 - x * 5], -1).astype(np.uint8)


def encode(tmp_path, name, pixels, size=(W, H), **save):
  """Saves, encodes; returns bytes of the file, and what the shard gets."""
  if isinstance(pixels, np.ndarray):
    pixels = Image.fromarray(pixels)
  pixels.save(tmp_path / name, **save)
  width, height = size
  result = image_bytes.encode_image(str(tmp_path), {
      'id': 1, 'file_name': name, 'width': width, 'height': height})
  return (tmp_path / name).read_bytes(), result


def seen(data):
  """Pixels as Model Garden's decoder sees them."""
  return tf.io.decode_image(data, channels=3).numpy()


@pytest.mark.parametrize('name, image_format, pixels', [
    ('a.jpg', 'jpeg', smooth()), ('a.png', 'png', smooth()),
    ('grey.jpg', 'jpeg', smooth()[..., 0])])
def test_plain_images_pass_byte_for_byte(tmp_path, name, image_format, pixels):
  stored, (data, found, height, width) = encode(tmp_path, name, pixels)
  assert data == stored and found == image_format
  assert (height, width) == (H, W)


def test_grey_jpeg_decodes_to_three_equal_channels(tmp_path):
  _, (data, *_) = encode(tmp_path, 'grey.jpg', smooth()[..., 0], quality=95)
  assert np.ptp(seen(data), axis=-1).max() == 0
  assert np.abs(seen(data)[..., 0].astype(int) - smooth()[..., 0]).max() < 8


def test_grey_palette_and_transparent_png_become_rgb(tmp_path):
  rgb = Image.fromarray(smooth())
  alpha = rgb.copy()
  alpha.putalpha(Image.fromarray(smooth()[..., 0]))
  palette = rgb.quantize(16)
  for pixels, expected in (
      (rgb.convert('L'), np.asarray(rgb.convert('L').convert('RGB'))),
      (palette, np.asarray(palette.convert('RGB'))), (alpha, smooth()),
      (rgb.convert('1'), np.asarray(rgb.convert('1').convert('RGB')))):
    _, (data, image_format, _, _) = encode(tmp_path, 'a.png', pixels)
    assert image_format == 'png'
    np.testing.assert_array_equal(seen(data), expected)


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
  pixels = Image.fromarray(smooth()).convert('CMYK')
  _, (data, image_format, _, _) = encode(tmp_path, 'a.jpg', pixels, quality=98)
  assert image_format == 'png'
  assert np.abs(seen(data).astype(int) - smooth()).mean() < 4


def test_16_bits_are_scaled_by_their_full_range(tmp_path):
  grey = np.linspace(0, 65535, H * W).reshape([H, W]).astype(np.uint16)
  for name in 'a.png', 'a.tif':
    _, (data, *_) = encode(tmp_path, name, grey)
    np.testing.assert_array_equal(
        seen(data), np.round(grey / 257)[..., None].repeat(3, -1))


def test_other_formats_become_png(tmp_path):
  for name in 'a.bmp', 'a.tif':
    _, (data, image_format, _, _) = encode(tmp_path, name, smooth())
    assert image_format == 'png'
    np.testing.assert_array_equal(seen(data), smooth())


def turned(orientation):
  exif = Image.Exif()
  exif[ORIENTATION] = orientation
  return {'exif': exif}


@pytest.mark.parametrize('orientation, turn', [
    (3, lambda p: p[::-1, ::-1]), (6, lambda p: p[::-1].swapaxes(0, 1)),
    (8, lambda p: p.swapaxes(0, 1)[::-1])])
def test_exif_rotation_is_applied_where_the_json_has_the_rotated_size(
    tmp_path, orientation, turn):
  upright = turn(smooth())
  size = upright.shape[1::-1]
  for name in 'a.png', 'a.jpg':
    for stated in size, (None, None):
      _, (data, _, height, width) = encode(
          tmp_path, name, smooth(), stated, **turned(orientation))
      assert (width, height) == size
      assert np.abs(seen(data).astype(int) - upright).mean() < 6


@pytest.mark.parametrize('orientation', range(2, 9))
def test_exif_rotation_of_a_tiff_is_applied_once(tmp_path, orientation):
  # What Pillow makes of it in a PNG, whose rotation it leaves to us.
  _, (expected, *size) = encode(
      tmp_path, 'a.png', smooth(), (None, None), **turned(orientation))
  upright = size[2:0:-1]
  for stated in upright, (None, None):
    _, (data, *found) = encode(
        tmp_path, 'a.tif', smooth(), stated, **turned(orientation))
    assert found == size
    np.testing.assert_array_equal(seen(data), seen(expected))
  np.testing.assert_array_equal(
      image_bytes.read_rgb(str(tmp_path / 'a.tif')), seen(expected))


def test_exif_rotation_is_left_where_the_json_has_the_stored_size(tmp_path):
  stored, (data, *size) = encode(tmp_path, 'a.png', smooth(), **turned(6))
  assert data == stored and size[1:] == [H, W]
  np.testing.assert_array_equal(seen(data), smooth())


def test_exif_rotation_of_a_square_is_applied(tmp_path):
  square = smooth()[:, :H]
  _, (data, *_) = encode(tmp_path, 'a.png', square, (H, H), **turned(6))
  np.testing.assert_array_equal(seen(data), square[::-1].swapaxes(0, 1))


def refused(tmp_path, file_name, **fields):
  with pytest.raises(errors.InputError) as e:
    image_bytes.encode_image(
        str(tmp_path), {'id': 77, 'file_name': file_name} | fields)
  assert str(e.value).startswith('image 77: ') and file_name in str(e.value)
  return str(e.value).rsplit(': ', 1)[-1]


def test_unusable_files_are_named_with_a_reason(tmp_path, monkeypatch):
  Image.fromarray(smooth()).save(tmp_path / 'a.png')
  good = (tmp_path / 'a.png').read_bytes()
  (tmp_path / 'cut.png').write_bytes(good[:len(good) // 2])
  (tmp_path / 'text.jpg').write_text('not an image')
  (tmp_path / 'empty.jpg').write_bytes(b'')
  Image.fromarray(smooth()).save(tmp_path / 'a.jpg')
  good = (tmp_path / 'a.jpg').read_bytes()
  (tmp_path / 'cut.jpg').write_bytes(good[:-40])
  for name in 'cut.png', 'cut.jpg', 'text.jpg', 'empty.jpg':
    assert refused(tmp_path, name).startswith('not an image that opens')
  assert refused(tmp_path, 'absent.jpg') == 'No such file or directory'
  assert refused(tmp_path, '../a.png').endswith('out of the image folder')
  assert refused(tmp_path, '/etc/passwd').endswith('out of the image folder')
  assert refused(tmp_path, 'a.png', width=H, height=W) == (
      'size differs from the JSON')
  Image.fromarray(smooth()[..., 0].astype(np.float32)).save(tmp_path / 'f.tif')
  assert refused(tmp_path, 'f.tif') == 'floating-point pixels'
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', H * W // 2 - 1)
  assert 'larger than' in refused(tmp_path, 'a.png')


def jpegs():
  """The ways a JPEG is built: scans, restarts, a small JPEG inside of it."""
  small = io.BytesIO()
  Image.fromarray(smooth()).save(small, 'JPEG')
  pixels = np.random.default_rng(0).integers(0, 256, [40, 48, 3], np.uint8)
  for save in ({}, {'progressive': True}, {'restart_marker_blocks': 2},
               {'subsampling': 0, 'quality': 97},
               {'comment': small.getvalue()}):
    for image in Image.fromarray(pixels), Image.fromarray(pixels[..., 0]):
      stream = io.BytesIO()
      image.save(stream, 'JPEG', **save)
      yield stream.getvalue()


def opens(data):
  """Whether Pillow decodes all pixels."""
  try:
    Image.open(io.BytesIO(data)).load()
    return True
  except image_bytes.IMAGE_ERRORS:
    return False


def test_jpeg_is_refused_where_decoding_all_its_pixels_fails(tmp_path):
  rng = np.random.default_rng(0)
  refusals = 0
  for data in jpegs():
    damaged = [data + b'\0' * 9, data + data]
    damaged += [data[:cut] for cut in rng.integers(2, len(data), 20)]
    damaged += [data[:-cut] for cut in range(1, 5)]
    for at in rng.integers(2, len(data), 20):  # A stretch is missing.
      damaged.append(data[:at] + data[at + rng.integers(1, 200):])
    for at in rng.integers(2, 700, 30):
      damaged.append(data[:at] + bytes([rng.integers(256)]) + data[at + 1:])
    for variant in damaged:
      (tmp_path / 'a.jpg').write_bytes(variant)
      try:
        stored, *_ = image_bytes.encode_image(
            str(tmp_path), {'id': 77, 'file_name': 'a.jpg'})
        assert stored == variant and opens(variant)
      except errors.InputError:
        assert not opens(variant)
        refusals += 1
  assert refusals > 200


def test_no_image_above_178_megapixels_is_read():
  assert 2 * Image.MAX_IMAGE_PIXELS == 178956970


def test_file_in_a_folder_below_is_read(tmp_path):
  (tmp_path / 'x' / 'y').mkdir(parents=True)
  _, (data, *_) = encode(tmp_path, 'x/y/../a.png', smooth())
  np.testing.assert_array_equal(seen(data), smooth())


def masks_of(shape):
  """Empty, full, noise, one pixel in each corner, one block at each border."""
  rng = np.random.default_rng(0)
  yield from (np.zeros(shape, np.uint8), np.ones(shape, np.uint8),
              rng.integers(0, 2, shape, np.uint8),
              np.tri(*shape, dtype=np.uint8),
              np.tri(*shape, k=-shape[1] // 2, dtype=np.uint8))
  for place in np.ndindex(2, 2):
    pixel = np.zeros(shape, np.uint8)
    pixel[tuple(-i for i in place)] = 1
    yield pixel
  for cut in np.s_[:1], np.s_[-1:], np.s_[:, :1], np.s_[:, -1:], np.s_[2:3, 3:]:
    block = np.zeros(shape, np.uint8)
    block[cut] = 1
    yield block


def pasted(crop, top, left, shape):
  """The full mask that a crop stands for."""
  mask = np.zeros(shape, np.uint8)
  pixels = tf.io.decode_png(crop, channels=1)[..., 0].numpy()
  mask[top:top + pixels.shape[0], left:left + pixels.shape[1]] = pixels
  return mask, pixels


@pytest.mark.parametrize('shape', [(1, 1), (5, 7), (8, 8), (13, 17), (3, 64)])
def test_mask_png_and_its_crop_decode_to_0_and_1(shape):
  for mask in masks_of(shape):
    rle = coco_mask.encode(np.asfortranarray(mask))
    png = image_bytes.mask_png(rle)
    np.testing.assert_array_equal(
        tf.io.decode_png(png, channels=1)[..., 0], mask)
    assert image_bytes.mask_rle(png)['counts'] == rle['counts'].decode()
    back, crop = pasted(*image_bytes.crop_png(rle), shape)
    np.testing.assert_array_equal(back, mask)
    # Nothing around the object; of an empty mask one pixel.
    edges = crop[0], crop[-1], crop[:, 0], crop[:, -1]
    assert all(edge.any() for edge in edges) or not mask.any()
    assert mask.any() or crop.shape == (1, 1)


def test_crop_is_found_whatever_the_mask_was_written_as():
  height, width = 20, 30
  polygon = [[8, 3, 17, 4, 12, 11], [25, 15, 29, 15, 29, 19, 25, 19]]
  runs = [100, 0, 67, 7, 0, 5, height * width - 179]
  rle = {'size': [height, width], 'counts': runs}
  for segmentation, box in (polygon, (3, 8)), (rle, (7, 8)):
    given = coco_json.annotation_mask_rle(
        {'segmentation': segmentation}, height, width)
    crop, *corner = image_bytes.crop_png(given)
    back, _ = pasted(crop, *corner, (height, width))
    np.testing.assert_array_equal(back, coco_mask.decode(given))
    assert tuple(corner) == box


def test_crop_of_a_small_object_is_small():
  mask = np.zeros([2000, 3000], np.uint8)
  mask[1200:1210, 2001:2050] = 1
  rle = coco_mask.encode(np.asfortranarray(mask))
  crop, *corner = image_bytes.crop_png(rle)
  assert corner == [1200, 2001] and len(crop) < 120
  assert Image.open(io.BytesIO(crop)).size == (49, 10)
  full = tf.io.decode_png(image_bytes.mask_png(rle), channels=1)
  np.testing.assert_array_equal(full[..., 0], mask)


def test_mask_is_read_from_the_png_of_other_writers():
  mask = np.random.default_rng(1).integers(0, 2, [9, 11], np.uint8)
  expected = coco_mask.encode(np.asfortranarray(mask))['counts'].decode()
  for pixels in mask, mask * 255, mask.astype(bool):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, 'PNG')
    assert image_bytes.mask_rle(stream.getvalue())['counts'] == expected


@pytest.mark.parametrize('name', [
    'rgb.png', 'rgb.jpg', 'grey.jpg', 'grey.png', 'rgb.tif', 'palette.png'])
def test_images_higher_than_a_strip_are_read_whole(tmp_path, name):
  y, x = np.mgrid[:600, :7]
  pixels = np.stack([y % 251, x * 30, y // 3], -1).astype(np.uint8)
  if name.startswith('grey'):
    pixels = pixels[..., 0]
  path = str(tmp_path / name)
  image = Image.fromarray(pixels)
  (image.quantize(16) if name.startswith('palette') else image).save(path)
  with Image.open(path) as stored:
    wanted = np.asarray(stored.convert('RGB'))
  np.testing.assert_array_equal(image_bytes.read_rgb(path), wanted)
