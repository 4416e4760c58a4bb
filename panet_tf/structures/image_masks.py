"""Masks as large as the image, as an export that pastes them gives them."""

import dataclasses

import numpy as np

from panet_tf.structures import mask_windows
from panet_tf.structures import masks


@dataclasses.dataclass(eq=False)
class ImageMasks(masks.Masks):
  """N masks of one image as pixels.

  Attributes:
    pixels: [N, height, width] bool.
    image_size: height and width of the image, pixels.
  """
  pixels: np.ndarray
  image_size: tuple[int, int] = dataclasses.field(init=False)

  def __post_init__(self):
    """Raises ValueError for pixels of another shape."""
    self.pixels = np.asarray(self.pixels).astype(bool, copy=False)
    if self.pixels.ndim != 3:
      raise ValueError(
          f'masks are {self.pixels.shape}, not [N, height, width]')
    self.image_size = self.pixels.shape[1], self.pixels.shape[2]

  def __len__(self) -> int:
    return len(self.pixels)

  def _chosen(self, rows):
    if rows.size and (np.diff(rows) == 1).all():
      # The best of them, mostly; a slice copies nothing.
      rows = slice(rows[0], rows[-1] + 1)
    return ImageMasks(self.pixels[rows])

  def windows(self) -> mask_windows.MaskWindows:
    """Each cut to what is set."""
    return mask_windows.MaskWindows(
        np.zeros([len(self), 2]), list(self.pixels),
        self.image_size).tightened()

  def images(self) -> np.ndarray:
    """The pixels themselves."""
    return self.pixels
