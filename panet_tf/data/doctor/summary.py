"""What a COCO file holds, in numbers for people."""

import collections
import itertools
import statistics

# Sides in pixels of squares of the areas; COCO's small ends at 32, its medium
# at 96.
_AREA_SIDES = (8, 16, 32, 64, 96, 128, 256, 512)


def summarize(images, annotations, categories):
  """Counts what is usable, COCO's entries with ids of their own and areas.

  Returns:
    {'sizes': {'640x480': images, ...} most frequent first,
    'objects_per_image': {'min', 'median', 'mean', 'max', 'without'},
    'areas': [{'from_side', 'to_side' (pixels of a square; None is no limit),
    'count'}, ...],
    'categories': [{'id', 'name', 'count'}, ...] most frequent first,
    'crowds': annotations with `iscrowd` 1}.
  """
  sizes = collections.Counter(
      f'{i["width"]}x{i["height"]}'
      if None not in (i.get('width'), i.get('height')) else 'unknown'
      for i in images)
  per_image = collections.Counter(a['image_id'] for a in annotations)
  counts = [per_image[i['id']] for i in images]
  per_category = collections.Counter(a['category_id'] for a in annotations)
  return {
      'sizes': dict(sizes.most_common()),
      'objects_per_image': {
          'min': min(counts), 'median': statistics.median(counts),
          'mean': round(statistics.fmean(counts), 2), 'max': max(counts),
          'without': counts.count(0)} if counts else None,
      'areas': _areas(annotations),
      'categories': sorted(
          ({'id': c['id'], 'name': c['name'], 'count': per_category[c['id']]}
           for c in categories), key=lambda c: (-c['count'], c['id'])),
      'crowds': sum(a['iscrowd'] == 1 for a in annotations),
  }


def _areas(annotations):
  limits = [0, *_AREA_SIDES, None]
  counts = [0] * (len(limits) - 1)
  for annotation in annotations:
    counts[sum(annotation['area'] >= side**2 for side in _AREA_SIDES)] += 1
  return [{'from_side': low, 'to_side': high, 'count': count}
          for (low, high), count in zip(
              itertools.pairwise(limits), counts, strict=True)]
