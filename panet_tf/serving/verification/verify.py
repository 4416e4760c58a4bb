"""Proof that an exported model is the checkpoint it was made from.

A converter can succeed and be wrong, so no export is kept that was not run, in
its own runtime, on real images beside the checkpoint. No TensorFlow: both
sides are anything with `detect(image)`, see `inference.detector`.
"""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any

import numpy as np
import tqdm

from panet_tf import errors
from panet_tf import files
from panet_tf.serving.verification import matching

_BEST = 20  # Compared in each image where no score reaches the threshold.


class ExportMismatch(errors.InputError):
  """The export is not the checkpoint; one line with figure and image."""


@dataclasses.dataclass(frozen=True)
class Tolerance:
  """How far an export may be from its checkpoint.

  Attributes:
    matched: least share of the detections of either side, above the threshold,
      with a counterpart of the same class that is within all of the following.
    score: largest difference of scores.
    box_iou: least IoU of boxes.
    mask_iou: least IoU of masks, see `matching.mask_ious`.
    class_agreement: least share of one class among all pairs.
    box_pixels: largest difference of a box's edge in pixels of the original
      image, however far that was shrunk: what a caller gets. None: any.
  """
  matched: float
  score: float
  box_iou: float
  mask_iou: float
  class_agreement: float = 0.99
  box_pixels: float | None = None


# By kind of export.
TOLERANCES = {kind: Tolerance(**limits) for kind, limits in files.read_yaml(
    os.path.join(os.path.dirname(__file__), 'tolerances.yaml')).items()}


@dataclasses.dataclass(frozen=True)
class Figures:
  """What `compare` found, over all images.

  Attributes:
    images: number of images.
    compared: which detections, in words.
    reference_detections: number of the checkpoint's, of those.
    exported_detections: number of the export's.
    matched_reference: share of the former with a counterpart within tolerance,
      as the next one; 1 of none.
    matched_exported: share of the latter: less than 1 if some are invented.
    class_agreement: share of one class among all pairs at one place.
    box_iou_min: of pairs of one class, as all that follow; None without any.
    box_iou_mean: of the same pairs.
    mask_iou_min: None for a model without masks.
    mask_iou_mean: of the same pairs.
    score_difference: the largest.
    box_difference: the largest of an edge, in pixels of the original image.
    worst_image: the image with the worst of each figure, by name.
  """
  images: int
  compared: str
  reference_detections: int
  exported_detections: int
  matched_reference: float
  matched_exported: float
  class_agreement: float | None
  box_iou_min: float | None
  box_iou_mean: float | None
  mask_iou_min: float | None
  mask_iou_mean: float | None
  score_difference: float | None
  box_difference: float | None
  worst_image: dict[str, str]


# Name in Figures: name in Tolerance.
_SHARES = {'matched_reference': 'matched', 'matched_exported': 'matched',
           'class_agreement': 'class_agreement'}
_EXTREMES = {'score_difference': 'score', 'box_difference': 'box_pixels',
             'box_iou_min': 'box_iou', 'mask_iou_min': 'mask_iou'}
_AT_MOST = ('score', 'box_pixels')  # In the others more is better.


def compare(reference: Any, exported: Any, images: Sequence[np.ndarray],
            tolerance: Tolerance, threshold: float = 0.3,
            names: Sequence[str] | None = None) -> Figures:
  """Runs both on the same images and measures how much they differ.

  A detection is compared if its score reaches the threshold on either side, and
  its counterpart is looked for at all scores: 0.3001 beside 0.2999 is a
  difference of scores, and nothing is missing. Where no detection of either
  side reaches it, the best 20 of each image are compared instead.

  Args:
    reference: the checkpoint, with masks in the frames of the boxes.
    exported: its masks may be windows of the image.
    images: [H, W, 3] uint8 each.
    tolerance: what counts as matched.
    threshold: least score that is compared.
    names: of the images; None numbers them from 0.

  Raises:
    ExportMismatch: outputs that cannot be compared: a number that is not
      finite, masks on one side only; or no image.
  """
  if not len(images):
    raise ExportMismatch('--verify_images has no image to compare')
  names = names or [f'image {i}' for i in range(len(images))]
  measured = []
  for image, name in zip(tqdm.tqdm(
      images, 'verify', unit='image', mininterval=1.0), names, strict=True):
    sides = [_checked(side.detect(image), f'{whose} on {name}')
             for side, whose in ((reference, 'checkpoint'),
                                 (exported, 'export'))]
    if (sides[0].masks is None) != (sides[1].masks is None):
      raise ExportMismatch(
          f'{name}: only one of checkpoint and export gives detection_masks')
    measured.append(matching.measure(*sides))
  return _summarize(measured, names, tolerance, threshold)


