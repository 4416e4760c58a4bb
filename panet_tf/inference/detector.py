"""What all predictors share, whichever runtime computes: no TensorFlow here.

The contract is the dictionary of `Detector.detect`. Its masks are probabilities
in the frame of their box; boolean images, from an export that pastes them; or
windows, from voting and tiles.
"""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from panet_tf import errors
from panet_tf.structures import detections as detections_lib


class Detector(abc.ABC):
  """A model that runs on images of any size.

  Attributes:
    categories: {'label', 'id', 'name'} of each class, in order of label.
    legacy_masks: whether probabilities in the frame of a box are put into the
      image as the release does it, see `structures.legacy_masks`.
  """
  categories: list[dict[str, Any]]
  legacy_masks = False

  @abc.abstractmethod
  def _detect(self, image: np.ndarray) -> detections_lib.Detections:
    """`detect` of a valid image, at any score."""

  def _detect_many(self, images: list[np.ndarray]) -> list[detections_lib.Detections]:
    """`_detect` of each image; where it pays, of several at a time."""
    return [self._detect(image) for image in images]

  def detect(self, image: np.ndarray,
             score_threshold: float = 0.0) -> detections_lib.Detections:
    """Detections with masks as the model gives them.

    Args:
      image: [H, W, 3] uint8, RGB.
      score_threshold: detections below it are left out.

    Returns:
      detection_boxes [N, 4] yxyx in original pixels, detection_scores [N],
      detection_classes [N] labels from 1, float32 / float32 / int32; with a
      mask branch detection_masks [N, 28, 28] float32, probabilities in the
      frame of the box, [N, H, W] bool, or `MaskWindows`. Best score first.

    Raises:
      InputError: the image is something else, or empty.
    """
    return self.detect_many([image], score_threshold)[0]

  def detect_many(self, images: Sequence[np.ndarray],
                  score_threshold: float = 0.0) -> list[detections_lib.Detections]:
    """`detect` of several images, which may have several sizes.

    A model that takes batches gets as many as have one canvas.
    """
    images = [np.asarray(image) for image in images]
    for image in images:
      if (image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8
          or not image.size):
        raise errors.InputError(
            f'image is {image.dtype} {image.shape}; it must be uint8 '
            '[height, width, 3]')
    found = [{key: value[one['detection_scores'] >= score_threshold]
              for key, value in one.items()}
             for one in self._detect_many(images)]
    if self.legacy_masks:
      for image, one in zip(images, found):
        detections_lib.paste_as_the_release(one, *image.shape[:2])
    return found

  def __call__(self, image: np.ndarray,
               score_threshold: float = 0.0) -> detections_lib.Detections:
    """As `detect`, but detection_masks are [N, H, W] bool, full image."""
    detections = self.detect(image, score_threshold)
    if 'detection_masks' in detections:
      detections['detection_masks'] = detections_lib.image_masks(detections, *image.shape[:2])
    return detections
