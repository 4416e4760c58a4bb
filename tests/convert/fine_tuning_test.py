"""Claims about training a model of the preset."""

import types

import numpy as np
import tensorflow as tf

from panet_tf import factory
from panet_tf.configs import panet
from panet_tf.modeling import panet_model
from tests.support import tiny


def model_config() -> panet.PANet:
  return tiny.group_params(
      legacy_boxes=True, rpn_normalization='none', norm_after_fc=False,
      norm_after_upconv=False, fc_relu=True,
      roi_align=panet.RoIAlign(aligned=False, use_xla=False),
      backbone=panet.Backbone(
          model_id=18, width_multiplier=0.5, frozen_stages=2,
          normalization='frozen'),
      pixels=panet.PixelsConfig(color_order='bgr', mean=[100.0, 110.0, 120.0],
                           stddev=[1.0, 1.0, 1.0]))


class Recorder:

  def apply_gradients(self, pairs):
    self.pairs = list(pairs)


def test_a_training_step_has_the_release_s_anchors_and_finite_gradients():
  images, labels = tiny.batch(model_config())
  task = tiny.task(model_config())
  model = task.build_model()
  assert isinstance(model, panet_model.PANetModel)
  n = model.features(images)
  for level, boxes in model.anchors(n).items():
    np.testing.assert_array_equal(labels['anchor_boxes'][level], boxes)
  recorder = Recorder()
  logs = task.train_step((images, labels), model, recorder)
  assert np.isfinite(logs['loss'])
  names = {v.name for v in model.trainable_variables}
  assert len(recorder.pairs) == len(names)
  assert not any('backbone' in name and 'norm' in name for name in names)
  for gradient, variable in recorder.pairs:
    assert np.all(np.isfinite(tf.convert_to_tensor(gradient))), variable.name


def test_an_evaluation_while_training_has_the_boxes_of_the_image():
  task = tiny.task(model_config())
  model = task.build_model()
  parse = tiny.parser(model_config(), False).parse_fn(is_training=False)
  images, labels = tf.nest.map_structure(
      lambda x: tf.stack([x]), parse(tiny.example(3, height=40, width=50)[0]))
  info = labels['image_info']
  scale = float(info[0, 2, 0])
  assert scale > 1.2
  task.coco_metric = types.SimpleNamespace(name='coco')
  _, predictions = task.validation_step((images, labels), model)['coco']
  boxes = model(images, image_shape=model.im_info(info), training=False)[
      'detection_boxes'].numpy()
  last = (np.any(boxes, -1, keepdims=True)) * np.float32([0, 0, 1, 1])
  np.testing.assert_allclose(
      predictions['detection_boxes'],
      np.minimum((boxes - last) / scale + last, [40, 50, 40, 50]), atol=1e-4)
  assert last.any()


def test_images_are_what_the_network_was_trained_on():
  images, labels = tiny.batch(model_config())
  pixels = tiny.example(1)[0]['image']
  height, width = (int(edge) for edge in labels['image_info'][0, 1])
  black = images[0, :height, :width] + [100.0, 110.0, 120.0]
  assert np.min(black) >= -1e-3 and np.max(black) <= 255.001
  # Means of channels do not feel flips and shifts much.
  mean = np.mean(np.asarray(pixels)[..., ::-1], (0, 1))
  assert np.all(np.abs(np.mean(black, (0, 1)) - mean) < 2)
  assert not np.any(images[0, height:])


def test_the_rpn_may_have_a_normalization_of_its_own():
  model = factory.build_panet(model_config())
  assert 'conv1/bias' in ''.join(w.name for w in model.rpn_head.weights)
  assert not any('norm' in w.name for w in model.rpn_head.weights)
  assert any('norm' in w.name for w in model.decoder.weights)