def check(figures: Figures, tolerance: Tolerance, kind: str):
  """Raises ExportMismatch unless the figures of a kind are within tolerance."""
  if not figures.reference_detections + figures.exported_detections:
    raise ExportMismatch(
        f'{kind}: neither the checkpoint nor the export detects anything in '
        f'{figures.images} images, so nothing was compared; --verify_images '
        'must show objects that the model finds')
  wrong = _violations(figures, tolerance, _SHARES)
  if wrong:
    wrong += _violations(figures, tolerance, _EXTREMES)
    raise ExportMismatch(
        f'{kind}: the export is not the checkpoint: ' + '; '.join(wrong))


def _violations(figures, tolerance, names):
  """A text for each figure beyond its limit."""
  wrong = []
  for name, key in names.items():
    found, limit = getattr(figures, name), getattr(tolerance, key)
    if found is not None and not _within(found, limit, key):
      bound = 'at most' if key in _AT_MOST else 'at least'
      wrong.append(f'{name} is {found:.6g} where {bound} {limit:g} is needed '
                   f'({figures.worst_image[name]})')
  return wrong


def _within(value, limit, key):
  if limit is None:
    return True
  return value <= limit if key in _AT_MOST else value >= limit


def _checked(found, where):
  """The same detections; ExportMismatch for a number that is none."""
  cells = getattr(found.masks, 'probabilities', 0)  # Else they are booleans.
  for name, values in (
      ('boxes', found.boxes), ('scores', found.scores), ('masks', cells)):
    if not np.isfinite(values).all():
      raise ExportMismatch(
          f'{where}: detection_{name} has a number that is not finite')
  return found


def _summarize(measured, names, tolerance, threshold):
  """Figures of all images."""
  compared = f'scores from {threshold:g}'
  shown = [[side >= threshold for side in image.scores] for image in measured]
  if not any(side.any() for sides in shown for side in sides):
    compared = f'no score reaches {threshold:g}: best {_BEST} of each image'
    shown = [_best(image.scores) for image in measured]
  found = [_of_image(*each, tolerance) for each in zip(
      measured, shown, strict=True)]
  values, worst = {}, {}
  for name in _SHARES:
    hits, of = np.array([image[name] for image in found]).reshape(-1, 2).T
    values[name] = float(hits.sum() / of.sum()) if of.sum() else 1.0
    worst[name] = of - hits
  for name, key in _EXTREMES.items():
    pairs = [image['pairs'].get(key, np.empty(0)) for image in found]
    sign = 1 if key in _AT_MOST else -1
    worst[name] = [(sign * each).max(initial=-np.inf) for each in pairs]
    flat = np.concatenate([np.empty(0), *pairs])
    values[name] = float(sign * np.max(sign * flat)) if flat.size else None
    if name.endswith('_min'):
      values[f'{key}_mean'] = float(flat.mean()) if flat.size else None
  counts = [sum(int(sides[i].sum()) for sides in shown) for i in (0, 1)]
  return Figures(
      len(measured), compared, *counts, **values, worst_image={
          name: names[int(np.argmax(each))]
          for name, each in worst.items() if values[name] is not None})


def _best(scores):
  """Which detections of the two sides are the best, ties included."""
  least = max(np.sort(side)[-_BEST] if side.size >= _BEST else 0.0
              for side in scores)
  return [side >= least for side in scores]


def _of_image(pairs, shown, tolerance):
  """Shares of one image as (hits, of), and figures of the pairs shown."""
  sides = [side[index] for side, index in zip(
      shown, pairs.same.T, strict=True)]
  kept = sides[0] | sides[1]
  good = np.ones(len(kept), bool)
  for key, value in pairs.figures.items():
    good &= _within(value, getattr(tolerance, key), key)
  changed = shown[0][pairs.changed[:, 0]] | shown[1][pairs.changed[:, 1]]
  return {
      'matched_reference': ((good & sides[0]).sum(), shown[0].sum()),
      'matched_exported': ((good & sides[1]).sum(), shown[1].sum()),
      'class_agreement': (kept.sum(), kept.sum() + changed.sum()),
      'pairs': {key: value[kept] for key, value in pairs.figures.items()}}
