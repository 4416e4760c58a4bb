"""What was found in an image, whatever found it: the type that all rooms speak.

Graphs and the wire have dictionaries of `detection_*` arrays; `from_outputs`
reads them, and behind it there are `Detections` only.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Self

import numpy as np

from panet_tf import errors
from panet_tf.structures import box_masks
from panet_tf.structures import mask_windows
from panet_tf.structures import masks as masks_lib

_COLUMNS = {'boxes': (4,), 'scores': (), 'labels': (), 'iscrowd': ()}


@dataclasses.dataclass(eq=False)
class Detections:
  """N objects of one image, mostly best score first.

  Attributes:
    boxes: [N, 4] float, yxyx edges in pixels of the image.
    scores: [N] float.
    labels: [N] int, the model's classes, from 1.
    image_size: height and width of the image, pixels.
    masks: N, in any form; None of a model of boxes.
    iscrowd: [N] bool, groups that are one object, for ground truth that is
      drawn; else None.
  """
  boxes: np.ndarray
  scores: np.ndarray
  labels: np.ndarray
  image_size: tuple[int, int]
  masks: masks_lib.Masks | None = None
  iscrowd: np.ndarray | None = None

  def __post_init__(self):
    """Raises ValueError for arrays that do not fit each other."""
    count = len(self.scores)
    for name, shape in _COLUMNS.items():
      column = getattr(self, name)
      if column is None:
        continue
      column = np.asarray(column)
      if column.shape != (count, *shape):
        raise ValueError(f'{name} are {list(column.shape)}; they must be '
                         f'{[count, *shape]}, as there are {count} scores')
      setattr(self, name, column)
    if self.labels.dtype.kind not in 'iu':
      raise ValueError(f'labels are {self.labels.dtype}; they must be integers')
    self.image_size = _size(self.image_size)
    if self.masks is None:
      return
    if len(self.masks) != count:
      raise ValueError(f'there are {len(self.masks)} masks; there must be '
                       f'{count}, one for each score')
    if _size(self.masks.image_size) != self.image_size:
      raise ValueError(f'masks are of an image of {list(self.masks.image_size)}'
                       f'; they must be of {list(self.image_size)}')

  @classmethod
  def from_outputs(cls, outputs: Mapping[str, Any],
                   image_size: tuple[int, int],
                   legacy_masks: bool = False) -> Self:
    """Detections of one image from a graph's or server's arrays.

    Args:
      outputs: detection_boxes [R, 4] yxyx in pixels of the image,
        detection_scores [R], detection_classes [R] int and perhaps
        detection_masks, [R, M, M] float or [R, height, width] bool, and
        num_detections, from which on rows are padding. Others are ignored.
      image_size: height and width of the image, pixels.
      legacy_masks: of masks in the frames of boxes, see `BoxMasks`.

    Raises:
      KeyError, ValueError: an array is missing, or does not fit the others.
    """
    count = outputs.get('num_detections')
    kept = slice(None if count is None else int(count))
    boxes, scores, labels = (
        np.asarray(outputs[f'detection_{name}'])[kept]
        for name in ('boxes', 'scores', 'classes'))
    masks = outputs.get('detection_masks')
    if masks is not None:
      masks = np.asarray(masks)[kept]
      masks = (mask_windows.of_images(masks) if masks.dtype == bool else
               box_masks.BoxMasks(masks, boxes, image_size, legacy_masks))
    return cls(boxes, scores, labels, image_size, masks)

  def __len__(self) -> int:
    return len(self.scores)

  def __getitem__(self, index: Any) -> Self:
    """Some of them: a slice, [N] bool or [K] int; an int gives one."""
    rows = np.atleast_1d(np.arange(len(self))[index])
    columns = {name: getattr(self, name) for name in (*_COLUMNS, 'masks')}
    return dataclasses.replace(self, **{
        name: column[rows] for name, column in columns.items()
        if column is not None})

  @classmethod
  def concatenate(cls, parts: Sequence[Self]) -> Self:
    """All of several, in their order; their masks become windows.

    ValueError for no part, parts of images of several sizes, or only some with
    masks or iscrowd.
    """
    size, joined = masks_lib.common_size(parts), {}
    for name in (*_COLUMNS, 'masks'):
      values = [getattr(part, name) for part in parts]
      missing = sum(value is None for value in values)
      if 0 < missing < len(parts):
        raise ValueError(f'{missing} of {len(parts)} parts have no {name}; all '
                         'must have them, or none')
      if not missing:
        joined[name] = (
            mask_windows.MaskWindows.concatenate(values) if name == 'masks'
            else np.concatenate(values))
    return cls(image_size=size, **joined)

  @property
  def known_masks(self) -> masks_lib.Masks:
    """The masks; ValueError if there are none."""
    if self.masks is None:
      raise ValueError('detections have no masks; they must have')
    return self.masks

  def check_labels(self, image_id: Any, category_ids: Sequence[Any]):
    """Raises InputError for a label that has no category id."""
    count = len(category_ids)
    strange = self.labels[(self.labels < 1) | (self.labels > count)]
    if strange.size:
      raise errors.InputError(f'image {image_id}: label {strange[0]} has no '
                              f'category; there are {count}')

  def to_coco(self, image_id: Any,
              category_ids: Sequence[Any]) -> list[dict[str, Any]]:
    """COCO results, which `json` can write.

    Args:
      image_id: int or str.
      category_ids: of label 1, 2, and so on; InputError for one without.

    Returns:
      {'image_id', 'category_id', 'bbox': xywh pixels to 3 digits, 'score' to 6
      digits} of each, and with masks 'segmentation', an RLE.
    """
    self.check_labels(image_id, category_ids)
    y1, x1, y2, x2 = self.boxes.astype(np.float64).T
    boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(3).tolist()
    scores = self.scores.astype(np.float64).round(6).tolist()
    results = [
        {'image_id': image_id, 'category_id': category_ids[label - 1],
         'bbox': box, 'score': score}
        for box, score, label in zip(
            boxes, scores, self.labels.tolist(), strict=True)]
    if self.masks is not None:
      for result, rle in zip(results, self.masks.rles(), strict=True):
        result['segmentation'] = rle
    return results


def _size(size):
  height, width = size
  return int(height), int(width)
