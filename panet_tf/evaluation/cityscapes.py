"""AP and AP50 by the rules of the Cityscapes benchmark, from COCO results.

They differ from COCO's AP: no object has a size class or a detection limit,
the curve is neither made monotonous nor sampled at 101 points, and what lies on
void, on a group or on an instance of under 100 pixels may be ignored. The
numbers are those of the benchmark's own program (cityscapesscripts), without
its files of one mask each. AP50m and AP100m are left out: the public program
cannot give them either, as gtFine has no distances.
"""

from typing import NamedTuple

import numpy as np

from panet_tf import errors
from panet_tf.data import parallel
from panet_tf.data.sources import cityscapes
from panet_tf.data.sources import instance_png
from panet_tf.evaluation import cityscapes_results
from panet_tf.structures import run_lengths

# Pixel values without evaluation. Caravans and trailers are void as a group
# only: an instance, say 29001, is another value to the benchmark.
_VOID = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)
_LAST_LABEL = 33
# An instance is its label times this, plus a number; smaller values are labels.
_INSTANCE_FACTOR = 1000
_LEAST_PIXELS = 100
# Not linspace: the last bit decides whether an IoU of 0.6 is above 0.6.
_OVERLAPS = np.arange(0.5, 1.0, 0.05)


class _Matches(NamedTuple):
  """Predictions [P] and instances [T]; what evaluation needs of the pixels."""
  category: np.ndarray  # [P] label id.
  score: np.ndarray  # [P].
  iou: np.ndarray  # [P] with the region of its class that it overlaps most.
  truth: np.ndarray  # [P] that region as an index of [T], -1 for none of them.
  ignored: np.ndarray  # [P] share of pixels on void, groups, small instances.
  truth_category: np.ndarray  # [T] label id.


def cityscapes_metrics(root, dataset, results, num_workers=None):
  """Scores COCO results against the gtFine instance images.

  Args:
    root: folder that holds gtFine and leftImg8bit.
    dataset: dict, the COCO instances of the Cityscapes converter; all of its
      images are evaluated, its annotations are not looked at.
    results: of `coco_results.load_results`, with RLE masks.
    num_workers: processes; default one per core, where there is work for it.

  Returns:
    {'AP': .., 'AP50': .., 'per_class': {name: {'AP': .., 'AP50': ..}}}; floats
    in 0..1, -1 where there is no instance (the benchmark's program says NaN),
    which the means leave out.

  Raises:
    InputError: naming the file, image or result: no such instance image, one
      of another size, or a result that is not of this dataset.
  """
  tasks = [
      (cityscapes_results.truth_path(root, image), image, own)
      for image, own in cityscapes_results.results_per_image(dataset, results)]
  matches = _concatenate(parallel.with_progress(
      _match_image, tasks, num_workers,
      least=cityscapes_results.IMAGES_PER_PROCESS))
  aps = {name: np.array([_average_precision(matches, category, overlap)
                         for overlap in _OVERLAPS])
         for name, category in cityscapes.INSTANCE_CLASSES.items()}
  return {**_means(np.array(list(aps.values()))),
          'per_class': {name: _means(row) for name, row in aps.items()}}


def table(metrics):
  """A line per class and their mean, in percent; a dash where is no truth."""
  rows = {'': ['AP', 'AP50']}
  for name, values in {**metrics['per_class'], 'mean': metrics}.items():
    rows[name] = ['-' if values[key] < 0 else f'{100 * values[key]:.1f}'
                  for key in ('AP', 'AP50')]
  return '\n'.join(f'{name:<10}{ap:>7}{ap50:>7}'
                   for name, (ap, ap50) in rows.items())


def _read_ids(path, image):
  """Instance image as ([width, height] indices into values, values, pixels)."""
  try:
    ids = instance_png.read_ids(path, image)
  except errors.InputError as error:
    raise errors.InputError(f'image {image["id"]!r}: {error}') from error
  counts = np.bincount(ids.ravel())
  values = np.flatnonzero(counts)
  strange = values[_labels(values) > _LAST_LABEL]
  if strange.size:
    raise errors.InputError(
        f'image {image["id"]!r}: {path}: pixel value {strange[0]} is no '
        f'instance of Cityscapes; should be label x {_INSTANCE_FACTOR} + '
        f'number, or a label up to {_LAST_LABEL}')
  order = np.zeros(counts.size, np.uint16)
  order[values] = np.arange(values.size)
  # Column by column, as RLE is.
  return order[np.ascontiguousarray(ids.T)], values, counts[values]


