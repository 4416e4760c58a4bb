"""Masks as run lengths, as COCO's files have them: the smallest in memory."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Self

from panet_tf.structures import mask_windows
from panet_tf.structures import masks
from panet_tf.structures import run_lengths


@dataclasses.dataclass(eq=False)
class RleMasks(masks.Masks):
  """N masks of one image as compressed run lengths.

  Attributes:
    counts: N strings, COCO's compressed RLE, known to be of such an image.
    image_size: height and width of the image, pixels.
  """
  counts: list[str]
  image_size: tuple[int, int]

  @classmethod
  def from_rles(cls, rles: Sequence[Mapping[str, Any]],
                image_size: tuple[int, int]) -> Self:
    """Of compressed RLEs, str or bytes; ValueError for one of another size."""
    for rle in rles:
      if tuple(rle['size']) != tuple(image_size):
        raise ValueError(f'mask is of an image of {list(rle["size"])}; it must '
                         f'be of {list(image_size)}')
    return cls([counts if isinstance(counts, str) else counts.decode('ascii')
                for counts in (rle['counts'] for rle in rles)], image_size)

  def __len__(self) -> int:
    return len(self.counts)

  def _chosen(self, rows):
    return RleMasks([self.counts[i] for i in rows], self.image_size)

  def windows(self) -> mask_windows.MaskWindows:
    """Each cut to what is set."""
    columns = [run_lengths.byte_columns(rle) for rle in self.rles()]
    return mask_windows.MaskWindows(
        [(0, left) for left, _ in columns],
        [crop.view(bool) for _, crop in columns], self.image_size).tightened()

  def rles(self) -> list[dict[str, Any]]:
    """See `Masks`."""
    return [{'size': list(self.image_size), 'counts': counts}
            for counts in self.counts]
