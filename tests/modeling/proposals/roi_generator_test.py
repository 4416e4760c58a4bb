"""Proposals of maps whose size is unknown while the graph is made."""

import numpy as np
from official.vision.modeling.layers import roi_generator as official
from official.vision.ops import anchor
import pytest
import tensorflow as tf

from panet_tf.modeling.proposals import roi_generator


def maps(height, width):
  """Random raw outputs and anchors of an image, and its size."""
  rng = np.random.default_rng(0)
  anchors = anchor.Anchor(
      min_level=2, max_level=6, num_scales=1, aspect_ratios=[0.5, 1.0, 2.0],
      anchor_size=4.0, image_size=(height, width)).multilevel_boxes
  anchors = {level: tf.stack([x, x]) for level, x in anchors.items()}
  boxes = {level: tf.constant(rng.normal(size=x.shape), tf.float32)
           for level, x in anchors.items()}
  scores = {level: tf.constant(
      rng.normal(size=[*x.shape[:3], 3]), tf.float32)
            for level, x in anchors.items()}
  return boxes, scores, anchors, tf.constant([[height, width]] * 2, tf.float32)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('least', [0.0, 20.0])
@pytest.mark.parametrize('height, width', [(64, 128), (128, 64), (64, 64)])
def test_proposals_are_model_garden_s(height, width, least, training):
  # The finest level has more anchors than pre_nms_top_k, the others fewer.
  options = dict(pre_nms_top_k=500, test_pre_nms_top_k=400, num_proposals=100,
                 test_num_proposals=50, pre_nms_min_size_threshold=least,
                 test_pre_nms_min_size_threshold=least)
  layer = roi_generator.ROIGenerator(**options)
  inputs = maps(height, width)
  unknown = tf.nest.map_structure(
      lambda x: tf.TensorSpec([None] * (x.shape.rank - 1) + x.shape[-1:]),
      inputs)
  found = tf.function(
      lambda *x: layer(*x, training=training), input_signature=unknown)(*inputs)
  expected = official.MultilevelROIGenerator(**options)(
      *inputs, training=training)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-4)
  assert found[0].shape[1] == (100 if training else 50)
  assert layer.get_config() == official.MultilevelROIGenerator(
      **options).get_config()
