"""Stored proposals, joined with the records they belong to.

All of a file is in the memory of the process that trains: 16 bytes for each
box of the `most` best of an image, 1.9 GB for 1000 on each image of COCO's
train2017. A JSON file or pickle takes several times its own size while it is
read; a large data set's should be .tfrecord.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from panet_tf import errors
from panet_tf.data import proposal_files
from panet_tf.data import tfrecord


class Proposals:
  """The boxes of each image, best first."""

  def __init__(self, path: str, boxes: dict[str, np.ndarray]):
    """Keeps the boxes [n, 4] float32 of each image id, which is text."""
    self._path, self._boxes = path, boxes

  def of(self, image_id: Any) -> np.ndarray:
    """Boxes [n, 4] float32 yxyx of an image, edges in its pixels.

    InputError where the file does not have the image.
    """
    try:
      return self._boxes[str(image_id)]
    except KeyError as e:
      raise errors.InputError(
          f'{self._path} has no proposals for image {image_id!r} of the '
          'records; `panet propose` should run on all of them') from e

  def joined(self, decode: Callable[[tf.Tensor], dict[str, Any]],
             image_ids: Sequence[Any] | None
            ) -> Callable[[tf.Tensor], dict[str, Any]]:
    """A decoder of records whose examples also have `proposals`, as of `of`.

    It calls back into this process: no other machine can run it. Examples
    have a `source_id`, which stands for one of the shards' `image_ids`.
    """
    def of_source(source_id):
      try:
        image_id = tfrecord.original_id(source_id.decode(), image_ids)
      except (ValueError, LookupError) as e:
        raise errors.InputError(f'source id {source_id!r} of a record is not '
                                'in its data set description') from e
      return self.of(image_id)

    def decode_and_join(record):
      example = decode(record)
      boxes = tf.numpy_function(
          of_source, [example['source_id']], tf.float32, stateful=False)
      return dict(example, proposals=tf.ensure_shape(boxes, [None, 4]))

    return decode_and_join


def image_ids(paths: Iterable[str]) -> Sequence[Any] | None:
  """The `image_ids` that shards have in common, see `tfrecord.original_id`.

  InputError for shards of several data sets, with the same source ids.
  """
  first, *others = [
      (path, (tfrecord.read_dataset_info(path) or {}).get('image_ids'))
      for path in paths]
  for path, ids in others:
    if ids != first[1]:
      raise errors.InputError(
          f'{path} has other image ids than {first[0]}; proposals go with '
          'shards that were converted together')
  return first[1]


def read(path: str, most: int) -> Proposals:
  """Reads of a file `most` proposals of an image, those with the best scores.

  It is .json, .tfrecord (or a glob of those) or .pkl, see `proposal_files`.

  Raises:
    InputError: naming the file, and the image or field that is wrong.
  """
  boxes = {}
  found = tqdm.tqdm(proposal_files.images(path), desc='proposals',
                    unit='image', mininterval=1)
  for image_id, xyxy, scores in found:
    if str(image_id) in boxes:
      raise errors.InputError(f'{path}: image {image_id!r} is there twice')
    boxes[str(image_id)] = _best(f'{path}: image {image_id!r}', xyxy, scores,
                                 most)
  return Proposals(path, boxes)


def _best(where: str, xyxy: np.ndarray, scores: np.ndarray,
          most: int) -> np.ndarray:
  """[n, 4] float32 yxyx, best first; checked."""
  if xyxy.ndim != 2 or xyxy.shape[1] != 4 or scores.shape != xyxy.shape[:1]:
    raise errors.InputError(f'{where}: boxes are {list(xyxy.shape)} and scores '
                            f'{list(scores.shape)}, should be [n, 4] and [n]')
  with np.errstate(over='ignore'):
    boxes = xyxy[:, [1, 0, 3, 2]].astype(np.float32)
  _check(where, 'is not of finite numbers',
         np.isfinite(boxes).all(1) & np.isfinite(scores), boxes)
  _check(where, 'ends before it begins, should be y1, x1, y2, x2',
         (boxes[:, 2:] >= boxes[:, :2]).all(1), boxes)
  return boxes[np.argsort(-scores, kind='stable')[:most]]


def _check(where, problem, is_right, boxes):
  for row in np.flatnonzero(~is_right)[:1]:
    raise errors.InputError(
        f'{where}: box {row}, {boxes[row].tolist()}, {problem}')
