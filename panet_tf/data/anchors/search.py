"""Anchors fitted to the boxes of a data set.

Appendix A of the paper announces a "strategy of generating anchors on
Cityscapes and MVD"; the strategy here is our own. Model Garden makes all
anchors from three fields, so these are what is sought: aspect ratios begin as
clusters of the boxes' ratios, the anchor size as the best of a ladder, and both
are then moved while the boxes gain by it. A box is measured against the anchors
of the whole grid, in network-input pixels, as the RPN's labels are made. No
TensorFlow: the verb starts at once.
"""

import dataclasses

import numpy as np
import tqdm

from panet_tf import errors
from panet_tf.data.anchors import boxes as boxes_lib
from panet_tf.data.anchors import grid
from panet_tf.data.anchors import report

Anchors = grid.Anchors
NetworkInput = boxes_lib.NetworkInput

_FITTED_BOXES = 50000  # As good as 860,000, in a thirtieth of the time.
_LADDER = np.arange(-1, 6.1, 0.25)  # log2 of anchor sizes, half a stride to 64.
_MOST = 10  # Scales, and ratios: bounds the time of the search.


def of_experiment(params):
  """(Anchors, NetworkInput) of what `configs.experiments.read` gave.

  InputError names a field of anchors or canvases that is odd.
  """
  anchor = params.task.model.anchor
  parser = params.task.validation_data.parser
  edges = [*parser.short_edge, *parser.short_edge_choices]
  # They load TensorFlow, as whatever made `params` did.
  from panet_tf.configs import canvases as canvases_lib
  canvases = canvases_lib.parse_canvases(parser, is_training=False)
  canvas = canvases_lib.canvas_size(canvases[0], 0) if canvases else ()
  return (Anchors(anchor.num_scales, tuple(anchor.aspect_ratios),
                  anchor.anchor_size),
          NetworkInput(tuple(params.task.model.input_size[:2]),
                       max(edges, default=0), parser.long_edge, tuple(canvas)))


def cluster(values, number):
  """Centres [number] of 1-D k-means, from quantiles on: no luck in it."""
  centres = np.quantile(np.unique(values), (np.arange(number) + 0.5) / number)
  while True:
    nearest = np.abs(values[:, np.newaxis] - centres).argmin(1)
    moved = np.array([
        values[nearest == i].mean() if np.any(nearest == i) else centre
        for i, centre in enumerate(centres)])
    if np.allclose(moved, centres, rtol=0, atol=1e-6):
      return moved
    centres = moved


def fit(boxes, num_scales, num_ratios, default):
  """The Anchors of the highest mean of `measures` found, in three digits.

  Args:
    boxes: [4, N] yxyx, network-input pixels.
    num_scales: as in Anchors.
    num_ratios: number of aspect ratios.
    default: Anchors where one more search starts, if they are as many; what
      is found is then no worse.

  Raises:
    InputError: the boxes have fewer aspect ratios to tell apart.
  """
  def score(anchors):
    progress.update()
    return grid.measures(grid.best_iou(boxes, anchors)).mean()

  def at(point):
    return Anchors(num_scales, tuple(2**point[1:]), 2**point[0])

  height, width = boxes[2:] - boxes[:2]
  ratios = cluster(np.log2(width / height), num_ratios)
  with tqdm.tqdm(desc='anchors tried', mininterval=1) as progress:
    starts = [max((np.append(size, ratios) for size in _LADDER),
                  key=lambda point: score(at(point)))]
    found = []
    if (default.num_scales, len(default.aspect_ratios)) == (
        num_scales, num_ratios):
      found.append(default)
      starts.append(np.log2([default.anchor_size, *default.aspect_ratios]))
    found += [_rounded(at(_climb(lambda point: score(at(point)), start)))
              for start in starts]
    best = max(found, key=score)
  different = len(set(best.aspect_ratios))
  if different < num_ratios:
    raise errors.InputError(
        f'num_ratios: {num_ratios}, should be at most {different}: the boxes '
        'have no more aspect ratios to tell apart')
  return best


def _rounded(anchors):
  size, *ratios = (float(f'{value:.3g}') for value in
                   (anchors.anchor_size, *sorted(anchors.aspect_ratios)))
  return dataclasses.replace(
      anchors, aspect_ratios=tuple(ratios), anchor_size=size)


def _climb(score, point):
  """Pattern search: one coordinate at a time, by ever smaller steps."""
  best = score(point)
  for step in (1 / 4, 1 / 8, 1 / 16, 1 / 32):
    moves = np.concatenate([np.eye(len(point)), -np.eye(len(point))]) * step
    improved = True
    while improved:
      improved = False
      for move in moves:
        value = score(point + move)
        if value > best:
          point, best, improved = point + move, value, True
  return point


def fit_dataset(annotations, num_scales=None, num_ratios=None, *,
                default=None, network_input=None):
  """Fits anchors to the boxes of a COCO instances file.

  Args:
    annotations: path of the JSON; crowds are left out, boxes clipped.
    num_scales: as in Anchors; None takes the default's, as for the next.
    num_ratios: number of aspect ratios.
    default: Anchors to compare with; None is Model Garden's.
    network_input: NetworkInput, the scale at which boxes are measured; None is
      the paper's.

  Returns:
    report.FittedAnchors.

  Raises:
    InputError: naming the option, or the file and the field or id.
  """
  default, network_input = default or Anchors(), network_input or NetworkInput()
  num_scales = default.num_scales if num_scales is None else num_scales
  num_ratios = (
      len(default.aspect_ratios) if num_ratios is None else num_ratios)
  for name, value in ('num_scales', num_scales), ('num_ratios', num_ratios):
    if not 1 <= value <= _MOST:
      raise errors.InputError(f'{name}: {value}, should be 1 to {_MOST}')
  boxes, areas, *left_out = boxes_lib.read_boxes(annotations, network_input)
  sample = boxes
  if len(areas) > _FITTED_BOXES:
    sample = boxes[:, np.random.default_rng(0).choice(
        len(areas), _FITTED_BOXES, replace=False)]
  anchors = {'default': default,
             'proposed': fit(sample, num_scales, num_ratios, default)}
  iou = {name: grid.best_iou(boxes, a) for name, a in anchors.items()}
  return report.FittedAnchors(annotations, network_input, boxes, areas,
                              left_out, sample.shape[1], anchors, iou)
