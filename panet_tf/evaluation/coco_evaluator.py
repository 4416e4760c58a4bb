"""COCO metrics of a model in training, fed a batch of detections at a time."""

import itertools

import numpy as np

from panet_tf import errors
from panet_tf.evaluation import coco
from panet_tf.evaluation import coco_results
from panet_tf.ops import paste_masks


class CocoEvaluator:
  """The metric that Model Garden's task feeds with a batch at a time.

  Masks become RLE as they arrive, so that memory does not grow with the images'
  sizes. `result` leaves the results in place; `reset_states` starts afresh.
  """

  name = 'coco_metric'

  def __init__(self, ground_truth, *, include_mask, max_detections,
               category_ids, image_ids=None, per_category=False):
    """Keeps the ground truth and how to speak its ids.

    Args:
      ground_truth: dict, COCO instances.
      include_mask: bool.
      max_detections: int, per image and category.
      category_ids: list, label i + 1 is category `category_ids[i]`.
      image_ids: list, source id i + 1 is image `image_ids[i]`; None: source
        ids are the image ids, as numbers or as strings.
      per_category: bool, whether `result` adds `AP/<name>`, `mask_AP/<name>`.
    """
    self._ground_truth = ground_truth
    self._options = dict(include_mask=include_mask, per_category=per_category,
                         max_detections=max_detections)
    self._category_ids = list(category_ids)
    known = [image['id'] for image in ground_truth['images']]
    pairs = zip(known, known) if image_ids is None else enumerate(image_ids, 1)
    self._image_ids = {str(source_id): image for source_id, image in pairs}
    self.reset_states()

  def reset_states(self):
    self._results = {}

  @property
  def results(self):
    """COCO results so far, in order of arrival."""
    return list(itertools.chain.from_iterable(self._results.values()))

  @property
  def num_images(self):
    """Images seen so far."""
    return len(self._results)

  def update_state(self, groundtruths, predictions):
    """Adds a batch; an image that was seen before is skipped.

    Args:
      groundtruths: ignored.
      predictions: dict of tensors, or of tuples of one tensor per replica:
        source_id [B], image_info [B, 4, 2], detection_boxes [B, K, 4] (yxyx,
        network-input pixels), detection_scores [B, K], detection_classes
        [B, K], num_detections [B] and, for masks, detection_masks
        [B, K, M, M] probabilities.

    Raises:
      InputError: an image or a label that the ground truth does not have.
    """
    del groundtruths
    predictions = {key: _to_numpy(predictions[key]) for key in (
        'source_id', 'image_info', 'detection_boxes', 'detection_scores',
        'detection_classes', 'num_detections') + (
            ('detection_masks',) if self._options['include_mask'] else ())}
    for index in range(len(predictions['source_id'])):
      image = {key: value[index] for key, value in predictions.items()}
      image_id = self._image_id(image['source_id'])
      if image_id not in self._results:
        self._results[image_id] = self._image_results(image_id, image)

  def _image_id(self, source_id):
    source_id = getattr(source_id, 'item', lambda: source_id)()
    text = source_id.decode() if isinstance(source_id, bytes) else source_id
    if str(text) not in self._image_ids:
      raise errors.InputError(
          f'source id {text!r} is no image of the ground truth: were the '
          'records made from this annotation file?')
    return self._image_ids[str(text)]

  def _image_results(self, image_id, image):
    """One image's detections, in original pixels, as COCO results."""
    count = int(image['num_detections'])
    (height, width), _, scale, offset = image['image_info'].astype(np.float64)
    boxes = image['detection_boxes'][:count].astype(np.float64)
    boxes = (boxes + np.tile(offset, 2)) / np.tile(scale, 2)
    # The mask lies in the frame of the whole box, also of a part outside.
    rles = paste_masks.encode_masks(
        image['detection_masks'][:count], boxes, int(height), int(width)
    ) if self._options['include_mask'] else None
    boxes = np.clip(boxes, 0, [height, width, height, width])
    return coco_results.detections_to_results(
        image_id, boxes, image['detection_scores'][:count],
        image['detection_classes'][:count], rles, self._category_ids)

  def result(self):
    """Flat float32 metrics under Model Garden's names: 'AP', 'mask_ARmax1'."""
    metrics = coco.coco_metrics(
        self._ground_truth, self.results, **self._options)
    categories = metrics.pop('per_category', {})
    flat = {}
    for kind, rows in metrics.items():
      prefix = 'mask_' if kind == 'mask' else ''
      for name, value in rows.items():
        flat[prefix + _model_garden_name(name)] = np.float32(value)
      for name, kinds in categories.items():
        flat[f'{prefix}AP/{name}'] = np.float32(kinds[kind]['AP'])
    return flat


def _to_numpy(value):
  """A tensor, or a tuple of one per replica, as one array."""
  parts = value if isinstance(value, tuple) else (value,)
  return np.concatenate([np.asarray(part) for part in parts])


def _model_garden_name(row):
  if row[-1] in 'SML':
    return row[:-1] + row[-1].lower()
  return row.replace('AR', 'ARmax')
