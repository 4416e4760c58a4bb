"""A model's stages on one copy of an image, in pixels of the image.

What test-time augmentation and ensembles put together in other ways than
`PANetModel.call` does: features, proposals, classification, masks.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from panet_tf import runs
from panet_tf.configs import panet as panet_config
from panet_tf.dataloaders import factory as input_factory
from panet_tf.dataloaders import image_scaling
from panet_tf.inference.suite import views
from panet_tf.modeling import panet_model
from panet_tf.modeling.proposals import portable_generators
from panet_tf.structures import detections


@dataclasses.dataclass
class Features:
  """N2..N6 of one copy.

  Attributes:
    maps: {'2'..'6'}: [1, h, w, C].
    im_info: of `PANetModel.im_info`, the copy's size without padding.
    view: the copy.
  """
  maps: dict[str, tf.Tensor]
  im_info: tf.Tensor
  view: views.View

  @property
  def num_bytes(self) -> int:
    """What they take in memory."""
    return sum(x.dtype.size * x.shape.num_elements()
               for x in self.maps.values())


@functools.cache
def prepare(canvas: tuple[int, int],
            pixels: image_scaling.Pixels = image_scaling.DEFAULT_PIXELS
           ) -> Callable[..., Any]:
  """A function of an image [H, W, 3] uint8 and its scale.

  It gives the network input [1, *canvas, 3] and image_info [1, 4, 2], float32.
  """

  @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8),
                                tf.TensorSpec([], tf.float32)],
               autograph=False)
  def on_canvas(image, scale):
    inputs, image_info = image_scaling.resize_to_canvas(
        image, scale, list(canvas), pixels=pixels)
    return inputs[tf.newaxis], image_info[tf.newaxis]

  return on_canvas


@functools.cache
def _suppression(**options):
  return tf.function(portable_generators.PortableDetectionGenerator(
      **options).suppress, autograph=False)


class Suppression:
  """The detections of a copy, from what `Stages.classify` gives."""

  def __init__(self, config: panet_config.PANet):
    """Reads the configuration of a model; its weights are not needed."""
    generator = config.detection_generator
    self._suppress = _suppression(**{
        name: getattr(generator, name) for name in (
            'pre_nms_top_k', 'pre_nms_score_threshold', 'nms_iou_threshold',
            'max_num_detections')})

  def __call__(self, boxes: np.ndarray, scores: np.ndarray,
               view: views.View) -> detections.Detections:
    """Detections of boxes [R, K, 4] and scores [R, K], best first, no masks.

    Suppressed in network-input pixels, as in a model that runs as a whole.
    """
    found = self._suppress(
        view.boxes_to_view(boxes).astype(np.float32)[np.newaxis],
        scores.astype(np.float32)[np.newaxis])
    suppressed = detections.Detections.from_outputs(
        {key: value[0].numpy() for key, value in found.items()},
        view.image_size)
    return dataclasses.replace(
        suppressed, boxes=view.boxes_to_image(suppressed.boxes))


class Stages:
  """One model, stage by stage. Boxes are float64, in pixels of the image.

  Each canvas is traced once. Every float32 number is the one that the model
  computes when it runs as a whole.
  """

  def __init__(self, model: panet_model.PANetModel,
               pixels: image_scaling.Pixels = image_scaling.DEFAULT_PIXELS):
    """Wraps a built model with its weights, and how it sees pixels."""
    self._model, self._pixels = model, pixels
    self._generator = portable_generators.PortableDetectionGenerator(
        **model.detection_generator.get_config())
    self._features = tf.function(model.features)
    self._propose = tf.function(model.propose)
    self._classify = tf.function(self._classified, autograph=False)
    self._segment = tf.function(self._segmented, autograph=False)

  @classmethod
  def from_run(cls, run: runs.Run) -> 'Stages':
    """Builds and restores the model of a run."""
    return cls(run.build_model(), input_factory.pixels_of(run.model_config))

  def features(self, image: np.ndarray, view: views.View) -> Features:
    """Features of a copy of an image [H, W, 3] uint8."""
    pixels, image_info = prepare(view.canvas, self._pixels)(
        image[:, ::-1] if view.flip else image, view.scale)
    return Features(
        self._features(pixels), self._model.im_info(image_info), view)

  def propose(self, features: Features) -> np.ndarray:
    """Proposals [R, 4]; zeros where the RPN has fewer."""
    boxes, _ = self._propose(features.maps, features.im_info)
    return features.view.boxes_to_image(boxes[0].numpy())

  def classify(self, features: Features,
               proposals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores of proposals [R, 4], of each class but the background.

    They are [R, K, 4] float64, clipped to the image, and [R, K] float32.
    """
    rois = features.view.boxes_to_view(proposals).astype(np.float32)
    boxes, scores = self._classify(
        features.maps, rois[np.newaxis], features.im_info)
    return features.view.boxes_to_image(boxes[0].numpy()), scores[0].numpy()

  def segment(self, features: Features, boxes: np.ndarray,
              classes: np.ndarray) -> np.ndarray:
    """Mask probabilities [N, M, M] of boxes [N, 4], not mirrored."""
    boxes = features.view.boxes_to_view(boxes).astype(np.float32)
    # As many at a time as the model segments when it runs as a whole.
    step = self._generator.get_config()['max_num_detections']
    masks = []
    for start in range(0, max(len(boxes), 1), step):
      part = boxes[start:start + step]
      missing = step - len(part)
      masks.append(self._segment(
          features.maps, features.im_info,
          np.pad(part, [(0, missing), (0, 0)])[np.newaxis],
          np.pad(np.int32(classes[start:start + step]), [0, missing])[
              np.newaxis])[0, :len(part)].numpy())
    return features.view.masks_to_image(np.concatenate(masks))

  def _segmented(self, maps, im_info, boxes, classes):
    return tf.sigmoid(self._model.segment(
        maps, self._model.boxes.to_network_ends(boxes, im_info), classes))

  def _classified(self, maps, rois, im_info):
    logits, deltas = self._model.classify(maps, rois)
    return self._generator.decode(
        deltas, logits, rois, im_info, portable_generators.BOX_WEIGHTS)