def _labels(values):
  return np.where(values < _INSTANCE_FACTOR, values, values // _INSTANCE_FACTOR)


def _match_image(path, image, results):
  """The `_Matches` of one image; predictions without pixels are left out."""
  regions, values, pixels = _read_ids(path, image)
  overlap = np.zeros([len(results), values.size], np.int64)
  for row, (index, result) in zip(overlap, results, strict=True):
    rle = cityscapes_results.mask_rle(index, result, image)
    first, columns = run_lengths.byte_columns(rle)
    mask = columns.T.view(bool)
    row[:] = np.bincount(
        regions[first:first + len(mask)][mask], minlength=values.size)
  area = overlap.sum(1)
  kept = np.flatnonzero(area)
  overlap, area = overlap[kept], area[kept]
  category = np.array([results[i][1]['category_id'] for i in kept], np.int64)
  score = np.array([results[i][1]['score'] for i in kept], np.float64)

  void = overlap[:, np.isin(values, _VOID)].sum(1)
  overlap = overlap * (category[:, np.newaxis] == _labels(values))
  group, small = values < _INSTANCE_FACTOR, pixels < _LEAST_PIXELS
  # A group that is small counts twice; so it does in the benchmark.
  ignored = (void + overlap @ (group.astype(int) + small)) / area
  iou = overlap / (pixels + area[:, np.newaxis] - overlap)
  # Regions are disjoint: only one can have an IoU above 0.5.
  best = iou.argmax(1)
  truths = np.flatnonzero(~group & ~small)
  truth_index = np.full(values.size, -1)
  truth_index[truths] = np.arange(truths.size)
  return _Matches(category, score, iou.max(1), truth_index[best], ignored,
                  _labels(values[truths]))


def _concatenate(parts):
  """All images' `_Matches` as one."""
  joined, num_truths = [], 0
  for part in parts:
    joined.append(part._replace(
        truth=np.where(part.truth < 0, -1, part.truth + num_truths)))
    num_truths += part.truth_category.size
  return _Matches(*map(np.concatenate, zip(*joined, strict=True)))


def _average_precision(matches, category, overlap):
  """AP of one class at one overlap; NaN without instances.

  Of the predictions that match an instance the best-scored one is right, the
  others are wrong. One that matches a group or a small instance counts
  neither way, and so does one that matches nothing and is ignored by more
  than `overlap` of its pixels.
  """
  num_truths = np.count_nonzero(matches.truth_category == category)
  if not num_truths:
    return np.nan
  own = matches.category == category
  found = matches.iou > overlap
  matched = np.flatnonzero(own & found & (matches.truth >= 0))
  wrong = np.flatnonzero(own & ~found & (matches.ignored <= overlap))
  matched = matched[np.argsort(-matches.score[matched])]
  hits = np.zeros(matched.size + wrong.size)
  hits[np.unique(matches.truth[matched], return_index=True)[1]] = 1
  return _area(matches.score[np.concatenate([matched, wrong])], hits,
               num_truths)


def _area(scores, hits, num_truths):
  """Area under precision over recall, one point per distinct score.

  A point's width reaches half way to both its neighbours; the last one is
  precision 1 at recall 0. Hits [N] are 1 for right, 0 for wrong.

  0 where nothing is scored. (The benchmark's program stops with an IndexError
  where a class has instances, and predictions that are all ignored.)
  """
  if not scores.size:
    return 0.0
  order = np.argsort(scores)
  starts = np.unique(scores[order], return_index=True)[1]
  right = hits[order][::-1].cumsum()[::-1][starts]
  precision = np.append(right / (scores.size - starts), 1)
  recall = np.append(right / num_truths, 0)
  padded = np.concatenate([recall[:1], recall, [0]])
  return float(precision @ (0.5 * padded[:-2] - 0.5 * padded[2:]))


def _means(aps):
  """AP and AP50 of [.., overlaps], without what has no instances."""
  return {name: -1.0 if np.isnan(values).all() else float(np.nanmean(values))
          for name, values in (('AP', aps), ('AP50', aps[..., 0]))}
