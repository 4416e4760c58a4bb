"""What both protocols of TensorFlow Serving share: errors, a checked answer.

An answer comes from another machine. Nothing of it is used before it is known
to be the detections of one image.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from panet_tf.structures import detections as detections_lib

MAX_ANSWER = 1 << 28  # Bytes; 100 masks of 1600 x 1600 as booleans fit.
OUTPUTS = ('detection_boxes', 'detection_scores', 'detection_classes',
           'num_detections', 'detection_masks')
_MAX_MASK = 512  # Cells along an edge, of a mask in the frame of its box.
_MAX_TEXT = 300


class RefusedError(Exception):
  """The server does not answer this image, or not with detections."""


class NoServerError(Exception):
  """No server, or none that has the model: no image will be answered."""


def one_line(text: str) -> str:
  """A message of the server's, such that a terminal shows it as one line."""
  text = ' '.join(''.join(
      c if c.isprintable() else ' ' for c in text[:4 * _MAX_TEXT]).split())
  return text if len(text) <= _MAX_TEXT else f'{text[:_MAX_TEXT]}...'


def detections(outputs: Mapping[str, Any], height: int,
               width: int) -> detections_lib.Detections:
  """Checks the answer for one image of this height and width.

  Args:
    outputs: name -> array or nested lists, with a batch dimension of 1.
    height: of the image, pixels.
    width: of the image, pixels.

  Returns:
    Detections, whose labels are category ids of the data set.

  Raises:
    RefusedError: anything is missing or has another type or shape.
  """
  boxes = _array(outputs, 'detection_boxes', 'fiu', None, 4)
  rows = len(boxes)
  found = {
      'detection_boxes': boxes,
      'detection_scores': _array(outputs, 'detection_scores', 'fiu', rows),
      'detection_classes': _array(outputs, 'detection_classes', 'iu', rows),
      'num_detections': _array(outputs, 'num_detections', 'iu')}
  count = int(found['num_detections'])
  if not 0 <= count <= rows:
    raise RefusedError(f'num_detections of the answer is {count} of {rows}')
  if 'detection_masks' in outputs:
    found['detection_masks'] = _masks(outputs, rows, height, width)
  return detections_lib.Detections.from_outputs(found, (height, width))


def _masks(outputs, rows, height, width):
  masks = _array(outputs, 'detection_masks', 'fiub', rows, None, None)
  shape = masks.shape[1:]
  if masks.dtype == bool:  # As large as the largest of the server's batch.
    good = shape[0] >= height and shape[1] >= width
    masks = masks[:, :height, :width]
  else:
    good = shape[0] == shape[1] and 0 < shape[0] <= _MAX_MASK
  if not good:
    raise RefusedError(
        f'detection_masks of the answer are {masks.dtype} {list(shape)}, '
        f'neither of the image, {[height, width]} bool, nor of the box')
  return masks


def _array(outputs, name, kinds, *shape):
  """An output without its batch dimension; None of `shape` is any size."""
  if name not in outputs:
    raise RefusedError(
        f'the answer has no {name}: not a model that export.py wrote')
  try:
    array = np.asarray(outputs[name])
  except (ValueError, OverflowError) as e:  # Lists of different lengths.
    raise RefusedError(f'{name} of the answer is not an array') from e
  expected = (1, *shape)
  fits = array.dtype.kind in kinds and array.ndim == len(expected) and all(
      size in (None, actual)
      for size, actual in zip(expected, array.shape, strict=True))
  if not fits:
    raise RefusedError(
        f'{name} of the answer is {array.dtype} {list(array.shape)}; expected '
        f'{["any" if size is None else size for size in expected]} numbers')
  if array.dtype.kind == 'f':
    with np.errstate(over='ignore'):
      array = array.astype(np.float32, copy=False)  # JSON's are float64.
    if not np.isfinite(array).all():
      raise RefusedError(f'{name} of the answer is not finite')
  return array[0]
