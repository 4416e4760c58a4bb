"""Claims about the map of weights, on outputs of the released modules.

The modules' own tests set the weights by hand; here the converter does.
"""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.convert import official_release
from panet_tf.convert import weights
from panet_tf.modeling import box_head
from panet_tf.modeling import decoder
from panet_tf.modeling import fully_connected_fusion
from panet_tf.modeling.layers import normalization
from tests.support import parity as parity_lib
from tests.support import release_weights as release

GN = normalization.Normalization('group', epsilon=1e-5)


def taken(arrays, prefix):
  return {key[len(prefix):]: value for key, value in arrays.items()
          if key.startswith(prefix)}


def test_neck(parity):
  arrays = parity('bottom_up_path')
  neck = decoder.PANetDecoder(num_filters=64, norm=GN)
  c = {str(i): release.nhwc(arrays[f'in/C{i}']) for i in range(2, 6)}
  neck(c)
  weights.assign(list(official_release.part_entries('decoder', neck)), {
      f'Conv_Body.{key}': value
      for key, value in taken(arrays, 'gn/w/').items()}, 'x')
  n = neck(c)
  for i in range(2, 6):
    parity_lib.assert_near(n[str(i)], release.nhwc(arrays[f'gn/N{i}']))
  parity_lib.assert_near(n['6'], release.nhwc(arrays['gn/P6']))


@pytest.mark.parametrize('kind', ['4conv1fc', '2fc'])
def test_box_head(parity, kind):
  arrays = parity(f'adaptive_box_head_{kind}_gn')
  pooled = [level[None] for level in release.nhwc(arrays['pooled'])]
  key = 'w/Box_Outs.cls_score.weight'
  num_classes, fc_dims = arrays[key].shape
  head = box_head.AdaptiveBoxHead(
      num_classes, kind, 64, fc_dims, norm=GN, norm_after_fc=False)
  head(pooled)
  weights.assign(
      list(official_release.part_entries(f'box_head_{kind}', head)),
      taken(arrays, 'w/'), 'x')
  logits, deltas = head(pooled)
  parity_lib.assert_near(logits[0], arrays['cls_logits'])
  deltas = np.reshape(deltas[0], [len(deltas[0]), -1, 4])[..., [1, 0, 3, 2]]
  parity_lib.assert_near(deltas.reshape(len(deltas), -1), arrays['bbox_pred'])


def test_mask_head(parity):
  arrays = parity('mask_head_ff_gn')
  pooled = [level[None] for level in release.nhwc(arrays['pooled'])]
  head = fully_connected_fusion.FullyConnectedFusion(
      5, num_filters=64, norm=GN, fc_relu=True, norm_after_upconv=False)
  head([pooled, tf.zeros(pooled[0].shape[:2], tf.int32)])
  weights.assign(list(official_release.part_entries('mask_head', head)),
                 taken(arrays, 'w/'), 'x')
  for k in range(5):
    masks = head([pooled, tf.fill(pooled[0].shape[:2], k)])
    parity_lib.assert_near(masks[0], arrays['mask_logits'][:, k])
