"""Claims about deformable convolution, versions 1 and 2."""

import numpy as np
import pytest
import tensorflow as tf

from panet_tf.modeling.layers import deformable_conv
from panet_tf.modeling.layers import normalization
from tests.support import layer_exports
from tests.support import release_weights as release


def make(strides=1, dilation=1, groups=1, deformable_groups=1, size=(6, 7),
         channels=8, filters=4, kernel_size=3, dtype='float64', spread=2.):
  """x, offsets, kernel, masks: arrays of random numbers."""
  rng = np.random.default_rng(1)
  h, w = (-(-edge // strides) for edge in size)
  taps = deformable_groups * kernel_size**2
  return [array.astype(dtype) for array in (
      rng.normal(size=[2, *size, channels]),
      rng.normal(scale=spread, size=[2, h, w, 2 * taps]),
      rng.normal(size=[kernel_size, kernel_size, channels // groups, filters]),
      rng.uniform(size=[2, h, w, taps]))]


def pixel(image, y, x):
  inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
  return image[y, x] if inside else np.zeros(image.shape[2])


def bilinear(image, y, x):
  """[channels] between the four pixels around, each zero if outside."""
  total = np.zeros(image.shape[2])
  for i in (int(np.floor(y)), int(np.floor(y)) + 1):
    for j in (int(np.floor(x)), int(np.floor(x)) + 1):
      total += pixel(image, i, j) * (1 - abs(y - i)) * (1 - abs(x - j))
  return total


def twin(x, offsets, kernel, masks, strides, dilation):
  """The formula, number by number, in the order of torchvision."""
  size, _, per_group, filters = kernel.shape
  channels = x.shape[-1]
  groups, parts = channels // per_group, masks.shape[-1] // size**2
  y = np.zeros([*offsets.shape[:3], filters])
  for b, row, column in np.ndindex(*offsets.shape[:3]):
    for i, j in np.ndindex(size, size):
      sample = np.zeros(channels)
      for part in range(parts):
        tap = (part * size + i) * size + j
        dy, dx = offsets[b, row, column, 2 * tap:2 * tap + 2]
        its = slice(part * channels // parts, (part + 1) * channels // parts)
        sample[its] = masks[b, row, column, tap] * bilinear(
            x[b], row * strides + (i - size // 2) * dilation + dy,
            column * strides + (j - size // 2) * dilation + dx)[its]
      for g in range(groups):
        outs = slice(g * filters // groups, (g + 1) * filters // groups)
        y[b, row, column, outs] += (
            sample[g * per_group:(g + 1) * per_group] @ kernel[i, j, :, outs])
  return y


def plain(x, kernel, strides=1, dilation=1):
  """The convolution without offsets, a group at a time."""
  pad = [dilation * (kernel.shape[0] // 2)] * 2
  x = tf.pad(x, [[0, 0], pad, pad, [0, 0]])
  groups = x.shape[-1] // kernel.shape[2]
  # One output at a time is enough for strides and dilation together.
  y = tf.concat([
      tf.nn.convolution(*parts, padding='VALID', dilations=[dilation] * 2)
      for parts in zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1),
                       strict=True)
  ], -1)
  return y[:, ::strides, ::strides]


OPTIONS = [
    dict(), dict(strides=2), dict(dilation=2), dict(groups=2),
    dict(deformable_groups=4), dict(kernel_size=1), dict(kernel_size=5),
    dict(strides=2, dilation=2, groups=4, deformable_groups=2)]


@pytest.mark.parametrize('options', OPTIONS)
def test_it_is_the_formula_with_offsets_between_pixels(options):
  x, offsets, kernel, masks = make(size=(4, 5), **options)
  strides, dilation = options.get('strides', 1), options.get('dilation', 1)
  found = deformable_conv.deformable_conv2d(
      x, offsets, kernel, masks, strides=strides, dilation=dilation)
  expected = twin(x, offsets, kernel, masks, strides, dilation)
  np.testing.assert_allclose(found, expected, atol=1e-10)
  found = deformable_conv.deformable_conv2d(
      x, offsets, kernel, strides=strides, dilation=dilation, training=False)
  expected = twin(x, offsets, kernel, np.ones_like(masks), strides, dilation)
  np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('options', OPTIONS)
def test_without_offsets_it_is_the_plain_convolution(options, training):
  x, offsets, kernel, _ = make(dtype='float32', **options)
  strides, dilation = options.get('strides', 1), options.get('dilation', 1)
  found = deformable_conv.deformable_conv2d(
      x, 0 * offsets, kernel, strides=strides, dilation=dilation,
      training=training)
  wanted = plain(x, kernel, strides, dilation)
  release.assert_near(found, wanted.numpy(), 1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize('dy, dx', [(1, 0), (0, -2), (-3, 4)])
def test_whole_offsets_shift_the_map(dy, dx):
  x, offsets, kernel, _ = make(size=(8, 9), dtype='float32')
  offsets[..., ::2], offsets[..., 1::2] = dy, dx
  shifted = np.zeros_like(x)
  for row, column in np.ndindex(8, 9):
    if 0 <= row + dy < 8 and 0 <= column + dx < 9:
      shifted[:, row, column] = x[:, row + dy, column + dx]
  found = deformable_conv.deformable_conv2d(x, offsets, kernel).numpy()
  wanted = plain(shifted, kernel).numpy()
  # Within one pixel of the border the kernel of the shifted map has lost what
  # the shift moved out.
  np.testing.assert_allclose(
      found[:, 1:-1, 1:-1][:, abs(dy):6 - abs(dy), abs(dx):7 - abs(dx)],
      wanted[:, 1:-1, 1:-1][:, abs(dy):6 - abs(dy), abs(dx):7 - abs(dx)],
      atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize('offset', [100., -100., 1e9, -np.inf])
@pytest.mark.parametrize('axis', [0, 1])
def test_outside_of_the_image_there_is_nothing(offset, axis):
  x, offsets, kernel, masks = make()
  x += 10.
  offsets[...] = 0
  offsets[..., axis::2] = offset
  found = deformable_conv.deformable_conv2d(x, offsets, kernel, masks)
  np.testing.assert_array_equal(found, np.zeros_like(found))


def test_half_outside_counts_half():
  x = np.ones([1, 3, 3, 1])
  offsets = np.full([1, 3, 3, 2], [-.5, 0.])
  found = deformable_conv.deformable_conv2d(
      x, offsets, np.ones([1, 1, 1, 1]))[0, :, :, 0]
  np.testing.assert_allclose(found, [[.5] * 3, [1.] * 3, [1.] * 3])


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('options', [
    dict(), dict(strides=2, dilation=2, groups=2, deformable_groups=2)])
def test_gradients_are_finite_differences(options, training):
  if options and not training:
    options = dict(options, groups=1)  # Groups need `training`.
  arrays = make(size=(4, 5), channels=4, **options)
  strides, dilation = options.get('strides', 1), options.get('dilation', 1)
  tensors = [tf.constant(array) for array in arrays]

  @tf.function
  def run(*tensors):
    return deformable_conv.deformable_conv2d(
        *tensors, strides=strides, dilation=dilation, training=training)

  upstream = np.random.default_rng(2).normal(size=run(*tensors).shape)
  with tf.GradientTape() as tape:
    tape.watch(tensors)
    loss = tf.reduce_sum(run(*tensors) * upstream)
  rng, step = np.random.default_rng(3), 1e-6
  for number, gradient in enumerate(tape.gradient(loss, tensors)):
    for _ in range(12):
      place = tuple(rng.integers(0, edge) for edge in arrays[number].shape)
      values = []
      for sign in (1, -1):
        moved = [array.copy() for array in arrays]
        moved[number][place] += sign * step
        values.append(np.sum(run(*moved) * upstream))
      difference = (values[0] - values[1]) / (2 * step)
      assert abs(gradient[place] - difference) < 1e-6 * max(
          1, abs(difference)), (number, place)


def test_nothing_large_is_kept_for_the_gradient():
  """Between the passes there are inputs only: samples are made twice."""
  x, offsets, kernel, masks = map(tf.constant, make(dtype='float32'))

  @tf.function(autograph=False)
  def step():
    with tf.GradientTape() as tape:
      tape.watch([x, offsets, kernel, masks])
      y = deformable_conv.deformable_conv2d(x, offsets, kernel, masks)
      loss = tf.reduce_sum(y**2)
    return tape.gradient(loss, [x, offsets, kernel, masks])

  graph = step.get_concrete_function().graph

  def waits(op, seen):
    """Whether it is behind something with a control dependency."""
    seen.add(op.name)
    return bool(op.control_inputs) or any(
        waits(t.op, seen) for t in op.inputs if t.op.name not in seen)

  gathers = [waits(op, set()) for op in graph.get_operations()
             if op.type == 'GatherV2']
  assert sorted(gathers) == [False] * 4 + [True] * 4


@pytest.mark.parametrize('modulated', [False, True])
def test_layer_begins_as_the_plain_convolution_or_half_of_it(modulated):
  layer = deformable_conv.DeformableConv2D(
      6, 3, 2, modulated=modulated, bias_initializer='ones')
  x = np.random.normal(size=[2, 7, 9, 4]).astype('float32')
  release.assert_near(
      layer(x) - 1, plain(x, layer.kernel.numpy(), 2).numpy() * (
          .5 if modulated else 1), 1e-5)
  assert layer.offset.kernel.shape[-1] == (27 if modulated else 18)


@pytest.mark.parametrize('modulated', [False, True])
@pytest.mark.parametrize('parts', [1, 2])
def test_layer_computes_offsets_and_masks_from_its_input(modulated, parts):
  layer = deformable_conv.DeformableConv2D(
      4, groups=2, deformable_groups=parts, modulated=modulated, use_bias=False)
  x = np.random.normal(size=[1, 4, 5, 4]).astype('float32')
  layer(x)
  layer.offset.kernel.assign(
      tf.random.normal(layer.offset.kernel.shape, stddev=.3))
  made = layer.offset(x).numpy()
  masks = 1 / (1 + np.exp(-made[..., 18 * parts:])) if modulated else (
      np.ones([1, 4, 5, 9 * parts]))
  expected = twin(x, made[..., :18 * parts], layer.kernel.numpy(), masks, 1, 1)
  release.assert_near(layer(x), expected, 1e-5)


def test_maps_of_any_size_are_one_graph():
  layer = deformable_conv.DeformableConv2D(4)
  layer.build([None, None, None, 3])

  @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
  def step(x):
    with tf.GradientTape() as tape:
      y = layer(x, training=True)
    return y, tape.gradient(y, layer.trainable_variables)

  for size in ((5, 6), (8, 3)):
    x = tf.random.normal([2, *size, 3])
    y, gradients = step(x)
    release.assert_near(y - layer.bias, plain(x, layer.kernel).numpy(), 1e-5)
    assert all(np.isfinite(g).all() and np.any(g) for g in gradients)


def test_offsets_that_do_not_fit_the_kernel_are_named():
  x, offsets, kernel, _ = make()
  with pytest.raises(ValueError, match='17 channels.*multiple of 18'):
    deformable_conv.deformable_conv2d(x, offsets[..., :17], kernel)


@pytest.mark.parametrize('options', [
    dict(), dict(strides=2, modulated=True, groups=4)])
def test_exports_are_plain_ops_and_compute_the_same(options, tmp_path):
  block = normalization.ConvNorm(
      8, deformable=True, norm=normalization.Normalization('batch'), **options)
  x = np.random.normal(size=[1, 6, 7, 8]).astype('float32')
  block(x)
  block.conv.offset.kernel.assign(
      tf.random.normal(block.conv.offset.kernel.shape, stddev=.3))
  found = layer_exports.outputs(block, x, tmp_path / 'saved_model')
  layer_exports.assert_equal(found, block(x, training=False).numpy(), 1e-4)
  ops = {name: ops for name, (_, ops) in found.items()}
  assert not any(custom for _, custom in ops['saved_model'])
  assert not [op for op in ops['tflite'] if 'Flex' in op or 'CUSTOM' in op]
