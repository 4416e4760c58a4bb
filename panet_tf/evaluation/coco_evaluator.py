"""COCO metrics of a model in training, fed a batch of detections at a time."""

import json

import numpy as np
from pycocotools import mask as mask_utils

from panet_tf import errors
from panet_tf.evaluation import coco
from panet_tf.evaluation import coco_instances
from panet_tf.structures import detections as detections_lib
from panet_tf.structures import rle_masks


class CocoEvaluator:
  """The metric that Model Garden's task feeds with a batch at a time.

  Masks become RLE as they arrive, so that memory does not grow with the images'
  sizes. Where several workers see a part of the images each, they exchange
  `state` and `merge` it.
  """

  name = 'coco_metric'

  def __init__(self, ground_truth, *, include_mask, max_detections,
               category_ids, image_ids=None, per_category=False,
               legacy_masks=False):
    """Keeps the ground truth and how to speak its ids.

    Args:
      ground_truth: dict, COCO instances.
      include_mask: bool.
      max_detections: int, per image and category.
      category_ids: list, label i + 1 is category `category_ids[i]`.
      image_ids: list, source id i + 1 is image `image_ids[i]`; None: source
        ids are the image ids, as numbers or as strings.
      per_category: bool, whether `result` adds `AP/<name>`, `mask_AP/<name>`.
      legacy_masks: bool, of `update_state`, see `structures.box_masks`.

    Raises:
      InputError: here and not after the first steps of a training: an
        annotation that cannot be scored, a category that the ground truth does
        not have, or image ids 1 and '1' without `image_ids`.
    """
    self._ground_truth = ground_truth
    self._legacy_masks = legacy_masks
    self._options = dict(include_mask=include_mask, per_category=per_category,
                         max_detections=max_detections)
    self._truth = coco_instances.from_items(
        ground_truth['annotations'], 'annotation', ground_truth, include_mask)
    self._category_ids = list(category_ids)
    self._categories = _places(self._category_ids, ground_truth['categories'])
    self._images = list(coco_instances.images_of(ground_truth).values())
    places = {image['id']: i for i, image in enumerate(self._images)}
    if image_ids is None:
      _check_texts_differ(places)
    pairs = (zip(places, places, strict=True) if image_ids is None
             else enumerate(image_ids, 1))
    self._places = {str(source_id): places[image_id]
                    for source_id, image_id in pairs if image_id in places}
    self.reset_states()

  def reset_states(self):
    """Forgets all images."""
    self._detections = {}  # By the image's place.

  @property
  def num_images(self):
    """Images seen so far."""
    return len(self._detections)

  @property
  def num_truth_images(self):
    """Images of the ground truth."""
    return len(self._images)

  def update_state(self, groundtruths, predictions):
    """Adds a batch; an image that was seen before is skipped.

    Predictions are a dict of tensors, or of tuples of one tensor per replica:
    source_id [B], image_info [B, 4, 2], whose first row is the image's size,
    and of `PANetModel.detect`.

    Raises:
      InputError: an image or a label that the ground truth does not have.
    """
    del groundtruths
    keys = ['source_id', 'image_info', 'detection_boxes', 'detection_scores',
            'detection_classes', 'num_detections']
    if self._options['include_mask']:
      keys.append('detection_masks')
    predictions = {key: _to_numpy(predictions[key]) for key in keys}
    for index in range(len(predictions['source_id'])):
      image = {key: value[index] for key, value in predictions.items()}
      if self._place(image['source_id']) not in self._detections:
        self.add_image(
            image['source_id'], detections_lib.Detections.from_outputs(
                image, image['image_info'][0], self._legacy_masks))

  def _place(self, source_id):
    source_id = getattr(source_id, 'item', lambda: source_id)()
    text = source_id.decode() if isinstance(source_id, bytes) else source_id
    if str(text) not in self._places:
      raise errors.InputError(
          f'source id {text!r} is no image of the ground truth: were the '
          'records made from this annotation file?')
    return self._places[str(text)]

  def add_image(self, source_id, found):
    """Adds one image's Detections, in its own pixels, as `update_state`."""
    place = self._place(source_id)
    known = self._images[place]
    found.check_labels(known['id'], self._category_ids)
    size, masks = found.image_size, None
    if self._options['include_mask']:
      known_size = known.get('height'), known.get('width')
      if known_size != size:
        raise errors.InputError(
            f'image {known["id"]!r} has (height, width) {known_size} in the '
            f'ground truth and {size} in the records: were they made from this '
            'annotation file?')
      # A mask lies in the frame of the whole box, also of a part outside.
      masks = rle_masks.RleMasks.from_rles(found.known_masks.rles(), size)
    self._detections[place] = detections_lib.Detections(
        np.clip(found.boxes.astype(np.float64), 0, [*size, *size]),
        found.scores.astype(np.float64), found.labels.astype(np.int64), size,
        masks)

  def result(self):
    """Flat float32 metrics under Model Garden's names: 'AP', 'mask_ARmax1'."""
    metrics = coco.coco_metrics(
        self._ground_truth, self.instances(), truth_instances=self._truth,
        **self._options)
    categories = metrics.pop('per_category', {})
    flat = {}
    for kind, rows in metrics.items():
      prefix = 'mask_' if kind == 'mask' else ''
      for name, value in rows.items():
        flat[prefix + _model_garden_name(name)] = np.float32(value)
      for name, kinds in categories.items():
        flat[f'{prefix}AP/{name}'] = np.float32(kinds[kind]['AP'])
    return flat

  def instances(self):
    """All detections so far as Instances, not rounded."""
    detections = list(self._detections.values())
    boxes = np.concatenate([np.zeros([0, 4]), *(x.boxes for x in detections)])
    scores = np.concatenate([np.zeros(0), *(x.scores for x in detections)])
    labels = np.concatenate(
        [np.zeros(0, np.int64), *(x.labels for x in detections)])
    y1, x1, y2, x2 = boxes.T
    width, height = x2 - x1, y2 - y1
    rles = [rle for one in detections if one.masks is not None
            for rle in one.masks.rles()]
    return coco_instances.Instances(
        images=np.repeat(np.array(list(self._detections), int),
                         [len(one) for one in detections]),
        categories=self._categories[labels - 1],
        boxes=np.stack([x1, y1, width, height], axis=1), scores=scores,
        iscrowd=np.zeros(width.size, int),
        areas={'bbox': width * height,
               'segm': np.array([mask_utils.area(rle) for rle in rles], float)},
        rles=rles)

  def state(self):
    """All detections so far, for `merge` in another worker: [S] uint8, JSON."""
    return np.frombuffer(json.dumps([
        [place, one.image_size, one.boxes.tolist(), one.scores.tolist(),
         one.labels.tolist(),
         None if one.masks is None else one.masks.counts]
        for place, one in self._detections.items()]).encode('ascii'), np.uint8)

  def merge(self, states):
    """Adds other workers' detections; an image that was seen is skipped.

    States, [S] uint8, are of workers with the same ground truth. This worker's
    own among them does no harm.
    """
    for state in states:
      for place, size, boxes, scores, labels, counts in json.loads(
          state.tobytes()):
        masks = None if counts is None else rle_masks.RleMasks(
            counts, tuple(size))
        self._detections.setdefault(place, detections_lib.Detections(
            np.reshape(boxes, [-1, 4]), np.array(scores, np.float64),
            np.array(labels, np.int64), size, masks))


def _places(category_ids, categories):
  """Place among the ground truth's categories of each id: [K] int."""
  places = {category['id']: i for i, category in enumerate(categories)}
  for category_id in category_ids:
    if category_id not in places:
      raise errors.InputError(
          f'category id {category_id!r} of the records is not in the ground '
          'truth: were they made from this annotation file?')
  return np.array([places[i] for i in category_ids], int)


def _check_texts_differ(image_ids):
  texts = {}
  for image_id in image_ids:
    if texts.setdefault(str(image_id), image_id) != image_id:
      raise errors.InputError(
          f'image ids {texts[str(image_id)]!r} and {image_id!r} are the same '
          'in the records: convert them with `panet data coco`')


def _to_numpy(value):
  """A tensor, or a tuple of one per replica, as one array."""
  parts = value if isinstance(value, tuple) else (value,)
  return np.concatenate([np.asarray(part) for part in parts])


def _model_garden_name(row):
  if row[-1] in 'SML':
    return row[:-1] + row[-1].lower()
  return row.replace('AR', 'ARmax')
