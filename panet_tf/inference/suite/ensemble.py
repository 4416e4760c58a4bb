"""Several copies of an image, several models, one answer.

Section 4.2: "3 ResNeXt-101 (64 x 4d), 2 SE-ResNeXt-101 (32 x 4d), 1 ResNet-269
and 1 SENet as ensemble for bounding box and mask generation. [...] One
ResNeXt-101 (64 x 4d) is used as the base model to generate proposals."

Phase 1 finds boxes: the first model proposes on each copy, all classify, copies
are merged. Phase 2 finds their masks, on the same features.
"""

import collections
from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import gc
from typing import Any

import numpy as np

from panet_tf import errors
from panet_tf import runs
from panet_tf.configs import experiments
from panet_tf.configs import overrides as overrides_lib
from panet_tf.inference import detector
from panet_tf.inference import predictor
from panet_tf.inference import preprocessing
from panet_tf.inference.suite import mask_voting
from panet_tf.inference.suite import members as members_lib
from panet_tf.inference.suite import merging
from panet_tf.inference.suite import stages as stages_lib
from panet_tf.inference.suite import views as views_lib
from panet_tf.inference.suite import voting
from panet_tf.structures import box_masks
from panet_tf.structures import detections

Detections = detections.Detections
_Place = tuple[int, int]  # Number of the image and of its copy.


class Ensemble(detector.Detector):
  """One model or several, on one copy of an image or several.

  One model on one copy gives what `Predictor` gives, bit for bit; and so do
  several that are the same.
  """

  def __init__(self, members: Sequence[runs.Run]):
    """Checks that models go together, and loads them.

    Args:
      members: the first makes the proposals, and its configuration says how
        all are merged. Those without masks find boxes only.

    Raises:
      InputError: they have other categories or mask sizes, nothing has the
        masks that are to be voted on, or a checkpoint does not fit.
    """
    members_lib.check(members)
    self._members, base = members, members[0].task
    self._rules = [preprocessing.Preprocessing.of_parser(member.parser)
                   for member in members]
    self._options = base.inference
    self.categories = members[0].categories
    self._legacy_masks = base.model.legacy_boxes
    generator = base.model.detection_generator
    self._thresholds = {'iou_threshold': generator.nms_iou_threshold,
                        'score_threshold': generator.pre_nms_score_threshold}
    self._max_detections = generator.max_num_detections
    self._suppression = stages_lib.Suppression(base.model)
    self._loaded = [] if self._options.one_model_at_a_time else [
        stages_lib.Stages.from_run(member) for member in members]

  @contextlib.contextmanager
  def _opened(self, number: int) -> Iterator[stages_lib.Stages]:
    """A member's stages; its memory is free again afterwards, if asked for."""
    if self._loaded:
      yield self._loaded[number]
      return
    stages = stages_lib.Stages.from_run(self._members[number])
    try:
      yield stages
    finally:
      del stages
      gc.collect()  # Keras' layers know each other in circles.

  def _detect(self, image):
    return self._detect_many([image])[0]

  def _detect_many(self, images):
    views = self._views(images)
    cache = _FeatureCache(self._options.feature_cache_gib * 2**30)
    classified = self._classify(images, views, cache)
    sources, voters = self._sources(views, classified)
    found = [merging.merge(
        _of_image(sources, number), _of_image(voters, number), self._options,
        max_detections=self._max_detections, **self._thresholds)
             for number in range(len(images))]
    masks = self._segment(images, views, sources, found, cache)
    return [self._finished(number, *found[number], sources, masks)
            for number in range(len(images))]

  def _views(self, images) -> dict[_Place, list[views_lib.View]]:
    """Each copy of each image, as each member sees it."""
    views = {}
    for number, image in enumerate(images):
      seen = set()
      for copy, of_members in enumerate(zip(*(
          views_lib.views(self._options, image.shape[:2], rule)
          for rule in self._rules), strict=True)):
        # Where the long edge makes one copy of two scales, it is taken once.
        if of_members[0] not in seen:
          seen.add(of_members[0])
          views[number, copy] = of_members
    return views

  def _classify(self, images, views, cache):
    """Phase 1: boxes and scores of each copy, by each member."""
    proposals, classified = {}, collections.defaultdict(list)
    for number in range(len(self._members)):
      with self._opened(number) as stages:
        for place in views:
          features = cache.features(stages, number, place, images, views)
          if not number:
            proposals[place] = stages.propose(features)
          classified[place].append(stages.classify(features, proposals[place]))
    return classified

  def _sources(self, views, classified):
    """Detections of each copy, or model on it; and what is voted with."""
    sources, voters = {}, {}
    for place, (view, *_) in views.items():
      groups = [[one] for one in classified[place]]
      if self._options.ensemble_merge == 'mean':
        groups = [classified[place]]
      means = [merging.mean(group) for group in groups]
      crowds = [merging.candidates(
          *one, self._thresholds['score_threshold'], view.image_size)
                for one in means]
      voters[place] = crowds
      if self._options.soft_nms:
        sources[place] = [
            merging.soften(crowd, self._options, **self._thresholds)[1][
                :self._max_detections] for crowd in crowds]
      else:
        sources[place] = [self._suppression(*one, view) for one in means]
    return sources, voters

  def _segment(self, images, views, sources, found, cache):
    """Phase 2: masks, the mean of all models.

    With mask voting [n, M, M] of each copy's own detections, by place; else
    [N, M, M] of each image's merged ones, the mean of its copies, by number.
    """
    sums: dict[Any, np.ndarray] = {}
    counts = collections.Counter()
    for number, member in enumerate(self._members):
      if not member.model_config.include_mask:
        continue
      with self._opened(number) as stages:
        for place in views:
          key, boxes = place[0], found[place[0]][1]
          if self._options.mask_voting:
            key, boxes = place, Detections.concatenate(sources[place])
          features = cache.features(stages, number, place, images, views)
          masks = stages.segment(
              features, boxes.boxes, boxes.labels).astype(np.float64)
          sums[key] = sums[key] + masks if key in sums else masks
          counts[key] += 1
          cache.forget(number, place)
    return {key: np.float32(total / counts[key]) for key, total in sums.items()}

  def _finished(self, number, kept, found, sources, masks):
    """Detections of one image, with their masks."""
    result = dataclasses.replace(
        found, boxes=np.float32(found.boxes), scores=np.float32(found.scores),
        labels=np.int32(found.labels))
    if not masks:
      return result
    if self._options.mask_voting:
      union = Detections.concatenate(_of_image(sources, number))
      result.masks = mask_voting.mask_voting(
          dataclasses.replace(union, masks=box_masks.BoxMasks(
              np.concatenate([part for place, part in masks.items()
                              if place[0] == number]),
              union.boxes, union.image_size)),
          kept, iou_threshold=self._options.mask_voting_iou)
    else:
      result.masks = box_masks.BoxMasks(
          masks[number], result.boxes, result.image_size, self._legacy_masks)
    if self._options.tighten_boxes:
      return voting.tighten(result)
    return result


