"""A trained model for a person: image in, detections in its pixels out."""

import tensorflow as tf

from panet_tf import runs
from panet_tf.inference import detector
from panet_tf.structures import detections


class Predictor(detector.Detector):
  """Runs a checkpoint on images of any size."""

  def __init__(self, run: runs.Run):
    """Restores the model; InputError if it, or its data set, does not fit."""
    self.categories = run.categories
    self._legacy_masks = run.model_config.legacy_boxes
    self._model = run.build_model()
    self._parser = run.parser
    self._prepare = tf.function(self._parser.predict_image, input_signature=[
        tf.TensorSpec([None, None, 3], tf.uint8)])
    self._run = tf.function(self._model.detect)
    self._batch_sizes = set()  # That it was traced, and compiled, for.

  def _detect(self, image):
    return self._detect_many([image])[0]

  def _detect_many(self, images):
    if self._parser.pad_to and len(images) > 1:  # Canvases of their own.
      return [self._detect(image) for image in images]
    # The last, smaller batch of a run is filled up instead of compiled anew.
    size = min((size for size in self._batch_sizes if size >= len(images)),
               default=len(images))
    self._batch_sizes.add(size)
    filled = list(images) + list(images[-1:]) * (size - len(images))
    pixels, image_info = zip(
        *(self._prepare(image) for image in filled), strict=True)
    found = {key: value.numpy() for key, value in self._run(
        tf.stack(pixels), tf.stack(image_info)).items()}
    return [detections.Detections.from_outputs(
        {key: value[i] for key, value in found.items()}, image.shape[:2],
        self._legacy_masks) for i, image in enumerate(images)]
