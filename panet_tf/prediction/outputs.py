"""Pictures of detections, which `predict` and `serve-client` draw alike."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import cv2
import numpy as np
from PIL import Image

from panet_tf import files
from panet_tf.data import coco_json
from panet_tf.data import segmentation
from panet_tf.drawing import pictures
from panet_tf.structures import detections
from panet_tf.structures import rle_masks

Detections = detections.Detections

_LONGEST_EDGE = 4096  # Of a picture, without the frame of `visualize`.


def ground_truth(annotations: Sequence[Mapping[str, Any]], height: int,
                 width: int, labels: Mapping[int, int]) -> Detections:
  """An image's COCO annotations in the form of its detections, for `draw`.

  Args:
    annotations: of the image.
    height: of the image, pixels.
    width: of the image, pixels.
    labels: of each category id that the model knows.

  Returns:
    Detections with scores of 1, iscrowd and, if any has a segmentation, masks.
    What lies outside of the image or has no label is left out.

  Raises:
    InputError: a malformed segmentation or box.
  """
  rows, rles = [], []
  for annotation in annotations:
    label = labels.get(annotation['category_id'])
    if label is None:
      continue
    rle = coco_json.annotation_mask_rle(annotation, height, width)
    box = coco_json.annotation_box(annotation, rle, height, width)
    if box is not None:
      rows.append((box, label, bool(annotation.get('iscrowd'))))
      rles.append(rle)
  x, y, w, h = np.array([row[0] for row in rows]).reshape(-1, 4).T
  masks = rle_masks.RleMasks.from_rles(
      [rle or segmentation.polygons_rle([], height, width) for rle in rles],
      (height, width)) if any(rles) else None
  return Detections(
      np.stack([y, x, y + h, x + w], 1).astype(np.float32),
      np.ones(len(rows), np.float32),
      np.array([row[1] for row in rows], np.int32), (height, width), masks,
      np.array([row[2] for row in rows], bool))


def draw(image: np.ndarray, found: Detections, names: Mapping[int, str],
         score_threshold: float, path: str, truth: Detections | None = None):
  """Draws detections into a PNG file; InputError if it cannot be written.

  Args:
    image: [H, W, 3] uint8, RGB; beyond an edge of 4096 pixels it is reduced.
    found: of the image.
    names: of the labels in `found`.
    score_threshold: detections below it are not drawn.
    path: of the file, written whole or not at all.
    truth: of `ground_truth`, to be drawn to the left of the detections.
  """
  edge = max(image.shape[:2])
  if edge > _LONGEST_EDGE:
    factor = _LONGEST_EDGE / edge
    image = cv2.resize(image, None, fx=factor, fy=factor,
                       interpolation=cv2.INTER_AREA)
    found = _scaled(found[found.scores >= score_threshold], factor, image)
    truth = None if truth is None else _scaled(truth, factor, image)
  picture = pictures.draw_detections(
      image, found, names, score_threshold, truth)
  with files.written_whole(path) as temporary:
    Image.fromarray(picture).save(temporary, 'png')


def _scaled(found, factor, image):
  """Detections in the image scaled by a factor."""
  return dataclasses.replace(
      found, boxes=found.boxes * factor, image_size=image.shape[:2],
      masks=None if found.masks is None
      else found.masks.windows().scaled(factor))
