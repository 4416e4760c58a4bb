"""Augmented copies of an image, and the way back from each.

Section 4.2: "For multi-scale testing, we set the longer edge to 1,400 and the
other ranges from 600 to 1,200 with step 200. Only 4 scales are used", and
horizontal flips.
"""

import dataclasses

import numpy as np

from panet_tf.configs import inference as inference_config
from panet_tf.inference import preprocessing

_LARGEST_FACTOR = 10  # Scales beyond it are edges in pixels.


@dataclasses.dataclass(frozen=True)
class View:
  """One copy: mirrored, or not, then scaled, then padded.

  Boxes are yxyx, float64: in them the way there and back again ends at the very
  float32 where it began.

  Attributes:
    image_size: height and width of the image.
    scale: network-input pixels per image pixel, before edges are rounded.
    canvas: height and width of the padded network input.
    flip: mirrored left to right.
    factors: what boxes are multiplied with, [2] float32, yx.
  """
  image_size: tuple[int, int]
  scale: np.float32
  canvas: tuple[int, int]
  flip: bool
  factors: tuple[np.float32, np.float32]

  def boxes_to_view(self, boxes: np.ndarray) -> np.ndarray:
    """[..., 4] in pixels of the image to network-input pixels."""
    return self._mirrored(boxes) * self._factors()

  def boxes_to_image(self, boxes: np.ndarray) -> np.ndarray:
    """[..., 4] in network-input pixels to pixels of the image."""
    return self._mirrored(np.asarray(boxes, np.float64) / self._factors())

  def masks_to_image(self, masks: np.ndarray) -> np.ndarray:
    """[..., M, M] in the frames of boxes; the view's to the image's."""
    return masks[..., ::-1] if self.flip else masks

  def _factors(self):
    return np.tile(self.factors, 2).astype(np.float64)

  def _mirrored(self, boxes):
    boxes = np.asarray(boxes, np.float64)
    if not self.flip:
      return boxes
    y1, x1, y2, x2 = np.moveaxis(boxes, -1, 0)
    width = self.image_size[1]
    return np.stack([y1, width - x2, y2, width - x1], -1)


def views(options: inference_config.Inference, image_size: tuple[int, int],
          rule: preprocessing.Preprocessing) -> list[View]:
  """Views of an image: each scale of the options, then each one mirrored.

  A view at the model's own scale has the model's own canvas, others one as
  small as the image allows. `rule` is how the model sees an image without
  augmentation.
  """
  made = []
  for scale in options.scales or (1.0,):
    scale = _scale(image_size, rule, scale, options.long_edge)
    size = scaled(image_size, scale)
    own = scaled(image_size, rule.scale(*image_size))
    canvas = rule.canvas
    if rule.pad_to or not np.array_equal(size, own):
      height, width = (_canvas_edge(edge, rule.pad_to) for edge in size)
      canvas = height, width
    # As `image_scaling.resize_to_canvas` says it, in float32.
    made.append(View(image_size, scale, canvas, False,
                     tuple(rule.factors(image_size, scale))))
  return made + [dataclasses.replace(view, flip=True)
                 for view in made * options.flip]


def _scale(image_size, rule, scale, long_edge):
  own = rule.scale(*image_size)
  if scale <= _LARGEST_FACTOR:
    return np.float32(own * np.float32(scale))
  size = np.float32(image_size)
  scale = np.minimum(np.float32(scale) / size.min(),
                     np.float32(long_edge) / size.max())
  # The same size as the model's own is the same copy.
  return own if np.array_equal(
      scaled(image_size, scale), scaled(image_size, own)) else scale


def scaled(image_size: tuple[int, int], scale: np.float32) -> np.ndarray:
  """Height and width at a scale, [2] float32 whole numbers."""
  return np.maximum(np.round(np.asarray(image_size, np.float32) * scale), 1)


def _canvas_edge(edge, pad_to):
  """A multiple of the coarsest stride, 64; of 128 from 1024 on."""
  # Every canvas is traced once: coarser steps make fewer of them.
  step = pad_to or (64 if edge < 1024 else 128)
  return int(-(-edge // step) * step)
