"""Claims about the model's stages: chained, they are the model."""

import numpy as np
from official.vision.modeling import maskrcnn_model
import pytest
import tensorflow as tf

from panet_tf import factory
from panet_tf.modeling import panet_model
from tests.support import tiny

_DELTA_WEIGHTS = [10., 10., 5., 5.]
DETECTIONS = ('detection_boxes', 'detection_scores', 'detection_classes',
              'num_detections')


def build(**overrides):
  """A model whose random outputs are far apart, so that no order is chance."""
  tf.random.set_seed(0)
  model = factory.build_panet(tiny.params(**overrides))
  for layer in (model.rpn_head.scores, model.rpn_head.boxes,
                model.detection_head[0].class_logits,
                model.detection_head[0].box_deltas):
    layer.kernel.assign(tf.random.normal(layer.kernel.shape, stddev=0.3))
  return model


@pytest.fixture(name='images', scope='module')
def fixture_images():
  rng = np.random.default_rng(0)
  return tf.constant(rng.normal(size=[2, 64, 64, 3]), tf.float32)


@pytest.fixture(name='model', scope='module')
def fixture_model(images):
  """Centred logits, so that boxes differ in their likeliest class."""
  model = build()
  n = model.features(images)
  logits, _ = model.classify(n, model.propose(n, SHAPE)[0])
  logits -= tf.reduce_mean(logits, [0, 1])
  last = model.detection_head[0].class_logits
  scale = 1 / tf.math.reduce_std(logits)
  last.kernel.assign(scale * last.kernel)
  logits, _ = model.classify(n, model.propose(n, SHAPE)[0])
  last.bias.assign(-tf.reduce_mean(logits, [0, 1]))
  return model


SHAPE = tf.constant([[64., 64.], [48., 64.]])


def chain(model, images):
  """The four stages, one by one."""
  n = model.features(images)
  boxes, _ = model.propose(n, SHAPE)
  class_logits, box_deltas = model.classify(n, boxes)
  found = model.detection_generator(
      box_deltas, class_logits, boxes, SHAPE, _DELTA_WEIGHTS,
      bbox_per_class=True)
  if model.mask_head is not None:
    found['detection_masks'] = tf.sigmoid(model.segment(
        n, found['detection_boxes'], found['detection_classes']))
  return found


def test_the_chained_stages_equal_the_model(model, images):
  outputs = model(images, image_shape=SHAPE, training=False)
  found = chain(model, images)
  assert (outputs['num_detections'].numpy() == 10).all()
  assert len(set(outputs['detection_classes'].numpy().ravel())) > 1
  assert np.ptp(outputs['detection_scores'].numpy()) > 0.05
  for key in DETECTIONS + ('detection_masks',):
    np.testing.assert_allclose(found[key], outputs[key], atol=1e-5)
  assert outputs['detection_masks'].shape == [2, 10, 28, 28]


@pytest.mark.parametrize('legacy', [False, True])
def test_detections_are_those_of_model_garden_s_inference(images, legacy):
  """Bit for bit, in network-input pixels; `detect` divides by the scale."""
  model = build(legacy_boxes=legacy)
  info = tf.constant([[[32, 32], [64, 64], [2, 2], [0, 0]],
                      [[24, 32], [48, 64], [2, 2], [0, 0.]]])
  shape = model.im_info(info)
  expected = maskrcnn_model.MaskRCNNModel.call(
      model, images, shape, model.anchors(model.features(images)),
      training=False)
  found = model(images, shape, training=False)
  assert set(found) == {*DETECTIONS, 'detection_masks'}
  for key, value in found.items():
    np.testing.assert_array_equal(value, expected[key])
  in_image = model.detect(images, info)
  np.testing.assert_array_equal(
      in_image.pop('detection_boxes'),
      model.boxes.to_image(found.pop('detection_boxes'), info))
  for key, value in found.items():
    np.testing.assert_array_equal(in_image[key], value)


