"""What is borrowed by a private name is still there, and does what it did."""

import importlib.util
import inspect
import types

from absl import logging
import numpy as np
from official.core import config_definitions
from official.core import input_reader
from official.core import train_lib
from official.modeling import optimization
from official.vision.configs import retinanet
from official.vision.dataloaders import tf_example_decoder
from official.vision.modeling import maskrcnn_model
from official.vision.modeling.layers import detection_generator
from official.vision.modeling.layers import roi_generator
from official.vision.ops import nms as official_nms
from official.vision.tasks import maskrcnn
from orbit import controller
import pytest
import tensorflow as tf
import tf_keras

from panet_tf.model_garden import keras_layers
from panet_tf.model_garden import nms
from panet_tf.model_garden import records
from panet_tf.model_garden import training
from panet_tf.modeling import decoder as _  # noqa: F401 (registers its configuration)
from panet_tf.modeling.proposals import portable_generators


def parameters(function):
  return list(inspect.signature(function).parameters)


@pytest.mark.parametrize('owner, name, expected', [
    (maskrcnn.MaskRCNNTask, '_build_rpn_losses', ['self', 'outputs', 'labels']),
    (maskrcnn.MaskRCNNTask, '_build_frcnn_losses',
     ['self', 'outputs', 'labels']),
    (maskrcnn.MaskRCNNTask, '_build_coco_metrics', ['self']),
    (maskrcnn.MaskRCNNTask, 'train_step',
     ['self', 'inputs', 'model', 'optimizer', 'metrics']),
    (maskrcnn_model.MaskRCNNModel, 'call', [
        'self', 'images', 'image_shape', 'anchor_boxes', 'gt_boxes',
        'gt_classes', 'gt_masks', 'gt_outer_boxes', 'training']),
    (train_lib.OrbitExperimentRunner, '_maybe_build_checkpoint_manager',
     ['self']),
    (train_lib.OrbitExperimentRunner, '_build_trainer',
     ['self', 'task', 'train', 'evaluate']),
    (tf_keras.optimizers.legacy.Optimizer, '_create_all_weights',
     ['self', 'var_list']),
    (nms, '_loops', ['scores', 'boxes', 'max_output_size', 'iou_threshold']),
    (tf_example_decoder.TfExampleDecoder, '_decode_masks',
     ['self', 'parsed_tensors']),
    (input_reader.InputReader, '_read_data_source',
     ['self', 'matched_files', 'dataset_fn', 'input_context'])], ids=str)
def test_a_hook_has_the_arguments_it_had(owner, name, expected):
  assert parameters(getattr(owner, name)) == expected


def test_nms_by_loops_is_one_function_and_gives_the_same():
  rng = np.random.default_rng(0)
  corners = np.float32(rng.uniform(0, 60, [2, 90, 2]))
  boxes = tf.constant(np.concatenate(
      [corners, corners + np.float32(rng.uniform(4, 30, [2, 90, 2]))], -1))
  scores = tf.sort(tf.constant(
      rng.uniform(size=[2, 90]), tf.float32), direction='DESCENDING')
  nms.trace_once()

  @tf.function(autograph=False)
  def of_three_levels(scores, boxes):
    return [official_nms.sorted_non_max_suppression_padded(
        scores[:, :count], boxes[:, :count], 20, iou_threshold=0.5)
            for count in (90, 50, 90)]

  for found, count in zip(
      of_three_levels(scores, boxes), (90, 50, 90), strict=True):
    wanted = nms._loops(scores[:, :count], boxes[:, :count], 20, 0.5)
    for one, other in zip(found, wanted, strict=True):
      assert one.shape == other.shape and np.any(other)
      np.testing.assert_array_equal(one, other)
  graph = of_three_levels.get_concrete_function(scores, boxes).graph
  calls = [op for op in graph.get_operations() if 'PartitionedCall' in op.type]
  assert len({op.get_attr('f').name for op in calls}) == 1 and len(calls) == 3
  # Both of Model Garden's generators go through the name.
  for user in (detection_generator, roi_generator):
    assert user.nms is official_nms
    assert 'nms.sorted_non_max_suppression_padded(' in inspect.getsource(user)


def test_keras_makes_the_variance_plain_if_asked():
  x = tf.constant(np.random.default_rng(0).normal(size=[2, 1, 1, 4]),
                  tf.float32)
  variance = {}
  for plain in (False, True):
    layer = tf_keras.layers.BatchNormalization(momentum=0.0)
    if plain:
      keras_layers.plain_variance(layer)
    layer(x, training=True)
    variance[plain] = layer.moving_variance.numpy()
  np.testing.assert_allclose(
      variance[True], np.var(x, (0, 1, 2)), rtol=1e-5)
  np.testing.assert_allclose(variance[False], 2 * variance[True], rtol=1e-5)


def test_model_garden_s_models_know_the_decoder():
  config = retinanet.RetinaNet()
  config.decoder.override({'type': 'panet', 'panet': {'num_filters': 7}})
  assert config.decoder.get().num_filters == 7
  assert config.decoder.fpn.num_filters == 256


