"""What all predictors share, whichever runtime computes: no TensorFlow here."""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from panet_tf import errors
from panet_tf.structures import detections as detections_lib

Detections = detections_lib.Detections


class Detector(abc.ABC):
  """A model that runs on images of any size.

  Attributes:
    categories: {'label', 'id', 'name'} of each class, in order of label.
  """
  categories: list[dict[str, Any]]

  @abc.abstractmethod
  def _detect(self, image: np.ndarray) -> Detections:
    """`detect` of a valid image, at any score."""

  def _detect_many(self, images: list[np.ndarray]) -> list[Detections]:
    """`_detect` of each image; where it pays, of several at a time."""
    return [self._detect(image) for image in images]

  def detect(self, image: np.ndarray,
             score_threshold: float = 0.0) -> Detections:
    """Detects the objects of an image.

    Args:
      image: [H, W, 3] uint8, RGB.
      score_threshold: detections below it are left out.

    Returns:
      Detections, best score first, boxes in pixels of the image, float32. Masks
      are probabilities in the frames of the boxes; or windows, from voting,
      tiles and an export that pastes them.

    Raises:
      InputError: the image is something else, or empty.
    """
    return self.detect_many([image], score_threshold)[0]

  def detect_many(self, images: Sequence[np.ndarray],
                  score_threshold: float = 0.0) -> list[Detections]:
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
    return [found[found.scores >= score_threshold]
            for found in self._detect_many(images)]

  __call__ = detect
