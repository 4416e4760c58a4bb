"""The released model said again in plain NumPy, as slow as it likes to be.

NCHW, float64, weights by the keys of the release; boxes are x1 y1 x2 y2,
indices of pixels.
"""

import numpy as np

BBOX_CLIP = np.log(1000 / 16)


def conv(x, weight, bias=None, stride=1, pad=None):
  out, _, size, _ = weight.shape
  pad = size // 2 if pad is None else pad
  x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
  height, width = ((edge - size) // stride + 1 for edge in x.shape[2:])
  y = np.zeros([len(x), out, height, width])
  for i in range(size):
    for j in range(size):
      part = x[:, :, i:i + stride * height:stride, j:j + stride * width:stride]
      y += np.einsum('oc,nchw->nohw', weight[:, :, i, j].astype(float),
                     part[:, :, :height, :width], optimize=True)
  return y if bias is None else y + bias[:, None, None]


def group_norm(x, scale, offset, groups=32, epsilon=1e-5):
  y = x.reshape(len(x), groups, -1)
  y = (y - y.mean(-1, keepdims=True)) / np.sqrt(
      y.var(-1, keepdims=True) + epsilon)
  ones = [1] * (x.ndim - 2)
  return y.reshape(x.shape) * scale.reshape(-1, *ones) + offset.reshape(
      -1, *ones)


def relu(x):
  return np.maximum(x, 0)


class Release:
  """The stages, from a dictionary of weights; `used` are the keys it read."""

  def __init__(self, weights):
    self._weights, self.used = weights, set()

  def _get(self, key):
    self.used.add(key)
    return self._weights[key]

  def _conv(self, x, key, stride=1, bias=False):
    return conv(x, self._get(f'{key}.weight'),
                self._get(f'{key}.bias') if bias else None, stride)

  def _gn(self, x, key):
    return group_norm(x, self._get(f'{key}.weight'), self._get(f'{key}.bias'))

  def _conv_gn(self, x, key, stride=1, bias=False):
    return self._gn(self._conv(x, f'{key}.0', stride, bias), f'{key}.1')

  def _fc(self, x, key):
    return x @ self._get(f'{key}.weight').T.astype(float) + self._get(
        f'{key}.bias')

  def _affine(self, x, key):
    return (x * self._get(f'{key}.weight')[:, None, None]
            + self._get(f'{key}.bias')[:, None, None])

  def backbone(self, x):
    """[N, 3, H, W] BGR less means to [C2, C3, C4, C5]."""
    body = 'Conv_Body.conv_body.res'
    x = relu(self._affine(self._conv(x, f'{body}1.conv1', 2), f'{body}1.bn1'))
    x = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    height, width = ((edge - 3) // 2 + 1 for edge in x.shape[2:])
    x = np.max([x[:, :, i:i + 2 * height:2, j:j + 2 * width:2]
                for i in range(3) for j in range(3)], 0)
    maps = []
    for stage, blocks in enumerate((3, 4, 6, 3), 2):
      for i in range(blocks):
        key = f'{body}{stage}.{i}'
        stride = 2 if stage > 2 and i == 0 else 1
        y = relu(self._affine(self._conv(x, f'{key}.conv1', stride),
                              f'{key}.bn1'))
        y = relu(self._affine(self._conv(y, f'{key}.conv2'), f'{key}.bn2'))
        y = self._affine(self._conv(y, f'{key}.conv3'), f'{key}.bn3')
        if i == 0:
          x = self._affine(self._conv(x, f'{key}.downsample.0', stride),
                           f'{key}.downsample.1')
        x = relu(x + y)
      maps.append(x)
    return maps

  def neck(self, c):
    """[C2..C5] to [N2..N6]."""
    body = 'Conv_Body.'
    inner = [self._conv_gn(c[3], body + 'conv_top')]
    for i in range(3):
      lateral = self._conv_gn(
          c[2 - i], f'{body}topdown_lateral_modules.{i}.conv_lateral')
      inner.append(lateral + inner[-1].repeat(2, 2).repeat(2, 3))
    p = [self._conv_gn(x, f'{body}posthoc_modules.{i}')
         for i, x in enumerate(inner)][::-1]  # P2..P5.
    n = [p[0]]
    for i in range(3):
      x = relu(self._conv_gn(
          n[-1], f'{body}panet_buttomup_conv1_modules.{i}', 2, True))
      n.append(relu(self._conv_gn(
          x + p[i + 1], f'{body}panet_buttomup_conv2_modules.{i}', 1, True)))
    return n + [n[-1][:, :, ::2, ::2]]

  def rpn(self, n):
    """[N2..N6] to logits [N, 3, h, w] and deltas [N, 12, h, w] of each."""
    shared = [relu(self._conv(x, 'RPN.FPN_RPN_conv', bias=True)) for x in n]
    return ([self._conv(x, 'RPN.FPN_RPN_cls_score', bias=True)
             for x in shared],
            [self._conv(x, 'RPN.FPN_RPN_bbox_pred', bias=True)
             for x in shared])

  def box_head(self, pooled):
    """Four of [R, C, 7, 7] to logits [R, K] and deltas [R, 4K]."""
    if 'Box_Head.fc2.0.weight' in self._weights:
      x = np.max([relu(self._gn(
          self._fc(x.reshape(len(x), -1), f'Box_Head.fc1.{i}.0'),
          f'Box_Head.fc1.{i}.1')) for i, x in enumerate(pooled)], 0)
      x = relu(self._gn(self._fc(x, 'Box_Head.fc2.0'), 'Box_Head.fc2.1'))
    else:
      x = np.max([relu(self._conv_gn(x, f'Box_Head.conv1_head.{i}'))
                  for i, x in enumerate(pooled)], 0)
      for i in range(3):
        x = relu(self._gn(self._conv(x, f'Box_Head.convs.{3 * i}'),
                          f'Box_Head.convs.{3 * i + 1}'))
      x = relu(self._fc(x.reshape(len(x), -1), 'Box_Head.fc'))
    return self._fc(x, 'Box_Outs.cls_score'), self._fc(x, 'Box_Outs.bbox_pred')

  def mask_head(self, pooled):
    """Four of [R, C, 14, 14] to logits [R, K, 28, 28]."""
    x = np.max([relu(self._conv_gn(x, f'Mask_Head.mask_conv1.{i}'))
                for i, x in enumerate(pooled)], 0)
    for i in range(2):
      x = relu(self._gn(self._conv(x, f'Mask_Head.conv_fcn.{3 * i}'),
                        f'Mask_Head.conv_fcn.{3 * i + 1}'))
    up = relu(self._upconv(relu(self._conv_gn(x, 'Mask_Head.mask_conv4'))))
    y = relu(self._conv_gn(x, 'Mask_Head.mask_conv4_fc'))
    y = relu(self._conv_gn(y, 'Mask_Head.mask_conv5_fc'))
    y = relu(self._fc(y.reshape(len(y), -1), 'Mask_Head.mask_fc.0'))
    return self._conv(up, 'Mask_Outs.classify', bias=True) + y.reshape(
        -1, 1, 28, 28)

  def _upconv(self, x):
    weight = self._get('Mask_Head.upconv.weight')
    count, _, height, width = x.shape
    y = np.einsum('nchw,coij->nohiwj', x, weight.astype(float), optimize=True)
    return y.reshape(count, -1, 2 * height, 2 * width) + self._get(
        'Mask_Head.upconv.bias')[:, None, None]


def base_anchors(stride, size, ratios=(0.5, 1, 2)):
  """[3, 4] at the first cell; `ratios` are height / width."""
  centre = 0.5 * (stride - 1)
  boxes = []
  for ratio in ratios:
    width = np.round(np.sqrt(stride * stride / ratio))
    height = np.round(width * ratio)
    width, height = width * size / stride, height * size / stride
    boxes.append([centre - 0.5 * (width - 1), centre - 0.5 * (height - 1),
                  centre + 0.5 * (width - 1), centre + 0.5 * (height - 1)])
  return np.array(boxes)


def anchors(level, height, width):
  """[height * width * 3, 4]."""
  x, y = np.meshgrid(np.arange(width) * 2**level, np.arange(height) * 2**level)
  shifts = np.stack([x, y, x, y], -1).reshape(-1, 1, 4)
  return (shifts + base_anchors(2**level, 32 * 2**(level - 2))).reshape(-1, 4)


def decode(boxes, deltas, weights=(1, 1, 1, 1)):
  """[R, 4] and [R, 4K] to [R, 4K]."""
  size = boxes[:, 2:] - boxes[:, :2] + 1
  centre = boxes[:, :2] + 0.5 * size
  deltas = deltas.reshape(len(boxes), -1, 4) / np.array(weights)
  middle = deltas[..., :2] * size[:, None] + centre[:, None]
  new = np.exp(np.minimum(deltas[..., 2:], BBOX_CLIP)) * size[:, None]
  return np.concatenate(
      [middle - 0.5 * new, middle + 0.5 * new - 1], -1).reshape(len(boxes), -1)


def clip(boxes, height, width):
  limit = np.array([width, height, width, height]) - 1
  return np.clip(boxes.reshape(len(boxes), -1, 4), 0, limit).reshape(
      boxes.shape)


def nms(boxes, scores, threshold):
  """Indices that are kept, best first."""
  area = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, 1)
  order, kept = list(np.argsort(-scores, kind='stable')), []
  while order:
    i, *order = order
    kept.append(i)
    rest = np.array(order, int)
    size = np.maximum(np.minimum(boxes[i, 2:], boxes[rest, 2:]) - np.maximum(
        boxes[i, :2], boxes[rest, :2]) + 1, 0)
    inter = size.prod(1)
    order = list(rest[inter / (area[i] + area[rest] - inter) < threshold])
  return np.array(kept, int)


def proposals(logits, deltas, image_size, before=1000, after=1000):
  """Of one image, logits [3, h, w] and deltas [12, h, w] of levels 2..6."""
  boxes, scores = [], []
  for level, (logit, delta) in enumerate(zip(logits, deltas, strict=True), 2):
    score = 1 / (1 + np.exp(-logit.transpose(1, 2, 0).ravel()))
    order = np.argsort(-score, kind='stable')[:before]
    found = decode(anchors(level, *logit.shape[1:])[order],
                   delta.transpose(1, 2, 0).reshape(-1, 4)[order])
    found = clip(found, *image_size)
    kept = nms(found, score[order], 0.7)[:after]
    boxes.append(found[kept])
    scores.append(score[order][kept])
  boxes, scores = np.concatenate(boxes), np.concatenate(scores)
  order = np.argsort(-scores, kind='stable')[:after]
  return boxes[order], scores[order]


def roi_align(feature, boxes, size, stride, ratio=2):
  """[C, H, W] and [R, 4] to [R, C, size, size]; Detectron's of 2018."""
  _, height, width = feature.shape
  pooled = np.zeros([len(boxes), len(feature), size, size])
  for r, box in enumerate(boxes / stride):
    extent = np.maximum(box[2:] - box[:2], 1)
    grid = (np.arange(size * ratio) + 0.5) / (size * ratio)
    taps = []
    for start, length, edge in ((box[1], extent[1], height),
                                (box[0], extent[0], width)):
      at = start + grid * length
      inside = (at >= -1) & (at <= edge)
      at = np.clip(at, 0, None)
      low = np.minimum(np.floor(at).astype(int), edge - 1)
      at = np.where(low >= edge - 1, edge - 1, at)
      matrix = np.zeros([size * ratio, edge])
      rows = np.arange(size * ratio)
      np.add.at(matrix, (rows, low), (1 - (at - low)) * inside)
      np.add.at(matrix, (rows, np.minimum(low + 1, edge - 1)),
                (at - low) * inside)
      taps.append(matrix.reshape(size, ratio, edge).mean(1))
    pooled[r] = np.einsum('iy,cyx,jx->cij', taps[0], feature, taps[1],
                          optimize=True)
  return pooled


def pool(n, boxes, size):
  """Levels 2 to 5 of [N2..N6] of one image."""
  return [roi_align(x, boxes, size, 2**level)
          for level, x in zip(range(2, 6), n, strict=False)]


def detections(boxes, scores, score_threshold=0.05, threshold=0.5, most=100):
  """Boxes [R, 4K] and scores [R, K] to rows (class, score, x1, y1, x2, y2)."""
  rows = []
  for k in range(1, scores.shape[1]):
    chosen = np.flatnonzero(scores[:, k] > score_threshold)
    found = boxes[chosen, 4 * k:4 * k + 4]
    kept = nms(found, scores[chosen, k], threshold)
    rows += [(k, scores[chosen[i], k], *found[i]) for i in kept]
  return sorted(rows, key=lambda row: -row[1])[:most]
