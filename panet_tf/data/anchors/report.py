"""What `panet data anchors` says, to people and as a config file."""

import dataclasses
import os

import numpy as np
import yaml

from panet_tf import errors
from panet_tf import files
from panet_tf.data.anchors import boxes as boxes_lib
from panet_tf.data.anchors import grid

_COCO_SIZES = ('small', 'medium', 'large')
_COCO_LIMITS = (32**2, 96**2)  # Areas between them, original-image pixels.
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclasses.dataclass(frozen=True)
class FittedAnchors:
  """What `search.fit_dataset` found; `str` of it is for people.

  Attributes:
    annotations: path of the JSON.
    network_input: where boxes were measured.
    boxes: [4, N] yxyx, network-input pixels.
    areas: [N], original-image pixels, by COCO's measure.
    left_out: number of crowds, and of boxes outside their image.
    num_fitted: how many of the boxes the search looked at.
    anchors: {'default' | 'proposed': Anchors}.
    iou: {'default' | 'proposed': [N]}: `best_iou` of every box.
  """
  annotations: str
  network_input: boxes_lib.NetworkInput
  boxes: np.ndarray
  areas: np.ndarray
  left_out: list
  num_fitted: int
  anchors: dict
  iou: dict

  def table(self):
    """{'all' | COCO size: (number of boxes, {anchors' name: measures})}."""
    size = np.searchsorted(_COCO_LIMITS, self.areas, side='right')
    rows = {'all': np.full(len(size), True)} | {
        name: size == i for i, name in enumerate(_COCO_SIZES)}
    return {
        name: (row.sum(), {kind: grid.measures(iou[row])
                           for kind, iou in self.iou.items()})
        for name, row in rows.items() if row.any()}

  def verdict(self):
    """One sentence: whether the proposed anchors are better."""
    default, proposed = (grid.measures(iou) for iou in self.iou.values())
    better = ', '.join(np.array(grid.MEASURES)[proposed > default])
    worse = ', '.join(np.array(grid.MEASURES)[proposed < default])
    if not better:
      return 'The proposed anchors are not better: keep the default ones.'
    return f'Better than the default: {better}.' + (
        f' Worse: {worse}.' if worse else '')

  def _made_from(self):
    crowds, outside = self.left_out
    # A file name may hold anything, also the end of a YAML comment.
    name = ascii(os.path.basename(self.annotations))[1:-1]
    yield (f'{name}: {len(self.areas)} boxes; left out: {crowds} crowds, '
           f'{outside} outside their image')
    yield ('fitted to and measured on the same boxes'
           if self.num_fitted == len(self.areas) else
           f'fitted to a sample of {self.num_fitted}; measured on all boxes')
    yield f'network input: {self.network_input}'
    for kind, anchors in self.anchors.items():
      yield f'{kind + ":":10}{anchors}'

  def __str__(self):
    """For people: boxes, IoU by COCO's sizes and a verdict."""
    height, width = self.boxes[2:] - self.boxes[:2]
    lines = [*self._made_from(), '',
             f'{"quantiles":16}' + ''.join(f'{q:>8}%' for q in _QUANTILES)]
    for name, values in [('sqrt(area), px', np.sqrt(height * width)),
                         ('width / height', width / height)]:
      lines.append(f'{name:16}' + ''.join(
          f'{v:9.3g}' for v in np.percentile(values, _QUANTILES)))
    lines += [
        '', "IoU with the best anchor of the grid; sizes are COCO's", ' ' * 15
        + ''.join(f'   {f"{kind}, {anchors.per_position} per position":30}'
                  for kind, anchors in self.anchors.items()).rstrip(),
        f'{"boxes":>15}' + '   IoU>=0.5   IoU>=0.7   mean IoU' * 2]
    for name, (count, row) in self.table().items():
      lines.append(f'{name:7}{count:8}' + ''.join(
          f'{v:11.3f}' for kind in row for v in row[kind]))
    return '\n'.join([*lines, '', self.verdict()])

  def write(self, path):
    """Writes the YAML for --config_file, whole, or raises InputError."""
    if os.path.realpath(path) == os.path.realpath(self.annotations):
      raise errors.InputError(f'{path}: would overwrite the annotations; '
                              '--output should name another file')
    default, proposed = (grid.measures(iou) for iou in self.iou.values())
    header = ['Anchors made by `panet data anchors`', *self._made_from(), *(
        f'{name}: {before:.3f} by default, {after:.3f} proposed'
        for name, before, after in zip(
            grid.MEASURES, default, proposed, strict=True)), self.verdict()]
    fields = dataclasses.asdict(self.anchors['proposed'])
    fields['aspect_ratios'] = list(fields['aspect_ratios'])
    fragment = yaml.safe_dump(
        {'task': {'model': {'anchor': fields}}}, sort_keys=False,
        default_flow_style=None)
    files.write_text(path, [*(f'# {line}\n' for line in header), fragment])
