"""One run of an experiment: strategy, task, Orbit's loop, resume."""

from collections.abc import Sequence
import os
from typing import Any

from official.common import distribute_utils
from official.core import config_definitions as cfg
from official.core import task_factory
from official.core import train_utils
from official.modeling import performance
import tensorflow as tf
import tf_keras

from panet_tf import errors
from panet_tf import files
from panet_tf import runs
from panet_tf.configs import checks
from panet_tf.configs import experiments
from panet_tf.configs import resolve
from panet_tf.data import tfrecord
from panet_tf.model_garden import training
from panet_tf.training import evaluate_shards
from panet_tf.training import progress
from panet_tf.training import task as _  # noqa: F401 - registers PANetTask


def run(experiment: str, mode: str, model_dir: str,
        config_files: Sequence[str] = (), params_override: str = '',
        tpu: str = ''):
  """Trains and evaluates.

  Args:
    experiment: registered name.
    mode: train, eval (with what `task.inference` says), train_and_eval,
      continuous_eval (evaluates checkpoints as another process writes them) or
      continuous_train_and_eval (evaluates after every checkpoint instead of
      every `validation_interval`).
    model_dir: checkpoints, summaries, params.yaml, metrics. A run found there
      is gone on with.
    config_files: YAML files, later ones win.
    params_override: YAML text; wins over the files.
    tpu: address of a TPU.

  Raises:
    InputError: for any mistake in the arguments, the data or the checkpoint.
  """
  params = experiments.read(experiment, config_files, params_override, tpu)
  params, info = prepare(params, mode)
  if mode == 'continuous_train_and_eval':
    mode = 'train_and_eval'
  if tf.train.latest_checkpoint(model_dir):
    runs.check_same_model(model_dir, params.as_dict()['task']['model'])
  elif mode == 'eval':
    raise errors.InputError(
        f'model_dir {model_dir} has no checkpoint to evaluate')
  if 'train' in mode:
    train_utils.serialize_config(params, model_dir)
    if info:
      files.write_json(os.path.join(model_dir, files.DATASET_INFO), info)
  if params.task.seed is not None:
    tf_keras.utils.set_random_seed(params.task.seed)
  if params.runtime.mixed_precision_dtype:
    performance.set_mixed_precision_policy(params.runtime.mixed_precision_dtype)
  strategy = distribute_utils.get_distribution_strategy(
      distribution_strategy=params.runtime.distribution_strategy,
      all_reduce_alg=params.runtime.all_reduce_alg,
      num_gpus=params.runtime.num_gpus,
      tpu_address=params.runtime.tpu)
  if mode == 'eval' and (not params.task.inference.is_plain
                         or params.task.validation_data.parser.pad_to):
    evaluate_shards.evaluate_shards(params, model_dir)
    return
  with strategy.scope():
    task = task_factory.get_task(params.task, logging_dir=model_dir)
  _run_loop(params, strategy, task, mode, model_dir)


def prepare(params: cfg.ExperimentConfig, mode: str
           ) -> tuple[cfg.ExperimentConfig, dict[str, Any] | None]:
  """Checks data and options for a mode, and fills in what the data set knows.

  Returns:
    The complete experiment, locked, and the data set's description, or None
    for shards that have none.

  Raises:
    InputError: for missing shards, damaged shards or an option out of range.
  """
  task: Any = params.task
  paths = [data.input_path for data in task.used_data(mode)]
  for path in paths:
    tfrecord.check_shards(tfrecord.shard_paths(path))
  path = paths[0]
  info = tfrecord.read_dataset_info(path)
  params = resolve.training(params, mode, info, path)
  checks.check(params, mode)
  params.validate()
  params.lock()
  return params, info


def _run_loop(params, strategy, task, mode, model_dir):
  """Hands everything to Orbit, through Model Garden's runner."""
  watch = progress.TrainProgress(
      params.trainer.train_steps, params.task.train_data.global_batch_size)
  runner = training.Runner(
      distribution_strategy=strategy, task=task, mode=mode, params=params,
      model_dir=model_dir,
      train_actions=[watch] if 'train' in mode else [])
  watch.start(runner.trainer.global_step)
  runner.run()
