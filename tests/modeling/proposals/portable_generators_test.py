"""Portable proposals and detections equal Model Garden's."""

import numpy as np
from official.vision.modeling.layers import detection_generator
from official.vision.modeling.layers import roi_generator
from official.vision.ops import nms as official_nms
import pytest
import tensorflow as tf

from panet_tf.modeling.proposals import portable_generators
from panet_tf.ops import nms

both_kernels = pytest.mark.parametrize('formulation', ['kernels', 'builtin'])


def rpn_outputs(seed, batch, num_anchors=3):
  """Anchors on two maps, of 16 and 32 pixels, with their logits and deltas."""
  rng = np.random.default_rng(seed)
  boxes, scores, anchors = {}, {}, {}
  for level, cells in (('2', 8), ('3', 4)):
    scores[level] = rng.normal(size=[batch, cells, cells, num_anchors])
    boxes[level] = rng.normal(
        scale=0.3, size=[batch, cells, cells, 4 * num_anchors])
    y, x = np.mgrid[0:cells, 0:cells] * (64 / cells)
    sizes = rng.uniform(8, 40, [cells, cells, num_anchors, 2])
    corner = np.stack([y, x], -1)[:, :, None] + np.zeros_like(sizes)
    anchors[level] = np.concatenate([corner, corner + sizes], -1).reshape(
        1, cells, cells, -1)
  def as_tensors(maps):
    return {k: tf.constant(v, tf.float32) for k, v in maps.items()}

  return as_tensors(boxes), as_tensors(scores), as_tensors(anchors)


@both_kernels
@pytest.mark.parametrize('options', [
    {}, {'test_num_proposals': 30}, {'test_pre_nms_top_k': 20},
    {'test_pre_nms_min_size_threshold': 16.0},
    {'test_pre_nms_score_threshold': 0.6}, {'test_nms_iou_threshold': 0.0}],
                         ids=str)
def test_proposals_equal_model_gardens(formulation, options):
  options = {'test_num_proposals': 60, **options}
  boxes, scores, anchors = rpn_outputs(seed=3, batch=2)
  shape = tf.constant([[64., 48.], [40., 64.]])
  theirs = roi_generator.MultilevelROIGenerator(**options)
  ours = portable_generators.PortableROIGenerator(formulation, **options)
  want = theirs(boxes, scores, anchors, shape, False)
  got = ours(boxes, scores, anchors, shape, False)
  for one, other in zip(got, want, strict=True):
    np.testing.assert_allclose(one, tf.reshape(other, one.shape), atol=1e-4)
  assert 10 < np.count_nonzero(got[1][0])  # The case has something to compare.


def head_outputs(seed, batch=2, num_boxes=40, num_classes=5):
  rng = np.random.default_rng(seed)
  corner = rng.uniform(12, 40, [batch, num_boxes, 2])
  rois = np.concatenate(
      [corner, corner + rng.uniform(6, 30, [batch, num_boxes, 2])], -1)
  rois[:, -5:] = 0  # Where fewer proposals were found.
  logits = rng.normal(scale=2, size=[batch, num_boxes, num_classes])
  deltas = rng.normal(size=[batch, num_boxes, 4 * num_classes])
  return (tf.constant(x, tf.float32) for x in (deltas, logits, rois))


@both_kernels
@pytest.mark.parametrize('options', [
    {}, {'max_num_detections': 7}, {'pre_nms_score_threshold': 0.4},
    {'pre_nms_score_threshold': 0.0, 'max_num_detections': 300},
    {'pre_nms_score_threshold': 0.99}, {'pre_nms_top_k': 10},
    {'nms_iou_threshold': 0.8}], ids=str)
