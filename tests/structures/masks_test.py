"""Every form of masks says the same of the same masks."""

import numpy as np
import pytest

from panet_tf.structures import box_masks
from panet_tf.structures import mask_windows
from panet_tf.structures import rle_masks

_SIZE = (37, 53)
_FORMS = ['probabilities', 'legacy', 'images', 'windows', 'rles']
_INDICES = [slice(1, 4), slice(None, None, -2), [3, 0], [], np.array([2, 2]),
            np.arange(5) % 2 == 0, 4, -1]


def _of_boxes(legacy=False):
  """Five masks: whole, beyond the image, of no area, small, at random."""
  rng = np.random.default_rng(5)
  boxes = np.float32([[2, 3, 20, 30], [-9, 30, 25, 70], [5, 5, 5, 9],
                      [7.2, 8.9, 9.1, 11.4], [0, 0, 37, 53]])
  cells = rng.random([5, 28, 28]).astype(np.float32)
  cells[0] = 1
  return box_masks.BoxMasks(cells, boxes, _SIZE, legacy)


def _of_form(form):
  masks = _of_boxes(form == 'legacy')
  return {
      'images': lambda: mask_windows.of_images(masks.images()),
      'windows': masks.windows,
      'rles': lambda: rle_masks.RleMasks.from_rles(masks.rles(), _SIZE),
  }.get(form, lambda: masks)()


@pytest.mark.parametrize('form', _FORMS)
def test_all_forms_agree_on_images_windows_and_rles(form):
  wanted, found = _of_boxes(form == 'legacy'), _of_form(form)
  assert len(found) == 5 and found.image_size == _SIZE
  pixels = wanted.images()
  assert pixels.shape == (5, *_SIZE) and pixels.dtype == bool
  assert pixels.any((1, 2)).tolist() == [True, True, form == 'legacy', True,
                                         True]
  np.testing.assert_array_equal(found.images(), pixels)
  windows = found.windows()
  assert isinstance(windows, mask_windows.MaskWindows)
  np.testing.assert_array_equal(windows.images(), pixels)
  assert found.rles() == wanted.rles() == windows.rles()
  assert [rle['size'] for rle in found.rles()] == [list(_SIZE)] * 5


def test_legacy_masks_are_pasted_otherwise():
  assert (_of_boxes(True).images() != _of_boxes(False).images()).any()


@pytest.mark.parametrize('index', _INDICES, ids=str)
@pytest.mark.parametrize('form', _FORMS)
def test_an_index_chooses_masks_in_their_form(form, index):
  masks = _of_form(form)
  chosen = masks[index]
  assert type(chosen) is type(masks) and chosen.image_size == _SIZE
  np.testing.assert_array_equal(
      chosen.images(), masks.images()[index].reshape(-1, *_SIZE))
  assert len(chosen) == len(chosen.images()) == len(chosen.rles())


@pytest.mark.parametrize('form', _FORMS)
def test_an_index_that_does_not_fit_is_refused(form):
  for index in (5, [5], np.ones(4, bool)):
    with pytest.raises(IndexError):
      _of_form(form)[index]


def test_parts_of_any_form_are_joined_in_their_order():
  masks = [_of_form(form) for form in _FORMS]
  joined = mask_windows.MaskWindows.concatenate(
      [one[number:number + 1] for number, one in enumerate(masks)])
  np.testing.assert_array_equal(joined.images(), np.array(
      [one.images()[number] for number, one in enumerate(masks)]))


@pytest.mark.parametrize('sizes', [[], [(9, 9), (9, 8)]])
def test_parts_that_are_not_of_one_image_are_refused(sizes):
  parts = [mask_windows.of_images(np.zeros([1, *size], bool)) for size in sizes]
  with pytest.raises(ValueError, match='they must be of one image'):
    mask_windows.MaskWindows.concatenate(parts)


def test_arrays_of_another_shape_are_refused():
  for made, message in (
      (lambda: box_masks.BoxMasks(np.zeros([2, 9]), np.zeros([2, 4]), _SIZE),
       r'\(2, 9\), not \[N, M, M\]'),
      (lambda: box_masks.BoxMasks(
          np.zeros([3, 9, 9]), np.zeros([2, 4]), _SIZE), '3 masks but 2 boxes'),
      (lambda: mask_windows.of_images(np.zeros([9, 9])),
       r'\(9, 9\), not \[N, height, width\]'),
      (lambda: rle_masks.RleMasks.from_rles(_of_boxes().rles(), (9, 9)),
       r'of an image of \[37, 53\]; it must be of \[9, 9\]')):
    with pytest.raises(ValueError, match=message):
      made()


def test_numbers_as_masks_are_pixels_where_they_are_not_0():
  pixels = np.zeros([1, 4, 4], np.uint8)
  pixels[0, 1, 2] = 1
  masks = mask_windows.of_images(pixels)
  assert masks.images().dtype == bool and masks.windows().areas() == [1]
