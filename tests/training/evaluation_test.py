"""Evaluation in training and `panet predict` find and paste the same."""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import runs
from panet_tf.configs import overrides
from panet_tf.evaluation import coco_evaluator
from panet_tf.inference import predictor
from tests.support import tiny


@pytest.mark.parametrize('legacy', [False, True])
def test_a_batch_of_evaluation_is_what_predict_writes(tiny_run, legacy):
  run = runs.Run.read(tiny_run, overrides.Overrides(params_override=(
      f'task.model.legacy_boxes={legacy},task.model.roi_align.use_xla=false')))
  config = run.model_config
  detector = predictor.Predictor(run)
  example, _ = tiny.example(3, height=40, width=50)
  ids = [category['id'] for category in run.categories]
  task = tiny.task(config)
  task.coco_metric = coco_evaluator.CocoEvaluator(
      {'images': [{'id': 3, 'height': 40, 'width': 50}], 'annotations': [],
       'categories': [{'id': i, 'name': str(i)} for i in ids]},
      include_mask=True, legacy_masks=config.legacy_boxes, category_ids=ids,
      max_detections=100)
  parse = run.parser.parse_fn(is_training=False)
  batch = tf.nest.map_structure(lambda x: tf.stack([x]), parse(example))
  step = tf.function(lambda *batch: task.validation_step(
      batch, detector._model))
  task.coco_metric.update_state(
      *step(*batch)[task.coco_metric.name])
  expected = detector.detect(example['image'].numpy())
  assert len(expected) > 5
  found, wanted = task.coco_metric.instances(), expected.to_coco(3, ids)
  assert [
      {'image_id': 3, 'category_id': ids[category], 'bbox': box, 'score': score,
       'segmentation': rle}
      for category, box, score, rle in zip(
          found.categories, found.boxes.round(3).tolist(),
          found.scores.round(6).tolist(), found.rles, strict=True)] == wanted
  assert sum(mask.sum() for mask in np.array(expected.masks.images())) > 100
