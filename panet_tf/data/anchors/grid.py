"""Model Garden's anchors from three fields, and how well boxes meet them."""

import dataclasses

import numpy as np

from panet_tf import errors

THRESHOLDS = (0.5, 0.7)  # From 0.7 on an anchor is a positive of the RPN.
LEVELS = range(2, 7)  # All that config.PANet allows.
MEASURES = ('recall at 0.5', 'recall at 0.7', 'mean IoU')


@dataclasses.dataclass(frozen=True)
class Anchors:
  """The fields of `task.model.anchor`; defaults are Model Garden's.

  Attributes:
    num_scales: sizes per octave.
    aspect_ratios: width / height.
    anchor_size: side of the square of the smallest size, in strides.
  """
  num_scales: int = 1
  aspect_ratios: tuple = (0.5, 1.0, 2.0)
  anchor_size: float = 8.0

  def __post_init__(self):
    """Raises InputError for what is not above 0."""
    if not (self.num_scales > 0 and self.anchor_size > 0
            and self.aspect_ratios and min(self.aspect_ratios) > 0):
      raise errors.InputError(
          f'task.model.anchor: {self}; they should be above 0')

  @property
  def per_position(self):
    """Number of anchors at each position of a level."""
    return self.num_scales * len(self.aspect_ratios)

  def shapes(self, level):
    """Yields (height, width) in pixels, as official.vision.ops.anchor does."""
    for scale in range(self.num_scales):
      side = self.anchor_size * 2**(level + scale / self.num_scales)
      for ratio in self.aspect_ratios:
        yield side * ratio**-0.5, side * ratio**0.5

  def __str__(self):
    """The fields, as a person writes them."""
    ratios = ', '.join(map(str, self.aspect_ratios))
    return (f'num_scales {self.num_scales}, aspect_ratios [{ratios}], '
            f'anchor_size {self.anchor_size}')


def best_iou(boxes, anchors):
  """IoU [N] of boxes [4, N] with the best of all anchors of the grid.

  Boxes are yxyx, in network-input pixels.

  Exact, though it looks at one position per level. For one anchor shape the
  union falls as the intersection grows, and this is a product of an overlap in
  y and one in x, each falling with the distance of the centres: the nearest
  position wins. It exists, as box centres lie in the canvas and all strides
  divide it. Anchors that reach over its edge are not clipped, as in training.
  """
  size = boxes[2:] - boxes[:2]
  centre = (boxes[2:] + boxes[:2]) / 2
  best = np.zeros(boxes.shape[1])
  for level in LEVELS:
    apart = np.abs(centre - (np.floor(centre / 2**level) + 0.5) * 2**level)
    for shape in anchors.shapes(level):
      y, x = (np.minimum(np.minimum(s, t), (s + t) / 2 - d).clip(0)
              for s, t, d in zip(size, shape, apart, strict=True))
      union = size[0] * size[1] + shape[0] * shape[1] - y * x
      np.maximum(best, y * x / union, out=best)
  return best


def measures(iou):
  """What MEASURES names: recall at each of THRESHOLDS, mean best IoU."""
  return np.array([*(np.mean(iou >= t) for t in THRESHOLDS), iou.mean()])
