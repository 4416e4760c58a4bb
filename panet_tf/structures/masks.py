"""Masks of an image's objects: several forms, one interface.

A model gives probabilities in the frames of boxes, a file has run lengths, all
else gives windows. Whoever draws, scores or writes masks takes any of them.
"""

import abc
from collections.abc import Sequence
from typing import Any, Self, TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from panet_tf.structures import mask_windows


class Masks(abc.ABC):
  """N masks of one image: as BoxMasks, MaskWindows or RleMasks.

  Attributes:
    image_size: height and width of the image, pixels.
  """
  image_size: tuple[int, int]

  @abc.abstractmethod
  def __len__(self) -> int:
    """Number of masks."""

  @abc.abstractmethod
  def _chosen(self, rows: np.ndarray) -> Self:
    """The masks at places [K] int."""

  @abc.abstractmethod
  def windows(self) -> 'mask_windows.MaskWindows':
    """The pixels of each mask, in a window of the image."""

  def __getitem__(self, index: Any) -> Self:
    """Some of the masks, in the same form: a slice, [N] bool or [K] int."""
    return self._chosen(np.atleast_1d(np.arange(len(self))[index]))

  def images(self) -> np.ndarray:
    """The pixels of each mask, [N, height, width] bool."""
    return self.windows().images()

  def rles(self) -> list[dict[str, Any]]:
    """N COCO RLEs: {'size': [height, width], 'counts': compressed, a str}."""
    return self.windows().rles()


def common_size(parts: Sequence[Any]) -> tuple[int, int]:
  """The image size of parts to be joined; ValueError unless they have one."""
  sizes = {part.image_size for part in parts}
  if len(sizes) != 1:
    raise ValueError(f'parts are of images of {sorted(sizes)}; they must be of '
                     'one image')
  return sizes.pop()
