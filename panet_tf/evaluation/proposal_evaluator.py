"""Average recall of proposals, whatever their class.

As "Feature Pyramid Networks" (Table 1) measures an RPN: COCO's average recall
at 100 and at 1000 proposals per image, there also of objects of each size.
"""

import numpy as np

from panet_tf.evaluation import coco
from panet_tf.evaluation import coco_evaluator

LIMITS = (100, 300, 1000)
# COCO's, pixels; an object at a bound belongs to both sides.
_AREAS = {'': (0, 1e10), 's': (0, 32**2), 'm': (32**2, 96**2),
          'l': (96**2, 1e10)}
# COCOeval takes dictionaries, a kilobyte for each proposal.
_IMAGES_AT_A_TIME = 250


def average_recall(truth, results, limits=LIMITS):
  """Mean over IoU 0.5:0.95 of the share of objects with a proposal of theirs.

  A proposal is matched with one object at most, the best-scored first, as
  `COCOeval` does with useCats = 0. Crowds are no objects. Both are Instances;
  the limits are three ascending numbers of proposals per image.

  Returns:
    {'AR_100', 'AR_300', 'AR_1000', 'ARs_1000', 'ARm_1000', 'ARl_1000'}, by
    these limits, in 0..1; -1 where there is no object.
  """
  # Images in the place of categories: recall adds up over images.
  truth, results = (
      instances._replace(categories=instances.images // _IMAGES_AT_A_TIME)
      for instances in (truth, results))
  hits, objects = np.zeros([10, 4, 3]), np.zeros([4, 1])
  for part in np.unique(truth.categories):
    areas = truth.areas['bbox'][
        (truth.categories == part) & (truth.iscrowd == 0)]
    number = np.array([[np.sum((low <= areas) & (areas <= high))]
                       for low, high in _AREAS.values()])
    recall = coco.evaluate_category(
        truth, results, part, 'bbox', list(limits))['recall'][:, 0]
    hits += np.maximum(recall, 0) * number
    objects += number
  rows = np.where(objects, hits.mean(0) / np.maximum(objects, 1), -1.0)
  metrics = {f'AR_{limit}': rows[0, i] for i, limit in enumerate(limits)}
  for size, row in zip(list(_AREAS)[1:], rows[1:], strict=True):
    metrics[f'AR{size}_{limits[-1]}'] = row[-1]
  return {name: float(value) for name, value in metrics.items()}


class ProposalEvaluator(coco_evaluator.CocoEvaluator):
  """`CocoEvaluator` of an RPN, whose detections are of class 1."""

  def result(self):
    """Flat float32 metrics of `average_recall`."""
    return {name: np.float32(value) for name, value in average_recall(
        self._truth, self.instances()).items()}


def print_metrics(metrics):
  """All of `average_recall` in one line."""
  print('evaluation | ' + ' '.join(
      f'{name} {value:.3f}' for name, value in metrics.items()
      if name.startswith('AR')), flush=True)
