"""Cuts the archives of this folder from the whole ones; see README.md.

python tests/parity/cut.py FOLDER_OF_THE_WHOLE_ARCHIVES
"""

import io
import lzma
import pathlib
import sys

import numpy as np

_HERE = pathlib.Path(__file__).parent
# Of an output, so many places are kept.
_KEPT = 200
_FC_ROWS = 8
_MASK_ROWS = np.arange(20, 784, 98)


def neck(arrays):
  """The first of both images."""
  kept = {key: value for key, value in arrays.items()
          if key.count('/') == 1 and not key.endswith('/epsilon')
          or '/w/' in key}
  return {key: value[:1] if value.ndim == 4 and '/w/' not in key else value
          for key, value in kept.items()}


def box_head(arrays, num_boxes=3):
  """Fewer boxes."""
  cut = {key: value for key, value in arrays.items() if key.startswith('w/')}
  for key in 'fused', 'head_feature', 'cls_logits', 'bbox_pred':
    cut[key] = arrays[key][:num_boxes]
  return {**cut, 'pooled': arrays['pooled'][:, :num_boxes]}


def convolutional_box_head(arrays):
  """One box, and fewer outputs of the fully connected layer.

  What the others add to class logits and deltas is taken off again.
  """
  cut = box_head(arrays, num_boxes=1)
  rest = cut['head_feature'][:, _FC_ROWS:].astype(np.float64)
  for layer, output in (('cls_score', 'cls_logits'),
                        ('bbox_pred', 'bbox_pred')):
    kernel = cut[f'w/Box_Outs.{layer}.weight']
    added = rest @ kernel[:, _FC_ROWS:].T.astype(np.float64)
    cut[output] = (cut[output] - added).astype(np.float32)
    cut[f'w/Box_Outs.{layer}.weight'] = kernel[:, :_FC_ROWS]
  for key in 'w/Box_Head.fc.weight', 'w/Box_Head.fc.bias':
    cut[key] = cut[key][:_FC_ROWS]
  return {**cut, 'head_feature': cut['head_feature'][:, :_FC_ROWS]}


def mask_head(arrays):
  """One box, and few outputs of the fully connected layer; others are 0.

  Where it says nothing, the mask is the other branch's.
  """
  cut = {key: value for key, value in arrays.items() if key.startswith('w/')}
  others = np.setdiff1d(np.arange(784), _MASK_ROWS)
  for key in 'weight', 'bias':
    key = f'w/Mask_Head.mask_fc.0.{key}'
    cut[key] = arrays[key].copy()
    cut[key][others] = 0
  fcn = arrays['fcn_logits'][:1]
  for key in 'mask_logits', 'mask_logits_without_fc_relu':
    flat = arrays[key][:1].reshape(1, 5, 784).copy()
    flat[..., others] = fcn.reshape(flat.shape)[..., others]
    cut[key] = flat.reshape(fcn.shape)
  for key in 'x_ff', 'x_ff_before_relu':
    cut[key] = arrays[key][:1].copy()
    cut[key][:, others] = 0
  return {**cut, 'fcn_logits': fcn, 'fused': arrays['fused'][:1],
          'pooled': arrays['pooled'][:, :1]}


def roi_align(arrays):
  """Two of eight channels; all boxes."""
  drop = 'box_kind', 'edge_kind', 'strides', 'image_size'
  return {key: value[:, :2] if value.ndim == 4 else value
          for key, value in arrays.items() if key not in drop}


def stored(key, value, always=()):
  """{key in the archive: array}: integers of a binary grid, or some places.

  `KEY|GRID|E` is KEY times 2**E as integers; `KEY|SHAPE|h,w` is every n-th
  place of KEY of that shape.
  """
  if value.dtype != np.float32:
    return {key: value}
  scaled = [value.astype(np.float64) * 2.0**e for e in range(17)]
  exact = [e for e, x in enumerate(scaled) if (x == np.round(x)).all()]
  if exact:
    return {f'{key}|GRID|{exact[0]}': _narrow(scaled[exact[0]])}
  shape = ','.join(str(n) for n in value.shape)
  places = np.arange(0, value.size, max(value.size // _KEPT, 1) | 1)
  places = np.union1d(places, always).astype(int)
  return {f'{key}|SHAPE|{shape}': value.ravel()[places],
          f'{key}|PLACES': np.diff(places, prepend=0).astype(np.uint16)}


def _narrow(x):
  """As the smallest integers that hold them."""
  return x.astype(np.min_scalar_type(-1 - int(np.abs(x).max())))


def places_of_mask(shape):
  """Flat places of the kept outputs of the fully connected layer."""
  return (np.arange(int(np.prod(shape))).reshape(*shape[:-2], -1)[
      ..., _MASK_ROWS].ravel() if shape[-1] == 28 else _MASK_ROWS)


def main(folder):
  """Writes every archive."""
  for name, cut in (('bottom_up_path', neck), ('adaptive_box_head_2fc_gn',
                                               box_head),
                    ('adaptive_box_head_4conv1fc_gn', convolutional_box_head),
                    ('mask_head_ff_gn', mask_head), ('roi_align', roi_align)):
    arrays = cut(dict(np.load(pathlib.Path(folder) / f'{name}.npz')))
    made = {}
    for key, value in arrays.items():
      mask = key.startswith(('mask_logits', 'x_ff'))
      made.update(stored(key, value, places_of_mask(
          value.shape) if mask else ()))
    content = io.BytesIO()
    np.savez(content, **made)
    (_HERE / f'{name}.npz.xz').write_bytes(lzma.compress(
        content.getvalue(), filters=[
            {'id': lzma.FILTER_LZMA2, 'preset': 9, 'lc': 0, 'lp': 0, 'pb': 0}]))


if __name__ == '__main__':
  main(*sys.argv[1:])
