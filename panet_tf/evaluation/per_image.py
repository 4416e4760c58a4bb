"""Which images a model does badly on: AP50 and the errors of each one.

COCO's AP is of a whole data set; a person who looks for what goes wrong wants
to see the worst images first. The matching is COCO's (pycocotools,
`COCOeval.evaluateImg`) at IoU 0.5; the kinds of errors follow TIDE (Bolya et
al., 2020), less its errors of location, which are false positives here.
"""

from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

from panet_tf.evaluation import coco_instances

_IOU = 0.5
_RECALLS = np.linspace(0, 1, 101)


class ImageScore(NamedTuple):
  """How well one image is detected.

  Attributes:
    ap50: mean of COCO's AP at IoU 0.5 over the classes that have a truth other
      than a crowd in this image, of all detections; None where none has.
    truths: objects that are to be found: all but crowds.
    false_positives: detections that are none of the below.
    missed: truths that no detection takes, of its class or of another.
    wrong_class: detections of no truth of their class, with an IoU of at least
      0.5 with a truth of another class that is not found; each such truth is
      taken once, by the detection with the best score.
    duplicates: other detections that overlap a found truth of their class.
  """
  ap50: float | None
  truths: int
  false_positives: int
  missed: int
  wrong_class: int
  duplicates: int

  @property
  def errors(self) -> int:
    """All of them; an object of a wrong class is one error."""
    return (self.false_positives + self.missed + self.wrong_class
            + self.duplicates)


def image_scores(ground_truth, results,
                 score_threshold: float) -> dict[Any, ImageScore]:
  """Scores each image for itself.

  Overlaps are of masks if all annotations and all results have one, else of
  boxes. As COCO has it, a detection without a truth that lies in a crowd region
  of its class (at least half of it) counts as nothing. Unlike COCO, all
  detections of a class count, not the best 100: nuclei have up to 375.

  Args:
    ground_truth: dict, COCO instances, by whose image ids scores come back.
    results: list of COCO results.
    score_threshold: errors are those of the detections with at least this
      score, and of the truths they leave; AP takes all.

  Raises:
    InputError: an item of an unknown image or category, or without a
      segmentation that is needed.
  """
  annotations = ground_truth['annotations']
  of_masks = all(item.get('segmentation')
                 for items in (annotations, results) for item in items)
  truth = coco_instances.from_items(
      annotations, 'annotation', ground_truth, of_masks)
  found = coco_instances.from_items(results, 'result', ground_truth, of_masks)
  images = coco_instances.images_of(ground_truth)
  # Each image's truths in their order, its detections with the best one first.
  orders = (np.argsort(truth.images, kind='stable'),
            np.lexsort([-found.scores, found.images]))
  places = [
      np.split(order, np.cumsum(np.bincount(
          instances.images, minlength=len(images)))[:-1])
      for instances, order in zip((truth, found), orders, strict=True)]
  return {image: _image_score(truth, found, *own, of_masks=of_masks,
                              score_threshold=score_threshold)
          for image, *own in zip(images, *places, strict=True)}


def _image_score(truth, found, truths, detections, of_masks, score_threshold):
  """The score of one image, whose instances are at these places."""
  crowd = truth.iscrowd[truths] > 0
  ious = _ious(found, detections, truth, truths, crowd, of_masks)
  wanted, labels = truth.categories[truths], found.categories[detections]
  same = labels[:, None] == wanted
  matches = _matches(np.where(same, ious, 0), crowd)
  shown = matches[found.scores[detections] >= score_threshold]
  missed = ~crowd
  missed[shown[shown >= 0]] = False
  wrong, twice, false = 0, 0, 0
  for detection in np.flatnonzero(shown < 0):
    overlap = ious[detection]
    others = np.where(missed & ~same[detection], overlap, 0)
    if others.max(initial=0) >= _IOU:
      missed[others.argmax()] = False
      wrong += 1
    elif (overlap[same[detection]] >= _IOU).any():
      twice += 1
    else:
      false += 1
  in_crowd = (matches >= 0) & np.append(crowd, False)[matches]
  aps = [_average_precision(matches[(labels == label) & ~in_crowd] >= 0,
                            np.count_nonzero(wanted[~crowd] == label))
         for label in np.unique(wanted[~crowd])]
  return ImageScore(float(np.mean(aps)) if aps else None,
                    int(np.sum(~crowd)), false, int(np.sum(missed)), wrong,
                    twice)


def _ious(found, detections, truth, truths, crowd, of_masks):
  """[D, G]; with a crowd, the part of the detection that lies in it."""
  if not detections.size or not truths.size:
    return np.zeros([detections.size, truths.size])

  shapes: Any = [
      [own.rles[place] for place in places] if of_masks else own.boxes[places]
      for own, places in ((found, detections), (truth, truths))]
  return mask_utils.iou(shapes[0], shapes[1], crowd.astype(np.uint8))


def _matches(ious, crowd):
  """COCO's matching: the truth [D] that each detection gets, or -1.

  IoUs are [D, G], best detection first, 0 where the classes differ. Crowds [G]
  are for those who get nothing else, and for any number of them.
  """
  matches = np.full(len(ious), -1)
  free = np.ones(crowd.size, bool)
  for detection in np.flatnonzero((ious >= _IOU).any(axis=1)):
    able = (ious[detection] >= _IOU) & free
    able = able & ~crowd if (able & ~crowd).any() else able
    if able.any():
      # The last of equals, as COCOeval.
      best = crowd.size - 1 - np.where(able, ious[detection], 0)[::-1].argmax()
      matches[detection] = best
      free[best] = crowd[best]
  return matches


def _average_precision(hits, num_truths):
  """COCO's AP of detections [D] bool, best first: 101 points of recall."""
  found = np.cumsum(hits)
  precision = found / np.arange(1, hits.size + 1)
  precision = np.maximum.accumulate(precision[::-1])[::-1]
  places = np.searchsorted(found / num_truths, _RECALLS)
  return np.append(precision, 0)[places].mean()
