"""Keys and shapes of the released checkpoints, at any width.

Written down from the modules of the release; a test compares them with the
list that was made by building those.
"""

import numpy as np


def shapes(mask=True, two_fc=False, stem=64, dim=256, fc=1024, classes=81):
  """{key: shape} of a state_dict; `stem` and `dim` are 64 and 256 there."""
  keys = {}

  def conv(key, out, inner, size, bias=False):
    keys[f'{key}.weight'] = (out, inner, size, size)
    if bias:
      keys[f'{key}.bias'] = (out,)

  def pair(key, width):
    keys[f'{key}.weight'] = keys[f'{key}.bias'] = (width,)

  def linear(key, out, inner):
    keys[f'{key}.weight'], keys[f'{key}.bias'] = (out, inner), (out,)

  def conv_gn(key, out, inner, size, bias=False):
    conv(f'{key}.0', out, inner, size, bias)
    pair(f'{key}.1', out)

  body = 'Conv_Body.'
  tops = [4 * stem * 2**i for i in range(4)]  # Of res2 to res5.
  conv_gn(body + 'conv_top', dim, tops[3], 1)
  for i in range(3):
    conv_gn(f'{body}topdown_lateral_modules.{i}.conv_lateral', dim,
            tops[2 - i], 1)
  for i in range(4):
    conv_gn(f'{body}posthoc_modules.{i}', dim, dim, 3)
  for step in (1, 2):
    for i in range(3):
      conv_gn(f'{body}panet_buttomup_conv{step}_modules.{i}', dim, dim, 3, True)
  res = body + 'conv_body.res'
  conv(f'{res}1.conv1', stem, 3, 7)
  pair(f'{res}1.bn1', stem)
  inner = stem
  for stage, blocks in enumerate((3, 4, 6, 3)):
    width, top = stem * 2**stage, tops[stage]
    for i in range(blocks):
      key = f'{res}{stage + 2}.{i}'
      for j, (out, into, size) in enumerate((
          (width, inner, 1), (width, width, 3), (top, width, 1)), 1):
        conv(f'{key}.conv{j}', out, into, size)
        pair(f'{key}.bn{j}', out)
      if i == 0:
        conv(f'{key}.downsample.0', top, inner, 1)
        pair(f'{key}.downsample.1', top)
      inner = top
  conv('RPN.FPN_RPN_conv', dim, dim, 3, True)
  conv('RPN.FPN_RPN_cls_score', 3, dim, 1, True)
  conv('RPN.FPN_RPN_bbox_pred', 12, dim, 1, True)
  if two_fc:
    for i in range(4):
      linear(f'Box_Head.fc1.{i}.0', fc, 49 * dim)
      pair(f'Box_Head.fc1.{i}.1', fc)
    linear('Box_Head.fc2.0', fc, fc)
    pair('Box_Head.fc2.1', fc)
  else:
    for i in range(3):
      conv(f'Box_Head.convs.{3 * i}', dim, dim, 3)
      pair(f'Box_Head.convs.{3 * i + 1}', dim)
    linear('Box_Head.fc', fc, 49 * dim)
    for i in range(4):
      conv_gn(f'Box_Head.conv1_head.{i}', dim, dim, 3)
  linear('Box_Outs.cls_score', classes, fc)
  linear('Box_Outs.bbox_pred', 4 * classes, fc)
  if mask:
    for i in range(2):
      conv(f'Mask_Head.conv_fcn.{3 * i}', dim, dim, 3)
      pair(f'Mask_Head.conv_fcn.{3 * i + 1}', dim)
    for i in range(4):
      conv_gn(f'Mask_Head.mask_conv1.{i}', dim, dim, 3)
    conv_gn('Mask_Head.mask_conv4', dim, dim, 3)
    conv_gn('Mask_Head.mask_conv4_fc', dim, dim, 3)
    conv_gn('Mask_Head.mask_conv5_fc', dim // 2, dim, 3)
    linear('Mask_Head.mask_fc.0', 784, 196 * (dim // 2))
    conv('Mask_Head.upconv', dim, dim, 2, True)
    conv('Mask_Outs.classify', classes, dim, 1, True)
  return keys


def arrays(keys, seed=0):
  """Random float32 weights that keep activations of about one size."""
  rng = np.random.default_rng(seed)
  made = {}
  for key, shape in keys.items():
    value = rng.normal(size=shape)
    if len(shape) > 1:
      value *= np.sqrt(2 / np.prod(shape[1:]))
      if key.startswith('RPN.FPN_RPN_cls'):
        value *= 0.5  # Scores near 1 would be the same float32.
      elif key.startswith('Box_Outs.cls'):
        value *= 3
      elif key.startswith(('RPN.FPN_RPN_bbox', 'Box_Outs.bbox')):
        value *= 0.3
    elif key.endswith('.weight'):  # A scale.
      value = 1 + 0.2 * value
      if '.bn3.' in key or 'downsample.1' in key:
        value *= 0.5
    else:
      value *= 0.3
    if 'res1.conv1' in key:
      value /= 60  # Of pixels.
    made[key] = value.astype(np.float32)
  return made
