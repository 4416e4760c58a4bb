"""ROIAlign against a slow NumPy twin and the authors' release."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from panet_tf.ops import roi_align as roi_align_lib
from tests.support import parity as parity_lib

_LEVELS = ('2', '3', '4', '5')

both_formulations = pytest.mark.parametrize('formulation', ['kernels', 'xla'])
both_conventions = pytest.mark.parametrize('aligned', [False, True])


def slow_matrix(shape, boxes, output_size, stride, sampling_ratio, aligned):
  """ROIAlign, float64, one sample at a time, as a matrix [bins, cells]."""
  batch, height, width, _ = shape
  num_boxes = boxes.shape[1]
  matrix = np.zeros(
      [batch, num_boxes, output_size, output_size, batch, height, width])
  for b, n in np.ndindex(batch, num_boxes):
    start, end = np.split(boxes[b, n].astype(np.float64) / stride, 2)
    size = end - start
    if aligned:
      start = start - 0.5
    else:
      size = np.maximum(size, 1.0)
    for i, j, k, m in np.ndindex(
        output_size, output_size, sampling_ratio, sampling_ratio):
      sample = start + size / output_size * (
          np.array([i, j]) + (np.array([k, m]) + 0.5) / sampling_ratio)
      limit = np.array([height, width])
      if (sample < -1).any() or (sample > limit).any():
        continue
      y, x = np.clip(sample, 0, limit - 1)
      y0, x0 = int(y), int(x)
      y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
      for yy, wy in ((y0, 1 - y + y0), (y1, y - y0)):
        for xx, wx in ((x0, 1 - x + x0), (x1, x - x0)):
          matrix[b, n, i, j, b, yy, xx] += wy * wx / sampling_ratio**2
  return matrix


def slow_roi_align(features, boxes, *args):
  return np.einsum('bnijpyx,pyxc->bnijc',
                   slow_matrix(features.shape, boxes, *args),
                   features.astype(np.float64))


def draw(seed=0, batch=2, height=9, width=11, channels=3, num_boxes=12,
         stride=8):
  """Features and boxes: inside, over the border, outside, thin, empty."""
  rng = np.random.default_rng(seed)
  features = rng.normal(size=[batch, height, width, channels])
  extent = np.array([height, width]) * stride
  center = rng.uniform(-0.3, 1.3, [batch, num_boxes, 2]) * extent
  size = rng.uniform(0, 1.5, [batch, num_boxes, 2]) * extent
  boxes = np.concatenate([center - size / 2, center + size / 2], axis=-1)
  special = [[0, 0, 0, 0], [0, 0, *extent], [5, 5, 5.25, 60], [20, 20, 10, 8],
             [1e6, 1e6, 2e6, 2e6]][:num_boxes]
  boxes[:, :len(special)] = special
  return features.astype(np.float32), boxes.astype(np.float32)


def to_yxyx(boxes):
  return boxes[..., [1, 0, 3, 2]]


@both_formulations
@both_conventions
@pytest.mark.parametrize('output_size', [7, 14])
def test_agrees_with_the_authors_release(
    parity, output_size, aligned, formulation):
  arrays = parity('roi_align')
  features = {
      level: arrays[f'feat_l{level}'].transpose(0, 2, 3, 1)
      for level in _LEVELS
  }
  boxes = np.stack([to_yxyx(arrays['boxes'])] * 2)
  pooled = roi_align_lib.multilevel_roi_align(
      features, boxes, output_size, aligned=aligned, formulation=formulation,
      sampling_ratio=int(arrays['sampling_ratio']))
  convention = 'aligned' if aligned else 'legacy'
  image = arrays['batch_index']
  for level, actual in zip(_LEVELS, pooled, strict=True):
    expected = arrays[f'out{output_size}_{convention}_l{level}']
    actual = actual.numpy()[image, np.arange(len(image))]
    parity_lib.assert_near(actual, expected.transpose(0, 2, 3, 1))


@both_formulations
@both_conventions
def test_samples_exactly_on_the_cut_off_count(parity, aligned, formulation):
  arrays = parity('roi_align')
  pooled = roi_align_lib.roi_align(
      arrays['edge_feat'].transpose(0, 2, 3, 1),
      to_yxyx(arrays['edge_boxes'])[np.newaxis], 7, stride=1, aligned=aligned,
      formulation=formulation)
  expected = arrays[f'edge_out7_{"aligned" if aligned else "legacy"}']
  parity_lib.assert_near(pooled[0], expected.transpose(0, 2, 3, 1), 1e-5)


@both_formulations
@pytest.mark.parametrize('nudge, counts', [(0.0, True), (2.0**-10, False)])
def test_the_cut_off_is_one_cell_outside(nudge, counts, formulation):
  # One sample per box, the middle: at -1 or at the size, or just beyond.
  # A border map of one cell is the hardest for the crop kernel.
  for height, width in ((1, 1), (5, 3), (26, 32)):
    middles = np.array([[-1 - nudge, 0], [height + nudge, 0],
                        [0, -1 - nudge], [0, width + nudge]])
    boxes = np.concatenate([middles - 0.5, middles + 0.5], -1)
    pooled = roi_align_lib.roi_align(
        tf.ones([1, height, width, 1]), boxes[np.newaxis].astype(np.float32), 1,
        stride=1, sampling_ratio=1, aligned=False, formulation=formulation)
    np.testing.assert_allclose(
        tf.squeeze(pooled), [float(counts)] * 4, atol=1e-5)


@both_formulations
@both_conventions
@pytest.mark.parametrize('sampling_ratio', [1, 2, 3])
@pytest.mark.parametrize('output_size', [1, 5])
def test_agrees_with_the_slow_twin(output_size, sampling_ratio, aligned,
                                   formulation):
  features, boxes = draw(seed=sampling_ratio)
  expected = slow_roi_align(features, boxes, output_size, 8, sampling_ratio,
                            aligned)
  pooled = roi_align_lib.roi_align(
      features, boxes, output_size, stride=8, sampling_ratio=sampling_ratio,
      aligned=aligned, formulation=formulation)
  np.testing.assert_allclose(pooled, expected, rtol=0, atol=2e-5)


@both_conventions
@pytest.mark.parametrize('sampling_ratio', [1, 2, 3])
@pytest.mark.parametrize('small_map', [0, 2048], ids=['gathers', 'products'])
def test_builtin_ops_agree_with_the_slow_twin(
    small_map, sampling_ratio, aligned, monkeypatch):
  monkeypatch.setattr(roi_align_lib, '_SMALL_MAP', small_map)
  features, boxes = draw(seed=sampling_ratio)
  expected = slow_roi_align(features, boxes, 5, 8, sampling_ratio, aligned)
  pooled = roi_align_lib.roi_align(
      features, boxes, 5, stride=8, sampling_ratio=sampling_ratio,
      aligned=aligned, formulation='builtin')
  np.testing.assert_allclose(pooled, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize('formulation', ['saved', 'builtin'])
@pytest.mark.parametrize('known', [True, False])
def test_exported_graphs_hold_only_what_their_runtimes_have(
    formulation, known):
  specs = [tf.TensorSpec(shape if known else [None, None, None, shape[-1]][
      -len(shape):], tf.float32) for shape in ([2, 9, 11, 3], [2, 12, 4])]
  function = tf.function(lambda *args: roi_align_lib.roi_align(
      *args, 5, stride=8, formulation=formulation),
                         input_signature=specs).get_concrete_function()
  ops = {node.op for node in function.graph.as_graph_def().node}
  assert ('CropAndResize' in ops) == (formulation == 'saved')
  assert ('GatherV2' in ops) == (
      formulation == 'saved' or not known)
  assert not any('_gradient_op_type' in node.attr
                 for node in function.graph.as_graph_def().node)
  features, boxes = draw()
  np.testing.assert_allclose(
      function(tf.constant(features), tf.constant(boxes)),
      roi_align_lib.roi_align(features, boxes, 5, stride=8), atol=1e-5)


@both_formulations
@both_conventions
@pytest.mark.parametrize('sampling_ratio', [1, 2, 3])
def test_gradient_is_the_transpose_of_the_slow_twin(sampling_ratio, aligned,
                                                    formulation):
  features, boxes = draw(seed=10 + sampling_ratio)
  upstream = np.random.default_rng(1).normal(size=[2, 12, 5, 5, 3])
  upstream = upstream.astype(np.float32)
  matrix = slow_matrix(features.shape, boxes, 5, 8, sampling_ratio, aligned)
  expected = np.einsum('bnijpyx,bnijc->pyxc', matrix, upstream)
  variable = tf.Variable(features)
  with tf.GradientTape() as tape:
    pooled = roi_align_lib.roi_align(
        variable, boxes, 5, stride=8, sampling_ratio=sampling_ratio,
        aligned=aligned, formulation=formulation)
  gradient = tape.gradient(pooled, variable, upstream)
  np.testing.assert_allclose(gradient, expected, rtol=0, atol=5e-5)
  # <g, f(x)> = <f'(g), x>, with nothing but our own forward and backward.
  np.testing.assert_allclose(
      np.vdot(upstream.astype(np.float64), pooled),
      np.vdot(gradient, features.astype(np.float64)), rtol=1e-5, atol=1e-3)


@both_formulations
def test_gradient_of_overlapping_boxes_loses_nothing(formulation):
  # TF's own gradient of crop_and_resize fails this: its threads race.
  boxes = tf.tile([[[16.0, 16.0, 48.0, 48.0]]], [1, 512, 1])
  features = tf.ones([1, 16, 16, 64])
  gradients = []
  for _ in range(3):
    with tf.GradientTape() as tape:
      tape.watch(features)
      pooled = roi_align_lib.roi_align(
          features, boxes, 7, stride=4, formulation=formulation)
    gradients.append(tape.gradient(pooled, features).numpy())
  np.testing.assert_allclose(
      gradients[0].sum(dtype=np.float64), 512 * 49 * 64, rtol=1e-5)
  np.testing.assert_array_equal(gradients[0], gradients[1])
  np.testing.assert_array_equal(gradients[0], gradients[2])


@both_formulations
def test_boxes_get_no_gradient(formulation):
  features, boxes = draw()
  boxes = tf.Variable(boxes)
  with tf.GradientTape() as tape:
    pooled = roi_align_lib.roi_align(
        features, boxes, 7, stride=8, formulation=formulation)
  assert tape.gradient(pooled, boxes) is None


@both_formulations
@both_conventions
def test_degenerate_boxes_give_finite_values_and_gradients(
    aligned, formulation):
  features = tf.constant(draw()[0])
  boxes = tf.constant([[[0, 0, 0, 0], [30, 30, 10, 10], [-9e8, -9e8, 9e8, 9e8],
                        [1e30, 1e30, 1e30, 1e30]]] * 2, tf.float32)
  with tf.GradientTape() as tape:
    tape.watch(features)
    pooled = roi_align_lib.roi_align(
        features, boxes, 7, stride=8, aligned=aligned, formulation=formulation)
  assert np.isfinite(pooled).all()
  assert np.isfinite(tape.gradient(pooled, features)).all()


@both_formulations
@pytest.mark.parametrize('dtype', [tf.bfloat16, tf.float16])
def test_half_precision_rounds_only_inputs_and_outputs(dtype, formulation):
  features, boxes = draw()
  features = tf.cast(features, dtype)
  with tf.GradientTape() as tape:
    tape.watch(features)
    pooled = roi_align_lib.roi_align(
        features, boxes, 7, stride=8, formulation=formulation)
  expected = slow_roi_align(
      tf.cast(features, tf.float32).numpy(), boxes, 7, 8, 2, True)
  assert pooled.dtype == dtype
  assert tape.gradient(pooled, features).dtype == dtype
  np.testing.assert_allclose(
      tf.cast(pooled, tf.float32), expected, rtol=2.0**-8, atol=1e-4)


@both_formulations
def test_unknown_dimensions_give_the_same_values_and_gradients(formulation):
  @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3]),
                                tf.TensorSpec([None, None, 4])])
  def dynamic(features, boxes):
    with tf.GradientTape() as tape:
      tape.watch(features)
      pooled = roi_align_lib.roi_align(
          features, boxes, 7, stride=8, formulation=formulation)
    assert pooled.shape.as_list() == [None, None, 7, 7, 3]
    return pooled, tape.gradient(pooled, features)

  for seed, batch, height in ((0, 1, 9), (1, 3, 5)):
    features, boxes = draw(seed, batch=batch, height=height, num_boxes=6 + seed)
    pooled, gradient = dynamic(features, boxes)
    matrix = slow_matrix(features.shape, boxes, 7, 8, 2, True)
    np.testing.assert_allclose(
        pooled, np.einsum('bnijpyx,pyxc->bnijc', matrix, features), atol=2e-5)
    np.testing.assert_allclose(
        gradient[..., 0], matrix.sum(axis=(0, 1, 2, 3)), atol=5e-5)


@both_formulations
def test_zero_boxes_give_an_empty_result_and_a_zero_gradient(formulation):
  features = tf.constant(draw()[0])
  with tf.GradientTape() as tape:
    tape.watch(features)
    pooled = roi_align_lib.roi_align(
        features, tf.zeros([2, 0, 4]), 7, stride=8, formulation=formulation)
  assert pooled.shape == [2, 0, 7, 7, 3]
  np.testing.assert_array_equal(tape.gradient(pooled, features),
                                np.zeros_like(features))


def test_levels_come_in_ascending_order_with_stride_two_to_the_level():
  features, boxes = draw()
  pyramid = {'10': features + 1, '3': features, '2': 2 * features}
  pooled = roi_align_lib.multilevel_roi_align(pyramid, boxes, 7)
  for actual, (level, stride) in zip(
      pooled, (('2', 4), ('3', 8), ('10', 1024)), strict=True):
    np.testing.assert_array_equal(actual, roi_align_lib.roi_align(
        pyramid[level], boxes, 7, stride=stride))


@pytest.mark.parametrize('sampling_ratio', [0, -1, 1.5])
def test_sampling_ratio_must_be_a_positive_integer(sampling_ratio):
  features, boxes = draw()
  with pytest.raises(ValueError, match='positive integer, got'):
    roi_align_lib.roi_align(
        features, boxes, 7, stride=8, sampling_ratio=sampling_ratio)


class _Pool(tf_keras.layers.Layer):

  def __init__(self, formulation, **kwargs):
    super().__init__(**kwargs)
    self._formulation = formulation

  def call(self, inputs):
    return roi_align_lib.roi_align(
        *inputs, 7, stride=8, formulation=self._formulation)


def keras_model(formulation):
  features = tf_keras.Input([None, None, 3])
  boxes = tf_keras.Input([None, 4])
  convolved = tf_keras.layers.Conv2D(3, 1)(features)
  return tf_keras.Model(
      [features, boxes], _Pool(formulation)([convolved, boxes]))


@both_formulations
def test_trains_in_a_keras_functional_model_on_two_replicas(formulation):
  devices = tf.config.list_logical_devices('CPU')
  if len(devices) < 2:
    pytest.skip('TensorFlow started with one logical CPU')
  features, boxes = draw(batch=4)
  target = np.zeros([4, 12, 7, 7, 3], np.float32)
  losses = {}
  for name, strategy in (
      ('one', tf.distribute.get_strategy()),
      ('two', tf.distribute.MirroredStrategy([d.name for d in devices[:2]]))):
    tf_keras.utils.set_random_seed(0)
    with strategy.scope():
      model = keras_model(formulation)
      model.compile(tf_keras.optimizers.SGD(0.1), 'mse')
    losses[name] = model.fit([features, boxes], target, batch_size=4, epochs=3,
                             shuffle=False, verbose=0).history['loss']
  assert losses['one'][-1] < losses['one'][0]
  np.testing.assert_allclose(losses['one'], losses['two'], rtol=1e-4)


def test_on_a_tpu_all_of_it_is_compiled_gradient_included(monkeypatch):
  rng = np.random.default_rng(11)
  features = tf.constant(rng.normal(size=[1, 9, 7, 3]), tf.float32)
  boxes = tf.constant([[[-3.0, 5.0, 20.0, 31.0], [4.0, 4.0, 5.0, 40.0]]])

  def run():
    with tf.GradientTape() as tape:
      tape.watch(features)
      pooled = roi_align_lib.roi_align(features, boxes, 3, stride=4)
      loss = tf.reduce_sum(pooled * pooled)
    return pooled, tape.gradient(loss, features)

  expected = run()
  monkeypatch.setattr(
      tf.distribute, 'TPUStrategy', type(tf.distribute.get_strategy()))
  for ours, theirs in zip(
      tf.function(run, jit_compile=True)(), expected, strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_saved_model_needs_no_xla_and_no_python(tmp_path):
  model = keras_model(formulation='kernels')
  features, boxes = draw()
  module = tf.Module()
  module.serve = tf.function(
      lambda f, b: model([f, b], training=False),
      input_signature=[tf.TensorSpec([None, None, None, 3]),
                       tf.TensorSpec([None, None, 4])])
  module.model = model
  # The backward pass would be saved too, as functions that nobody calls.
  options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
  tf.saved_model.save(module, str(tmp_path), options=options)
  loaded = tf.saved_model.load(str(tmp_path))
  np.testing.assert_allclose(
      loaded.serve(features, boxes), model([features, boxes]), atol=1e-5)
  graph = loaded.serve.get_concrete_function().graph.as_graph_def()
  nodes = list(graph.node)
  for function in graph.library.function:
    nodes.extend(function.node_def)
    assert not function.attr['_XlaMustCompile'].b
  assert not {n.op for n in nodes} & {'PyFunc', 'EagerPyFunc'}
  assert not [n.op for n in nodes if n.op.startswith(('Xla', 'Sparse'))]
