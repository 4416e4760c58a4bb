"""Augmented copies: where things lie in them, and the way back."""

import numpy as np
import pytest

from panet_tf.configs import inference as inference_config
from panet_tf.inference import preprocessing
from panet_tf.inference.suite import stages
from panet_tf.inference.suite import views as views_lib
from panet_tf.structures import paste_masks

PAPER = inference_config.Inference(
    scales=[600, 800, 1000, 1200], long_edge=1400, flip=True)


def _rule(canvas=(1024, 1024), fit=None, short_edge=800, long_edge=1000):
  return preprocessing.Preprocessing(
      canvas=canvas, fit=fit, short_edge=None if fit else short_edge,
      long_edge=None if fit else long_edge, mean=(0., 0., 0.),
      stddev=(1., 1., 1.))


def _size(view):
  return views_lib.scaled(view.image_size, view.scale)


def test_copies_are_those_of_the_paper():
  views = views_lib.views(PAPER, (480, 640), _rule())
  assert [view.flip for view in views] == [False] * 4 + [True] * 4
  assert [tuple(_size(view)) for view in views[:4]] == [
      (600, 800), (800, 1067), (1000, 1333), (1050, 1400)]
  assert [view.canvas for view in views[:4]] == [
      (640, 832), (832, 1152), (1024, 1408), (1152, 1408)]
  views = views_lib.views(PAPER, (640, 480), _rule())
  assert tuple(_size(views[0])) == (800, 600)
  assert views[0].canvas == (832, 640)


def test_no_copy_is_the_models_own():
  rule = _rule()
  (view,) = views_lib.views(
      inference_config.Inference(), (300, 500), rule)
  assert view.canvas == (1024, 1024) and not view.flip
  assert view.scale == rule.scale(300, 500) == np.float32(2.0)


@pytest.mark.parametrize('scale', [1.0, 600])
def test_a_copy_at_the_models_own_scale_is_the_models_own(scale):
  rule = _rule(canvas=(1024, 1024))
  (own,) = views_lib.views(
      inference_config.Inference(), (300, 500), rule)
  (view,) = views_lib.views(inference_config.Inference(
      scales=[scale], long_edge=1000), (300, 500), rule)
  assert view == own


def test_factors_are_of_the_models_own_scale():
  views = views_lib.views(
      inference_config.Inference(scales=[0.5, 1.0, 1.5]), (100, 200),
      _rule(canvas=(256, 256), fit=(256, 256)))
  assert [tuple(_size(view)) for view in views] == [
      (64, 128), (128, 256), (192, 384)]
  assert [view.canvas for view in views] == [(64, 128), (256, 256), (192, 384)]


@pytest.mark.parametrize('image_size', [(480, 640), (333, 77), (1000, 1400)])
def test_a_box_comes_back_from_every_copy(image_size):
  rng = np.random.default_rng(0)
  height, width = image_size
  low = rng.uniform(0, 0.7, [200, 2]) * image_size
  boxes = np.float32(np.concatenate(
      [low, low + rng.uniform(0.01, 0.3, [200, 2]) * image_size], 1))
  for view in views_lib.views(PAPER, image_size, _rule()):
    there = np.float32(view.boxes_to_view(boxes))
    assert np.all(there[:, 2:] > there[:, :2])
    back = view.boxes_to_image(there)
    np.testing.assert_allclose(back, boxes, rtol=0, atol=1e-4)
    # From network pixels to the image and back, nothing at all is lost.
    np.testing.assert_array_equal(np.float32(view.boxes_to_view(back)), there)
    whole = view.boxes_to_view(np.array([0, 0, height, width]))
    # A copy's scale is a float32, as in the model's own input.
    np.testing.assert_allclose(whole, [0, 0, *_size(view)], rtol=1e-7, atol=0)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('scale', [0.5, 1.0, 1.7])
def test_a_mask_comes_back_from_every_copy(flip, scale):
  """A wedge is drawn; what a perfect mask head sees of it is mapped back."""
  image_size, box = (220, 300), np.array([40., 60., 180., 270.])
  inside = np.zeros(image_size, bool)
  for row in range(40, 180):
    inside[row, 60:60 + 210 * (row - 39) // 140] = True
  rule = _rule(canvas=(256, 320), fit=image_size)
  views = views_lib.views(
      inference_config.Inference(scales=[scale], flip=True), image_size, rule)
  view = views[flip]
  assert view.flip == flip
  drawn = np.repeat(255 * inside[..., np.newaxis].astype(np.uint8), 3, 2)
  pixels, info = stages.prepare(view.canvas)(
      drawn[:, ::-1] if flip else drawn, view.scale)
  np.testing.assert_array_equal(info[0, 1], _size(view))
  # The network's input is normalised; black is its least value.
  pixels = pixels[0, :, :, 0].numpy()
  seen = (pixels - pixels.min()) / np.ptp(pixels)
  there = view.boxes_to_view(box)
  head = _cells(seen, there, 280)
  mask = view.masks_to_image(head[np.newaxis])[0]
  found = paste_masks.paste_mask(
      mask, view.boxes_to_image(there), *image_size).astype(bool)
  iou = (found & inside).sum() / (found | inside).sum()
  assert iou >= (0.999 if scale == 1.0 else 0.99)


def _cells(image, box, size):
  """Bilinear samples at the centres of the box's cells."""
  rows, columns = (
      box[i] + (np.arange(size) + 0.5) / size * (box[i + 2] - box[i]) - 0.5
      for i in range(2))
  return (_bilinear(rows, image.shape[0]) @ image
          @ _bilinear(columns, image.shape[1]).T)


def _bilinear(places, size):
  """Weights [len(places), size] of the pixels of one axis."""
  weights = np.zeros([len(places), size])
  for pixel in (np.floor(places), np.floor(places) + 1):
    np.add.at(weights, (np.arange(len(places)), np.clip(
        pixel.astype(int), 0, size - 1)), 1 - np.abs(places - pixel))
  return weights


def test_masks_of_a_mirrored_copy_are_mirrored():
  views = views_lib.views(
      inference_config.Inference(flip=True), (64, 64), _rule())
  masks = np.arange(24.).reshape(2, 3, 4)
  np.testing.assert_array_equal(views[0].masks_to_image(masks), masks)
  np.testing.assert_array_equal(
      views[1].masks_to_image(masks), np.flip(masks, 2))
