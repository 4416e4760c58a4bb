"""Average recall against pycocotools, which knows how to forget classes."""

import contextlib
import io

import numpy as np
from pycocotools import coco as pycoco
from pycocotools import cocoeval
import pytest

from panet_tf.evaluation import coco_instances
from panet_tf.evaluation import proposal_evaluator


def scene(num_images=7, seed=0):
  """Ground truth with crowds and three classes, and near and far proposals."""
  rng = np.random.default_rng(seed)
  images = [{'id': i, 'height': 400, 'width': 400} for i in range(num_images)]
  annotations, results = [], []
  for image in images[1:]:  # The first has no object.
    for _ in range(rng.integers(1, 9)):
      side = float(rng.choice([20, 32, 60, 96, 150]))
      x, y = rng.uniform(0, 240, 2)
      box = [x, y, side, side]
      annotations.append({
          'id': len(annotations) + 1, 'image_id': image['id'],
          'category_id': int(rng.choice([3, 5, 8])), 'bbox': box,
          'area': side * side, 'iscrowd': int(rng.random() < 0.1)})
      for _ in range(rng.integers(0, 3)):
        results.append((image['id'], np.add(
            box, rng.normal(0, 0.08 * side, 4))))
  for image in images:
    results += [(image['id'], rng.uniform(1, 200, 4)) for _ in range(20)]
  results = [{'image_id': i, 'category_id': 3, 'bbox': list(map(float, box)),
              'score': float(score)}
             for (i, box), score in zip(results, rng.permutation(
                 len(results)), strict=True)]
  return {'images': images, 'annotations': annotations, 'categories': [
      {'id': i, 'name': str(i)} for i in (3, 5, 8)]}, results


def expected(truth, results, limits):
  with contextlib.redirect_stdout(io.StringIO()):
    known = pycoco.COCO()
    known.dataset = truth
    known.createIndex()
    evaluation = cocoeval.COCOeval(known, known.loadRes(results), 'bbox')
    evaluation.params.useCats = 0
    evaluation.params.maxDets = list(limits)
    evaluation.evaluate()
    evaluation.accumulate()
  recall = evaluation.eval['recall'][:, 0].mean(0)  # [areas, limits]
  return [*recall[0], *recall[1:, -1]]


@pytest.mark.parametrize('at_a_time', [250, 2])
@pytest.mark.parametrize('limits', [(100, 300, 1000), (2, 5, 12)])
def test_recall_is_that_of_pycocotools(limits, at_a_time, monkeypatch):
  monkeypatch.setattr(proposal_evaluator, '_IMAGES_AT_A_TIME', at_a_time)
  truth, results = scene()
  found = proposal_evaluator.average_recall(*(
      coco_instances.from_items(items, noun, truth, False)
      for items, noun in ((truth['annotations'], 'annotation'),
                          (results, 'result'))), limits)
  assert list(found) == [
      *(f'AR_{n}' for n in limits),
      *(f'AR{size}_{limits[-1]}' for size in 'sml')]
  values = list(found.values())
  np.testing.assert_allclose(values, expected(truth, results, limits),
                             atol=1e-9)
  assert 0 < min(values) and max(values) < 1 and len(set(values)) >= 4


def test_the_evaluator_measures_boxes_of_any_class(capsys):
  truth = {
      'images': [{'id': 'a', 'height': 40, 'width': 60}],
      'categories': [{'id': 7, 'name': 'cat'}, {'id': 9, 'name': 'dog'}],
      'annotations': [{'id': 1, 'image_id': 'a', 'category_id': 9,
                       'bbox': [20, 10, 30, 20], 'area': 600, 'iscrowd': 0},
                      {'id': 2, 'image_id': 'a', 'category_id': 7,
                       'bbox': [0, 0, 10, 10], 'area': 100, 'iscrowd': 0}]}
  evaluator = proposal_evaluator.ProposalEvaluator(
      truth, include_mask=False, max_detections=10, category_ids=[7, 9])
  # IoU 1, 0.8 and nothing.
  evaluator.update_state(None, {
      'source_id': np.array(['a']),
      'image_info': np.float32([[[40, 60], [80, 120], [2, 2], [0, 0]]]),
      'detection_boxes': np.float32(
          [[[10, 20, 30, 50], [0, 0, 8, 10], [0, 0, 10, 10]]]),
      'detection_scores': np.float32([[.9, .8, .7]]),
      'detection_classes': np.array([[1, 1, 1]]),
      'num_detections': np.array([2])})
  found = evaluator.result()
  # Thresholds 0.5 to 0.8, 7 of 10, find the second one.
  assert found['AR_100'] == pytest.approx((1 + .7) / 2)
  assert found['ARs_1000'] == found['AR_1000'] == found['AR_100']
  assert found['ARm_1000'] == found['ARl_1000'] == -1
  proposal_evaluator.print_metrics(found)
  assert 'AR_100 0.850 AR_300 0.850 AR_1000 0.850' in capsys.readouterr().out
