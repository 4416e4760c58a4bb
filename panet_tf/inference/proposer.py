"""The RPN of a trained model: image in, proposals in its pixels out."""

import numpy as np
import tensorflow as tf

from panet_tf import runs
from panet_tf.configs import overrides as overrides_lib
from panet_tf.configs import resolve
from panet_tf.structures import detections


class Proposer:
  """An RPN, alone or of a whole model, on images of any size."""

  def __init__(self, model: str, num_proposals: int,
               overrides: overrides_lib.Overrides):
    """Loads a model that training wrote.

    Args:
      model: folder of a training, or one checkpoint in it; InputError if there
        is none, or it has no RPN.
      num_proposals: of an image, at most.
      overrides: of the configuration of the model.
    """
    run = runs.Run.read(model, overrides, 'propose')
    run.params = resolve.proposing(run.params, num_proposals)
    self._model = run.build_model()
    self._prepare = tf.function(run.parser.predict_image, input_signature=[
        tf.TensorSpec([None, None, 3], tf.uint8)])
    self._run = tf.function(self._propose)

  def _propose(self, pixels, image_info):
    boxes, scores = self._model.propose(
        self._model.features(pixels), self._model.im_info(image_info))
    return self._model.boxes.to_image(boxes, image_info)[0], scores[0]

  def __call__(self, image: np.ndarray) -> detections.Detections:
    """Boxes of an image [H, W, 3] uint8: all of label 1, best first."""
    height, width = image.shape[:2]
    boxes, scores = (x.numpy() for x in self._run(
        *(x[tf.newaxis] for x in self._prepare(image))))
    boxes = np.clip(boxes, 0, np.array([height, width] * 2, np.float32))
    present = (boxes[:, 2:] > boxes[:, :2]).all(1)  # Zeros fill the rows.
    return detections.Detections(
        boxes[present], scores[present], np.ones(present.sum(), np.int32),
        (height, width))
