"""A folder as the training of the tiny model leaves it, with random weights."""

import json

import numpy as np
from official.core import config_definitions as cfg
from official.modeling import hyperparams
import tensorflow as tf

from panet_tf.configs import panet
from panet_tf.training import task as task_lib
from tests.support import tiny


def spread_weights(model, size, seed=0):
  """Random weights whose scores and boxes differ by more than rounding.

  Every output layer is scaled to logits and deltas of a trained model's size.
  """
  rng = np.random.default_rng(seed)
  for variable in model.variables:
    if 'moving_variance' in variable.name or 'gamma' in variable.name:
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    elif variable.dtype.is_floating:
      fan_in = max(int(np.prod(variable.shape[:-1])), 1)
      variable.assign(rng.normal(
          scale=1 / np.sqrt(fan_in) if len(variable.shape) > 1 else 0.1,
          size=variable.shape))
  image = tf.constant(rng.normal(size=[1, *size, 3]), tf.float32)
  features = model.features(image)
  rpn_scores, rpn_boxes = model.rpn_head(features)
  for name, maps, wanted in (('rpn_head/scores', rpn_scores, 2.0),
                             ('rpn_head/boxes', rpn_boxes, 0.3)):
    _scale(model, name, np.concatenate(
        [np.ravel(x) for x in maps.values()]), wanted)
  boxes, _ = model.propose(features, tf.constant([size], tf.float32))
  logits, deltas = model.classify(features, boxes)
  _scale(model, 'class_logits', logits, 2.0)
  _scale(model, 'box_deltas', deltas, 1.0)
  if model.mask_head is not None:
    labels = tf.ones(tf.shape(boxes)[:2], tf.int32)
    masks = model.segment(features, boxes, labels)
    for name in ('classifier', 'mask_fc')[:1 + model.mask_head.fc_branch]:
      _scale(model, name, masks, 2.0)


def _scale(model, layer, values, wanted):
  """Scales the weights of an output layer whose outputs are `values`."""
  found = [v for v in model.variables if f'{layer}/' in v.name]
  assert found, layer
  for variable in found:
    variable.assign(variable * (wanted / np.std(values)))


def write_run(folder, model_params=None, category_ids=(3, 7, 20, 90)):
  """A folder as training leaves it; returns its path.

  Categories have ids that are not their labels.
  """
  params = cfg.ExperimentConfig(task=panet.PANetTask(
      model=model_params or tiny.params(),
      train_data=tiny.data_config(),
      validation_data=tiny.data_config(is_training=False)))
  model = task_lib.PANetTask(params.task).build_model()
  spread_weights(model, params.task.model.input_size[:2])
  tf.train.Checkpoint(model=model).write(str(folder / 'ckpt-1'))
  (folder / 'checkpoint').write_text(
      'model_checkpoint_path: "ckpt-1"\nall_model_checkpoint_paths: "ckpt-1"\n')
  hyperparams.save_params_dict_to_yaml(params, str(folder / 'params.yaml'))
  (folder / 'dataset.json').write_text(json.dumps({'categories': [
      {'label': label, 'id': category_id, 'name': f'thing {label}'}
      for label, category_id in enumerate(category_ids, 1)]}))
  return str(folder)
