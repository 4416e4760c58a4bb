"""Where a box ends: at an edge, or on the index of its last pixel.

Inside the model every box ends at an edge, [0, 0, 10, 10] for ten pixels. The
authors' release has boxes in Detectron's way of 2018, [0, 0, 9, 9] for the
same ("+1"). Widths, offsets and IoU are alike; what is left of the release's
habits is here: rounded anchors, boxes that keep a pixel of the image
when they are clipped, proposals that enter the padding, and pooling up to the
last pixel's index.

The release decodes and suppresses detections in pixels of the image, where the
last pixel is one of the image's: `scale` pixels of the network input wide. So
a model takes `im_info` for an image's shape: height, width and, of such boxes,
that scale.
"""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np
from official.vision.ops import anchor as anchor_ops
import tensorflow as tf

_STRIDE = 32  # Of the coarsest backbone level; the release pads images to it.


@dataclasses.dataclass(frozen=True)
class BoxConvention:
  """What differs with where a box ends. Boxes are [..., 4] yxyx float32 edges.

  Network and image are frames: pixels of the network's input, and of the image
  it was scaled from. Empty rows of 0, which pad lists, stay 0.

  Attributes:
    name: 'edges', everyone's, or 'last_pixel', the release's.
  """
  name: str

  def __post_init__(self):
    """Raises ValueError for another name."""
    if self.name not in ('edges', 'last_pixel'):
      raise ValueError(f"Box convention {self.name!r}: expected 'edges' or "
                       "'last_pixel'.")

  @property
  def pad_multiple(self) -> int:
    """A network input of any size has sides of multiples of these pixels."""
    return 2 * _STRIDE if self == EDGES else _STRIDE

  def anchors(self, image_size: Sequence[int], **fields
             ) -> dict[str, tf.Tensor]:
    """Anchors of a network input of some height and width.

    {level: [h, w, anchors * 4]}; `fields` are those of Model Garden's `Anchor`:
    min_level, max_level, num_scales, aspect_ratios and anchor_size.
    """
    if self == EDGES:
      return anchor_ops.Anchor(image_size=image_size, **fields).multilevel_boxes
    return _rounded_anchors(image_size, **fields)

  def im_info(self, image_info: tf.Tensor) -> tf.Tensor:
    """[B, 2] or [B, 3], see above, of image_info [B, 4, 2]."""
    if self == EDGES:
      return image_info[:, 1]
    return tf.concat([image_info[:, 1], image_info[:, 2, :1]], -1)

  def pooled(self, boxes: tf.Tensor) -> tf.Tensor:
    """What RoIAlign cuts out for boxes: up to the edge, or to an index."""
    return boxes if self == EDGES else to_pixels(boxes)

  def proposal_area(self, im_info: tf.Tensor) -> tf.Tensor:
    """Size [B, 2] that clips proposals; the release's may enter padding."""
    if self == EDGES:
      return im_info
    return _STRIDE * tf.math.ceil(tf.cast(im_info[:, :2], tf.float32) / _STRIDE)

  def clipped(self, boxes: tf.Tensor, area: tf.Tensor,
              pixel: tf.Tensor | float = 1.0) -> tf.Tensor:
    """What is left to do to boxes that were clipped to the edges of an area.

    The release clips indices of pixels to 0..size - 1: a box that lies outside
    becomes one pixel [..., 1] thick, not empty. Boxes lie inside the area,
    [..., 2], height and width, broadcast against them.
    """
    if self == EDGES:
      return boxes
    start, end = boxes[..., :2], boxes[..., 2:]  # pyright: ignore[reportArgumentType] - TensorFlow's stub of Tensor does not know `...`
    last = tf.cast(area, boxes.dtype) - pixel
    return tf.concat([tf.minimum(start, last), tf.maximum(end, pixel)], -1)

  def detections(self, decode: Callable[..., tuple[tf.Tensor, tf.Tensor]],
                 rois: tf.Tensor, im_info: tf.Tensor
                ) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes [B, N, K, 4] and scores of RoIs [B, N, 4], inside the image.

    The release decodes RoIs that end behind a pixel of the image, clips to the
    image itself, as the network has whole pixels only, and keeps a pixel of it.

    Args:
      decode: RoIs and the area [B, 2] that boxes are clipped to, to the two.
      rois: network; empty ones give empty boxes.
      im_info: see above.
    """
    if self == EDGES:
      return decode(rois, im_info)
    pixel = _image_pixel(im_info)
    area = pixel * tf.round(im_info[:, :2] / pixel)
    rois = _lengthened(rois, pixel[:, tf.newaxis] - 1.0)
    boxes, scores = decode(rois, area)
    boxes = self.clipped(
        boxes, *(x[:, tf.newaxis, tf.newaxis] for x in (area, pixel)))
    return boxes * _present(rois)[:, :, tf.newaxis], scores

  def to_network_ends(self, boxes: tf.Tensor, im_info: tf.Tensor) -> tf.Tensor:
    """Of `detections`, [B, N, 4], made to end behind a network pixel."""
    if self == EDGES:
      return boxes
    return _lengthened(boxes, 1.0 - _image_pixel(im_info)[:, tf.newaxis])

  def to_image(self, boxes: tf.Tensor, image_info: tf.Tensor) -> tf.Tensor:
    """Boxes [B, N, 4] of the network in pixels of the image.

    The release's last pixel becomes one of the image, and lies inside it. Of
    image_info, see `image_scaling.resize_to_canvas`, the offset is 0.
    """
    scale = tf.tile(image_info[:, 2:3], [1, 1, 2])
    if self == EDGES:
      return boxes / scale
    return tf.minimum(to_edges(to_pixels(boxes) / scale),
                      tf.tile(image_info[:, 0:1], [1, 1, 2]))

  def scaled(self, boxes: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """Boxes [N, 4] of the image times its scale [2]."""
    boxes = boxes * tf.tile(scale, [2])
    if self == EDGES:
      return boxes
    return boxes + tf.concat([tf.zeros_like(scale), 1 - scale], 0)


EDGES, LAST_PIXEL = BoxConvention('edges'), BoxConvention('last_pixel')


def of(convention: BoxConvention | str) -> BoxConvention:
  """A convention itself, or by its name; ValueError for none."""
  return (convention if isinstance(convention, BoxConvention)
          else BoxConvention(convention))


def _rounded_anchors(image_size, *, min_level, max_level, num_scales,
                     aspect_ratios, anchor_size):
  """The release's anchors.

  A square of the level's stride gets its aspect ratio, is rounded to whole
  pixels, and scaled. Cells are `stride` apart, also where the map is larger
  than the image (Model Garden spreads them over the image).
  """
  boxes = {}
  for level in range(min_level, max_level + 1):
    stride = 2**level
    half = 0.5 * _sizes(stride, num_scales, aspect_ratios, anchor_size)
    cells = [-(-edge // stride) for edge in image_size]
    centre = stride * (np.stack(
        np.meshgrid(*map(np.arange, cells), indexing='ij'), -1) + 0.5)
    centre = centre[:, :, np.newaxis]
    boxes[str(level)] = tf.constant(
        np.concatenate([centre - half, centre + half], -1).reshape(
            [*cells, -1]), tf.float32)
  return boxes


def to_pixels(boxes: tf.Tensor) -> tf.Tensor:
  """Edges to indices of pixels, [..., 4] yxyx; empty rows of 0 stay 0."""
  return _lengthened(boxes, -1.0)


def to_edges(boxes: tf.Tensor) -> tf.Tensor:
  """Indices of pixels to edges, [..., 4] yxyx; empty rows of 0 stay 0."""
  return _lengthened(boxes, 1.0)


def _lengthened(boxes, by):
  """Boxes with y2 and x2 that much larger; empty rows stay."""
  return boxes + _present(boxes) * by * tf.constant([0, 0, 1, 1], boxes.dtype)


def _present(boxes):
  """[..., 1] of the boxes' type: 0 for empty rows."""
  return tf.cast(tf.reduce_any(boxes != 0, -1, keepdims=True), boxes.dtype)


def _image_pixel(im_info):
  """[B, 1] float32: a pixel of the image in the network input; 1 for [B, 2]."""
  return (tf.cast(im_info[:, 2:], tf.float32) if im_info.shape[-1] == 3
          else tf.ones_like(im_info[:, :1], tf.float32))


def _sizes(stride, num_scales, aspect_ratios, anchor_size):
  """[anchors, 2], height and width."""
  ratios = np.array(aspect_ratios)
  widths = np.round(stride * np.sqrt(ratios))
  sizes = np.stack([np.round(widths / ratios), widths], -1)
  return np.concatenate([anchor_size * 2**(scale / num_scales) * sizes
                         for scale in range(num_scales)])