def test_detections_equal_model_gardens(formulation, options):
  deltas, logits, rois = head_outputs(seed=5)
  shape = tf.constant([[64., 64.], [50., 64.]])
  theirs = detection_generator.DetectionGenerator(**options)
  ours = portable_generators.PortableDetectionGenerator(formulation, **options)
  weights = [10.0, 10.0, 5.0, 5.0]
  want = theirs(deltas, logits, rois, shape, weights)
  got = ours(deltas, logits, rois, shape, weights)
  np.testing.assert_array_equal(got['num_detections'], want['num_detections'])
  for i, count in enumerate(want['num_detections']):
    for key in ('detection_boxes', 'detection_scores', 'detection_classes'):
      np.testing.assert_allclose(
          got[key][i, :count], want[key][i, :count], atol=1e-4, err_msg=key)
    assert not np.any(got['detection_scores'][i, count:])


@both_kernels
def test_no_image_gives_no_detection(formulation):
  if formulation == 'builtin':
    pytest.skip('TFLite has one image')
  ours = portable_generators.PortableDetectionGenerator(formulation)
  got = ours(*(x[:0] for x in head_outputs(seed=1)), tf.zeros([0, 2]))
  assert got['detection_boxes'].shape == (0, 100, 4)


@both_kernels
def test_boxes_of_one_score_keep_their_order(formulation):
  """A plain background gives hundreds of them, and only some are kept."""
  rng = np.random.default_rng(1)
  corner = rng.uniform(1, 500, [1, 300, 2])
  boxes = tf.constant(np.concatenate([corner, corner + 30], -1), tf.float32)
  scores = tf.constant(np.sort(rng.integers(1, 4, [1, 300]) / 4)[:, ::-1],
                       tf.float32)
  want_scores, want = official_nms.sorted_non_max_suppression_padded(
      scores, boxes, 40, 0.5)
  kept, kept_scores = nms.non_max_suppression(
      boxes, scores, max_output_size=40, iou_threshold=0.5, score_threshold=0.1,
      formulation=formulation)
  np.testing.assert_array_equal(kept_scores, want_scores)
  np.testing.assert_array_equal(kept, want)


@both_kernels
def test_empty_boxes_are_kept_once_each(formulation):
  boxes = tf.constant([[[0, 9, 0, 20], [5, 5, 30, 30], [40, 9, 40, 30],
                        [6, 6, 30, 30], [0, 9, 0, 20.]]])
  scores = tf.constant([[0.9, 0.8, 0.7, 0.6, 0.5]])
  kept, kept_scores = nms.non_max_suppression(
      boxes, scores, max_output_size=5, iou_threshold=0.5, score_threshold=0.1,
      formulation=formulation)
  np.testing.assert_allclose(kept_scores, [[0.9, 0.8, 0.7, 0.5, 0]])
  np.testing.assert_array_equal(
      kept[0, :4], tf.gather(boxes[0], [0, 1, 2, 4]))


def test_no_padding_is_detected_where_model_gardens_batched_nms_does():
  deltas, logits, rois = head_outputs(seed=5)
  arguments = deltas, logits, rois, tf.constant([[64., 64.]] * 2)
  real = tuple(x[:, :-5] for x in (deltas, logits, rois))
  theirs = detection_generator.DetectionGenerator(
      nms_iou_threshold=0.2, nms_version='batched')
  ours = portable_generators.PortableDetectionGenerator(nms_iou_threshold=0.2)
  got, want = ours(*arguments), theirs(*real, arguments[3])
  np.testing.assert_array_equal(got['num_detections'], want['num_detections'])
  np.testing.assert_allclose(
      got['detection_boxes'], want['detection_boxes'], atol=1e-4)
  with_padding = theirs(*arguments)['num_detections']
  assert np.all(with_padding > want['num_detections'])


def test_training_proposals_are_model_gardens():
  boxes, scores, anchors = rpn_outputs(seed=0, batch=1)
  arguments = boxes, scores, anchors, tf.constant([[64., 64.]]), True
  options = {'num_proposals': 20, 'test_num_proposals': 5}
  ours = portable_generators.PortableROIGenerator(**options)(*arguments)
  theirs = roi_generator.MultilevelROIGenerator(**options)(*arguments)
  np.testing.assert_array_equal(ours[0], theirs[0])
