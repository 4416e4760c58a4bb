"""`train.py --mode=eval` with what `task.inference` adds to one plain model.

Model Garden's loop evaluates a graph on batches of one canvas. Copies, voting
and ensembles need the image itself.
"""

import os
from typing import Any

from official.core import config_definitions as cfg
from official.core import task_factory
import tensorflow as tf

from panet_tf import files
from panet_tf import runs
from panet_tf.data import shards
from panet_tf.dataloaders import shard_images
from panet_tf.inference import predictor
from panet_tf.inference.suite import ensemble
from panet_tf.inference.suite import members
from panet_tf.training import progress


def evaluate_shards(params: cfg.ExperimentConfig,
                    model_dir: str) -> dict[str, float]:
  """Predicts the validation shards on one device, and prints COCO's metrics.

  They go to `metrics.json` in model_dir, and to TensorBoard where evaluation
  during training puts its own. The models are those of
  `task.inference.ensemble`, else the last checkpoint in model_dir.

  Returns:
    Metrics under Model Garden's names.

  Raises:
    InputError: a model, or shards of another annotation file.
  """
  options: Any = params.task
  task = task_factory.get_task(options)
  task.build_metrics(training=False)
  evaluator = task.coco_metric
  detector = _detector(params, model_dir)
  watch = progress.EvaluationProgress(evaluator.num_truth_images)
  data = options.validation_data
  for source_id, image in shard_images.source_images(
      shards.shard_paths(data.input_path), data.regenerate_source_id):
    evaluator.add_image(source_id, detector.detect(image))
    watch(evaluator.num_images)
  metrics = {name: float(x) for name, x in evaluator.result().items()}
  progress.print_metrics(metrics)
  _write(params, model_dir, metrics)
  return metrics


def _detector(params, model_dir):
  options = params.task.inference
  if options.ensemble:
    return ensemble.Ensemble(members.read_listed(options.ensemble, options))
  run = runs.Run(runs.find(model_dir), params, runs.read_info(model_dir))
  return predictor.Predictor(run) if options.is_plain else ensemble.Ensemble(
      [run])


def _write(params, model_dir, metrics):
  files.write_json(os.path.join(model_dir, 'metrics.json'), metrics)
  step = os.path.basename(runs.find(model_dir)).rpartition('-')[2]
  folder = os.path.join(model_dir, params.trainer.validation_summary_subdir)
  writer = tf.summary.create_file_writer(folder)
  with writer.as_default(int(step) if step.isdecimal() else 0):
    for name, value in metrics.items():
      tf.summary.scalar(name, value)
  writer.close()
