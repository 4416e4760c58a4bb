"""What all predictors give, whichever runtime computes.

The contract is the dictionary of `Detector.detect`. Its masks are probabilities
in the frame of their box; boolean images, from an export that pastes them; or
windows, from voting and tiles.
"""

from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from panet_tf.structures import legacy_masks
from panet_tf.structures import mask_windows as windows_lib
from panet_tf.structures import paste_masks

Detections = dict[str, np.ndarray]


def paste_as_the_release(detections, height, width):
  masks = detections.get('detection_masks')
  if isinstance(masks, np.ndarray) and masks.dtype != bool:
    detections['detection_masks'] = legacy_masks.paste(
        masks, detections['detection_boxes'], height, width)


def image_masks(detections: Detections, height: int, width: int) -> np.ndarray:
  """Masks of `Detector.detect`, [N, height, width] bool in the image."""
  masks = detections['detection_masks']
  if isinstance(masks, windows_lib.MaskWindows):
    return masks.images(height, width)
  if masks.dtype == bool:
    return masks
  return np.array(
      [paste_masks.paste_mask(mask, box, height, width) for mask, box in zip(
          masks, detections['detection_boxes'])], bool
  ).reshape(-1, height, width)


def mask_windows(detections: Detections, height: int,
                 width: int) -> windows_lib.MaskWindows:
  """Masks of `Detector.detect`, each in its window of the image."""
  masks = detections['detection_masks']
  if isinstance(masks, windows_lib.MaskWindows):
    return masks
  if masks.dtype == bool:
    return windows_lib.MaskWindows.from_images(masks)
  return windows_lib.MaskWindows.from_boxes(
      masks, detections['detection_boxes'], height, width)


def image_rles(detections: Detections, height: int,
               width: int) -> list[dict[str, Any]]:
  """Masks of `Detector.detect` as N COCO RLEs, see `paste_masks`."""
  masks = detections['detection_masks']
  if isinstance(masks, windows_lib.MaskWindows):
    return masks.rles(height, width)
  if masks.dtype != bool:
    return paste_masks.encode_masks(
        masks, detections['detection_boxes'], height, width)
  rles = (mask_utils.encode(np.asfortranarray(mask, np.uint8))
          for mask in masks)
  return [{'size': [height, width], 'counts': rle['counts'].decode('ascii')}
          for rle in rles]
