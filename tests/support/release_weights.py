"""Sets weights of the released PyTorch modules on our blocks, for the tests."""

import numpy as np


def conv(kernel):
  """OIHW to HWIO; (in, out, kh, kw) to Keras's (kh, kw, out, in) as well."""
  return kernel.transpose(2, 3, 1, 0)


def fc(kernel, size=None):
  """(out, in) to (in, out); behind a map, c, y, x becomes y, x, c."""
  if size is None:
    return kernel.T
  kernel = kernel.reshape(len(kernel), -1, size, size)
  return kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel))


class Release:
  """Weights of one archive; each is taken once, `done` fails on leftovers."""

  def __init__(self, arrays, prefix='w/'):
    self._left = {key[len(prefix):]: value for key, value in arrays.items()
                  if key.startswith(prefix)}

  def done(self):
    assert not self._left, f'not taken: {sorted(self._left)}'

  def plain(self, layer, key, convert):
    """Sets kernel and, if it has one, bias of a Keras layer."""
    layer.kernel.assign(convert(self._left.pop(f'{key}.weight')))
    if layer.use_bias:
      layer.bias.assign(self._left.pop(f'{key}.bias'))

  def block(self, block, key, convert=conv, norm=True):
    """Sets a ConvNorm or DenseNorm: `key`.0 the layer, `key`.1 the norm."""
    inner = block.conv if hasattr(block, 'conv') else block.fc
    if not norm:
      return self.plain(inner, key, convert)
    stem, index = key.rsplit('.', 1) if key[-1].isdigit() else (key, None)
    self.plain(inner, key, convert)
    norm_key = f'{stem}.{int(index) + 1}'
    block.norm.gamma.assign(self._left.pop(f'{norm_key}.weight'))
    block.norm.beta.assign(self._left.pop(f'{norm_key}.bias'))


def nhwc(x):
  """[..., c, h, w] to [..., h, w, c]."""
  return np.moveaxis(x, -3, -1)


def assert_near(actual, expected, tolerance=1e-4):
  actual = np.asarray(actual)
  assert actual.shape == expected.shape, (actual.shape, expected.shape)
  error = np.abs(actual - expected).max(initial=0)
  assert error <= tolerance, error


def count(layer):
  """Number of trainable parameters."""
  return sum(int(np.prod(w.shape)) for w in layer.trainable_weights)