class _FeatureCache:
  """Features for phase 2, as many as have room."""

  def __init__(self, num_bytes: float):
    self._room = num_bytes
    self._kept: dict[Any, stages_lib.Features] = {}

  def features(self, stages, number, place, images, views):
    """Features of a member on a copy, kept or computed (again)."""
    key = number, place
    if key in self._kept:
      return self._kept[key]
    features = stages.features(images[place[0]], views[place][number])
    if features.num_bytes <= self._room:
      self._room -= features.num_bytes
      self._kept[key] = features
    return features

  def forget(self, number, place):
    """They are not needed any more."""
    features = self._kept.pop((number, place), None)
    self._room += features.num_bytes if features else 0


def _of_image(parts, number):
  """The lists of an image's copies as one."""
  return [one for place, several in parts.items() if place[0] == number
          for one in several]


def open_checkpoints(checkpoints: Sequence[str],
                     overrides: overrides_lib.Overrides) -> detector.Detector:
  """A `Predictor` for one plain model, an `Ensemble` for all else.

  Args:
    checkpoints: folders of trainings, or checkpoints in them; none: those of
      `task.inference.ensemble`.
    overrides: of the configuration of each.

  Raises:
    InputError: no model is named or in two ways, or one cannot be used.
  """
  named = experiments.read(
      overrides.experiment or 'panet_coco', overrides.config_files,
      overrides.params_override).task.inference
  named.check()
  if bool(checkpoints) == bool(named.ensemble):
    raise errors.InputError(
        'models are named by --model and by task.inference.ensemble; it must '
        'be one of them' if checkpoints else
        'no model is named; it must be --model, or task.inference.ensemble')
  members = ([runs.Run.read(path, overrides) for path in checkpoints]
             or members_lib.read_listed(named.ensemble, named, overrides))
  if len(members) == 1 and members[0].task.inference.is_plain:
    return predictor.Predictor(members[0])
  return Ensemble(members)