def test_orbit_prints_through_the_name_that_is_replaced(monkeypatch, capsys):
  spec = importlib.util.find_spec('orbit.controller')
  untouched = importlib.util.module_from_spec(spec)  # By a test before this.
  spec.loader.exec_module(untouched)
  untouched._log(message='printed')
  assert 'printed' in capsys.readouterr().out
  monkeypatch.setattr(controller, '_log', untouched._log)
  training.send_orbit_s_printout_to_the_log()
  assert controller._log == logging.info
  source = inspect.getsource(controller.Controller)
  assert source.count('_log(f"') > 3 and 'print(' not in source


@pytest.mark.parametrize('kind', ['sgd', 'sgd_experimental'])
def test_an_optimizer_has_its_variables_before_a_step(kind, monkeypatch):
  model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=[3])])
  optimizer = optimization.OptimizerFactory(optimization.OptimizationConfig({
      'optimizer': {'type': kind, kind: {'momentum': 0.9}},
      'learning_rate': {'type': 'constant'}})).build_optimizer(0.1)
  monkeypatch.setattr(
      train_lib.OrbitExperimentRunner, '_build_trainer',
      lambda *unused: types.SimpleNamespace(model=model, optimizer=optimizer))

  class Bare(training.Runner):
    def __init__(self):
      self.strategy = tf.distribute.get_strategy()

  Bare()._build_trainer(None, True, False)
  variables = optimizer.variables
  before = len(variables() if callable(variables) else variables)
  optimizer.apply_gradients([
      (tf.ones_like(v), v) for v in model.trainable_variables])
  assert len(variables() if callable(variables) else variables) == before > 2


def test_the_steps_of_a_task_go_through_the_public_names():
  """Model Garden's `build_losses`, `build_metrics` and `train_step`."""
  class Task(training.MaskRCNNTask):
    def rpn_losses(self, outputs, labels):
      return tf.constant(2.0), tf.constant(3.0)

    def box_losses(self, outputs, labels):
      return tf.constant(5.0), tf.constant(7.0)

    def coco_evaluator(self):
      return 'evaluator'

  config = maskrcnn.exp_cfg.MaskRCNNTask(
      model=maskrcnn.exp_cfg.MaskRCNN(num_classes=2, include_mask=False))
  task = Task(config)
  losses = task.build_losses({}, {})
  assert losses['rpn_score_loss'] == 2 and losses['rpn_box_loss'] == 3
  assert losses['frcnn_cls_loss'] == 5 and losses['frcnn_box_loss'] == 7
  assert task.build_metrics(training=False) == []
  assert task.coco_metric == 'evaluator'


def test_stored_proposals_reach_the_model_for_anchors():
  seen = {}

  class Model:
    losses, trainable_variables = [], []

    def __call__(self, images, **kwargs):
      seen.update(kwargs)
      raise StopIteration

  task = training.MaskRCNNTask(maskrcnn.exp_cfg.MaskRCNNTask(
      model=maskrcnn.exp_cfg.MaskRCNN(num_classes=2, include_mask=False)))
  labels = {'image_info': tf.zeros([1, 4, 2]), 'proposals': tf.ones([1, 3, 4]),
            'gt_boxes': 0, 'gt_classes': 0}
  with pytest.raises(StopIteration):
    task.train_step((tf.zeros([1]), labels), Model(), None)
  assert seen['anchor_boxes'] is labels['proposals'] and seen['training']


def test_a_record_s_own_features_and_masks_are_decoded():
  extra = {'extra': tf.io.FixedLenFeature([], tf.int64)}
  decoder = records.Decoder(
      False, extra, lambda parsed: parsed['extra'] + tf.constant(1, tf.int64))
  example = tf.train.Example(features=tf.train.Features(feature={
      'image/source_id': tf.train.Feature(
          bytes_list=tf.train.BytesList(value=[b'7'])),
      'image/encoded': tf.train.Feature(bytes_list=tf.train.BytesList(value=[
          tf.io.encode_png(tf.zeros([4, 5, 3], tf.uint8)).numpy()])),
      'extra': tf.train.Feature(int64_list=tf.train.Int64List(value=[41]))}))
  decoded = decoder.decode(example.SerializeToString())
  assert decoded['groundtruth_instance_masks'] == 42
  assert decoded['image'].shape == [4, 5, 3]


def test_every_worker_s_manager_looks_into_the_run_s_own_folder(tmp_path):
  """`restore_or_initialize` of a manager of another folder."""
  variable = tf.Variable(1.0)
  checkpoint = tf.train.Checkpoint(v=variable)
  tf.train.CheckpointManager(checkpoint, str(tmp_path), 1).save()
  variable.assign(2.0)
  runner = training.Runner.__new__(training.Runner)
  runner._model_dir = str(tmp_path)
  runner._trainer = types.SimpleNamespace(
      checkpoint=checkpoint, global_step=tf.Variable(0), initialize=None)
  runner._params = config_definitions.ExperimentConfig()
  runner.strategy = types.SimpleNamespace(
      extended=types.SimpleNamespace(should_checkpoint=False))
  manager = runner._maybe_build_checkpoint_manager()
  assert manager.directory != str(tmp_path)
  manager.restore_or_initialize()
  assert variable == 1.0


def test_weights_of_box_offsets_are_the_first_stage_s():
  source = inspect.getsource(maskrcnn_model.MaskRCNNModel.__init__)
  weights = source.split('_cascade_layer_to_weights = [')[1].split('],')[0]
  assert weights.strip() == str(portable_generators.BOX_WEIGHTS)[:-1]
