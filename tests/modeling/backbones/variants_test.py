"""Every backbone of the paper trains and is exported, within a whole PANet."""

import numpy as np
from official.core import config_definitions as cfg
import pytest
import tensorflow as tf
import tf_keras

from panet_tf import factory
from panet_tf import runs
from panet_tf.configs import panet
from panet_tf.inference import preprocessing
from panet_tf.inference.exported import model_info
from panet_tf.modeling.backbones import resnet
from panet_tf.serving import export_module
from panet_tf.serving.formats import saved_model
from tests.support import tiny
from tests.support import tiny_run

VARIANTS = {
    'resnext': dict(name='resnext101_64x4d'),
    'senet': dict(name='senet154'),
    'deformable': dict(model_id=50, deformable_stages=[3, 4, 5]),
    'modulated': dict(name='se_resnext101_32x4d', deformable_stages=[4, 5],
                      modulated=True),
}


@pytest.fixture(name='params', params=VARIANTS)
def make_params(request, monkeypatch):
  """A variant with few blocks, an eighth as wide."""
  fields = VARIANTS[request.param]
  key = fields.get('name') or fields['model_id']
  monkeypatch.setitem(
      resnet.DESIGNS, key, resnet.DESIGNS[key]._replace(blocks=(1, 1, 2, 1)))
  return tiny.params(
      backbone=panet.Backbone(width_multiplier=0.125, **fields))


class Optimizer(tf_keras.optimizers.SGD):
  """Refuses what is no gradient."""

  def apply_gradients(self, pairs, *args, **kwargs):
    pairs = list(pairs)
    for gradient, variable in pairs:
      assert gradient is not None, variable.name
      gradient = np.asarray(tf.convert_to_tensor(gradient))
      assert np.isfinite(gradient).all(), variable.name
      # Behind kernels of zeros nothing arrives at first.
      assert gradient.any() or '/offset/' in variable.name, variable.name
    return super().apply_gradients(pairs, *args, **kwargs)


def test_two_steps_of_training_have_finite_gradients_everywhere(params):
  task = tiny.task(params)
  model = task.build_model()
  before = {v.name: v.numpy() for v in model.backbone.trainable_variables}
  optimizer, batch = Optimizer(1e-3), tiny.batch()
  for _ in range(2):
    assert np.isfinite(task.train_step(batch, model, optimizer)['loss'])
  still = [v.name for v in model.backbone.trainable_variables
           if (v.numpy() == before[v.name]).all()]
  assert not still


def test_backbone_is_saved_for_maps_of_any_size(params, tmp_path):
  backbone = factory.build_backbone(params)
  for variable in backbone.variables:
    if '/offset/' in variable.name:
      variable.assign(tf.random.normal(variable.shape, stddev=.1))
  module = tf.Module()
  module.variables_of_backbone = backbone.variables
  tf.saved_model.save(module, str(tmp_path), tf.function(
      lambda x: backbone(x, training=False), input_signature=[
          tf.TensorSpec([None, None, None, 3])]).get_concrete_function(),
                      tf.saved_model.SaveOptions(
                          experimental_custom_gradients=False))
  loaded = tf.saved_model.load(str(tmp_path)).signatures['serving_default']
  for size in ((64, 64), (32, 96)):
    images = tf.random.normal([2, *size, 3])
    wanted, found = backbone(images), loaded(images)
    assert set(found) == {'2', '3', '4', '5'}
    for level, c in wanted.items():
      np.testing.assert_allclose(
          found[level], c, rtol=0, atol=1e-4 * np.abs(c).max())


@pytest.mark.parametrize('params', ['modulated'], indirect=True)
def test_the_whole_model_is_exported_as_it_predicts(params, images, tmp_path):
  params.include_mask = False
  task = tiny.task(params)
  model = task.build_model()
  tiny_run.spread_weights(model, [tiny.SIZE] * 2)
  checkpoint = tf.train.Checkpoint(model=model).write(str(tmp_path / 'ckpt'))
  categories = [{'label': i, 'id': i, 'name': str(i)}
                for i in range(1, tiny.NUM_CLASSES)]
  module = export_module.ExportModule(runs.Run(
      checkpoint, cfg.ExperimentConfig(task=task.task_config),
      {'categories': categories}))
  saved_model.write(module, model_info.ModelInfo(
      categories, preprocessing.Preprocessing.from_dict(
          module.parser.eval_rule())), str(tmp_path / 'exported'))
  loaded = tf.saved_model.load(str(tmp_path / 'exported'))
  found = loaded.signatures['image_tensor'](inputs=images[0][np.newaxis])
  image, info = module.parser.eval_image(images[0])
  wanted = module.network(image[np.newaxis], info[np.newaxis])
  assert wanted['num_detections'][0] > 0
  for key, value in wanted.items():
    np.testing.assert_allclose(
        found[key], value, rtol=0, atol=0.05 if key == 'detection_boxes'
        else 1e-4, err_msg=key)