def test_parts_of_the_way_can_be_exchanged(model, images):
  n = model.features(images)
  proposals, _ = model.propose(n, SHAPE)
  found = model.run_stages(
      images, SHAPE, proposals=proposals[:, :3],
      masks=lambda features, found: (features['2'], found['detection_boxes']))
  assert found['num_detections'][0] <= 3 * 4
  np.testing.assert_array_equal(found['detection_masks'][0], n['2'])
  np.testing.assert_array_equal(
      found['detection_masks'][1], found['detection_boxes'])
  again = model.run_stages(images, SHAPE, proposals=proposals)
  for key, value in model.run_stages(
      images, SHAPE, model.anchors(n)).items():
    np.testing.assert_array_equal(again[key], value)


def test_features_are_levels_2_to_6(model, images):
  n = model.features(images)
  assert {level: x.shape[1:] for level, x in n.items()} == {
      str(level): [64 // 2**level, 64 // 2**level, 16]
      for level in range(2, 7)}


def test_features_use_the_batch_s_statistics_only_on_demand(model, images):
  before = [w.numpy() for w in model.non_trainable_weights]
  still, moving = (model.features(images, training=t)['5']
                   for t in (False, True))
  assert np.abs(still - moving).max() > 1e-3
  for weight, value in zip(model.non_trainable_weights, before, strict=True):
    weight.assign(value)


def test_proposals_lie_in_the_visible_part_and_are_sorted(model, images):
  boxes, scores = model.propose(model.features(images), SHAPE)
  assert boxes.shape == [2, 24, 4] and scores.shape == [2, 24]
  assert (boxes.numpy() >= 0).all()
  assert (boxes.numpy()[0, :, 2:] <= 64).all()
  assert (boxes.numpy()[1, :, 2] <= 48).all()
  assert (boxes.numpy()[0, :, 2] > 48).any()
  assert (np.diff(scores) <= 1e-6).all()


def test_a_box_is_classified_alike_in_any_company(model, images):
  n = model.features(images)
  boxes, _ = model.propose(n, SHAPE)
  logits, deltas = model.classify(n, boxes)
  assert logits.shape == [2, 24, 5] and deltas.shape == [2, 24, 20]
  some_logits, some_deltas = model.classify(n, boxes[:, 5:9])
  np.testing.assert_allclose(some_logits, logits[:, 5:9], atol=1e-5)
  np.testing.assert_allclose(some_deltas, deltas[:, 5:9], atol=1e-5)


def test_masks_are_those_of_the_given_class(model, images):
  n = model.features(images)
  boxes, _ = model.propose(n, SHAPE)
  ones = tf.ones([2, 24], tf.int32)
  first, second = (model.segment(n, boxes, k * ones) for k in (1, 2))
  assert first.shape == [2, 24, 28, 28]
  assert np.abs(first - second).max() > 1e-3
  mixed = model.segment(n, boxes, tf.concat([ones[:, :7], 2 * ones[:, 7:]], 1))
  np.testing.assert_allclose(mixed[:, :7], first[:, :7], atol=1e-5)
  np.testing.assert_allclose(mixed[:, 7:], second[:, 7:], atol=1e-5)


def test_from_config_shares_the_parts(model, images):
  again = panet_model.PANetModel.from_config(model.get_config())
  assert isinstance(again, panet_model.PANetModel)
  assert again.backbone is model.backbone and again.mask_head is model.mask_head
  a, b = (m(images, image_shape=SHAPE, training=False) for m in (model, again))
  for key in DETECTIONS + ('detection_masks',):
    np.testing.assert_array_equal(a[key], b[key])


def test_a_model_without_mask_branch_detects_and_says_so(images):
  model = build(include_mask=False)
  outputs = model(images, image_shape=SHAPE, training=False)
  assert 'detection_masks' not in outputs
  found = chain(model, images)
  for key in DETECTIONS:
    np.testing.assert_allclose(found[key], outputs[key], atol=1e-5)
  with pytest.raises(ValueError, match='no mask branch.*include_mask'):
    model.segment(model.features(images), tf.zeros([2, 1, 4]),
                  tf.ones([2, 1], tf.int32))
