"""What is written of an image's detections: COCO results and a picture.

`panet predict` and `panet serve-client` write the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from panet_tf import errors
from panet_tf import files
from panet_tf.data import coco_json
from panet_tf.data import segmentation
from panet_tf.drawing import pictures
from panet_tf.evaluation import coco_results
from panet_tf.inference import detector as detections_lib
from panet_tf.structures import mask_windows

_LONGEST_EDGE = 4096  # Of a picture, without the frame of `visualize`.


def results(found: Mapping[str, np.ndarray], image_id: Any, height: int,
            width: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
  """COCO results of one image.

  Args:
    found: see `detections.Detector.detect`.
    image_id: of the data set, or a file name.
    height: of the image, pixels.
    width: of the image, pixels.
    category_ids: of label 1, 2, and so on.
  """
  rles = (detections_lib.image_rles(found, height, width)
          if 'detection_masks' in found else None)
  return coco_results.detections_to_results(
      image_id, found['detection_boxes'], found['detection_scores'],
      found['detection_classes'], rles, category_ids)


def _scaled(found, factor):
  """Detections in the image enlarged by a factor."""
  return dict(found, **{
      'detection_boxes': found['detection_boxes'] * factor,
      **({'detection_masks': found['detection_masks'].scaled(factor)}
         if 'detection_masks' in found else {})})


def ground_truth(annotations: Sequence[Mapping[str, Any]], height: int,
                 width: int, labels: Mapping[int, int]) -> dict[str, Any]:
  """An image's annotations in the form of its detections, for `draw`.

  Args:
    annotations: COCO annotations of the image, see `coco_json`.
    height: of the image, pixels.
    width: of the image, pixels.
    labels: of each category id.

  Returns:
    As `detections.Detector.detect`, with scores of 1, `detection_iscrowd` [N]
    bool and, if any has a segmentation, `detection_masks` as `MaskWindows`.
    What lies outside of the image is left out.

  Raises:
    InputError: a category without a label, a malformed segmentation or box.
  """
  rows, crops, has_masks = [], [], False
  for annotation in annotations:
    if annotation['category_id'] not in labels:
      raise errors.InputError(
          f'annotation {annotation.get("id")!r}: category_id '
          f'{annotation["category_id"]!r} is none of the model\'s, which are '
          f'{sorted(labels)!r:.80}')
    rle = coco_json.annotation_mask_rle(annotation, height, width)
    box = coco_json.annotation_box(annotation, rle, height, width)
    if box is None:
      continue
    has_masks |= rle is not None
    rows.append((box, labels[annotation['category_id']],
                 bool(annotation.get('iscrowd'))))
    crops.append((0, np.zeros([0, 0], bool)) if rle is None
                 else segmentation.byte_columns(rle))
  x, y, w, h = np.array([row[0] for row in rows]).reshape(-1, 4).T
  found = {
      'detection_boxes': np.stack([y, x, y + h, x + w], 1).astype(np.float32),
      'detection_scores': np.ones(len(rows), np.float32),
      'detection_classes': np.array([row[1] for row in rows], np.int32),
      'detection_iscrowd': np.array([row[2] for row in rows], bool)}
  if has_masks:
    found['detection_masks'] = mask_windows.MaskWindows(
        [(0, column) for column, _ in crops],
        [crop.astype(bool) for _, crop in crops]).tightened()
  return found


def draw(image: np.ndarray, found: Mapping[str, np.ndarray],
         names: Mapping[int, str], score_threshold: float, path: str,
         truth: Mapping[str, np.ndarray] | None = None):
  """Draws detections into a PNG file, written whole or not at all.

  An image whose longer edge is beyond 4096 pixels is drawn reduced to that.

  Args:
    image: [H, W, 3] uint8, RGB.
    found: see `detections.Detector.detect`.
    names: of the classes in `found`.
    score_threshold: detections below it are not drawn.
    path: of the file.
    truth: of `ground_truth`, to be drawn to the left of the detections.

  Raises:
    InputError: the file cannot be written.
  """
  keep = found['detection_scores'] >= score_threshold
  shown = {name: array[keep] for name, array in found.items()}
  if 'detection_masks' in shown:
    shown['detection_masks'] = detections_lib.mask_windows(
        shown, *image.shape[:2])
  edge = max(image.shape[:2])
  if edge > _LONGEST_EDGE:
    factor = _LONGEST_EDGE / edge
    image = cv2.resize(image, None, fx=factor, fy=factor,
                       interpolation=cv2.INTER_AREA)
    shown = _scaled(shown, factor)
    truth = truth and _scaled(truth, factor)
  if truth is None:
    picture = pictures.draw_detections(image, shown, names, score_threshold)
  else:
    picture = pictures.draw_side_by_side(
        image, shown, truth, names, score_threshold)
  with files.written_whole(path) as temporary:
    Image.fromarray(picture).save(temporary, 'png')
