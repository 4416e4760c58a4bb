"""Claims about the RPN head."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.modeling.layers import normalization
from panet_tf.modeling.proposals import rpn_head
from tests.support import release_weights as release


def levels(width=8, size=16):
  return {str(i): tf.random.normal(
      [2, size >> i - 2, size >> i - 2, width]) for i in range(2, 7)}


def make(kind='none', **kwargs):
  head = rpn_head.RPNHead(
      norm=normalization.Normalization(kind, num_groups=4),
      num_filters=8, **kwargs)
  return head, head(levels())


@pytest.mark.parametrize('anchors', [1, 3])
def test_shapes_by_level(anchors):
  _, (scores, boxes) = make(num_anchors_per_location=anchors)
  assert list(scores) == list(boxes) == ['2', '3', '4', '5', '6']
  assert scores['3'].shape == [2, 8, 8, anchors]
  assert boxes['6'].shape == [2, 1, 1, 4 * anchors]


def test_convolutions_are_shared_by_all_levels():
  head, _ = make()
  x = tf.random.normal([1, 4, 4, 8])
  scores, _ = head({str(i): x for i in range(2, 7)})
  for level in '3456':
    np.testing.assert_array_equal(scores[level], scores['2'])


def test_normalization_is_each_levels_own():
  head, _ = make('batch')
  n = {level: x + int(level) for level, x in levels().items()}
  head(n, training=True)
  means = [head.norm[f'1_level_{level}'].moving_mean.numpy()
           for level in '23456']
  for a, b in itertools.pairwise(means):
    assert np.abs(a - b).max() > 1e-5


@pytest.mark.parametrize('kind, extra', [
    ('sync_batch', 5 * 2), ('group', 5 * 2), ('none', 1)])
@pytest.mark.parametrize('num_convs', [1, 2])
@pytest.mark.parametrize('anchors', [1, 3])
def test_parameter_count(kind, extra, num_convs, anchors):
  head, _ = make(kind, num_convs=num_convs, num_anchors_per_location=anchors)
  assert release.count(head) == (
      num_convs * (9 * 64 + extra * 8) + 5 * anchors * (8 + 1))
