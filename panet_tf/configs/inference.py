"""Options of prediction beyond one run of one model: `task.inference`."""

import dataclasses
from typing import Any

from official.modeling import hyperparams

from panet_tf import errors
from panet_tf.configs import backbone
from panet_tf.configs import checks

BOX_SCORINGS = ('identity', 'temperature_average', 'average', 'iou_average',
                'generalized_average', 'quasi_sum')
SOFT_NMS_METHODS = ('linear', 'gaussian')


@dataclasses.dataclass
class EnsembleMember(hyperparams.Config):
  """One model of an ensemble.

  Attributes:
    checkpoint: folder that training wrote, or one checkpoint in it; its
      configuration is the params.yaml beside it.
    backbone: that it must have; '' takes any.
  """
  checkpoint: str = ''
  backbone: str = ''


@dataclasses.dataclass
class Inference(hyperparams.Config):
  """What prediction does beyond one run of one model (section 4.2).

  Nothing by default. Read by `panet predict`, `panet evaluate --checkpoint` and
  `train.py --mode=eval`; evaluation during a training is the plain model.

  Attributes:
    scales: of the copies an image is predicted in. Up to 10: multiples of the
      model's own scale. Larger: the shorter edge in pixels. Empty: its own.
    long_edge: the longer edge of copies scaled by their shorter edge.
    flip: each copy once more, mirrored left to right.
    box_voting: a box becomes the mean, weighted by score, of all boxes that
      suppression starts from, of its class and IoU `box_voting_iou` or more.
    box_voting_scoring: what becomes of its score, see `inference.suite.voting`.
    box_voting_beta: parameter of some scorings.
    mask_voting: a mask becomes the mean, weighted by score, of the masks of all
      copies' detections of its class and mask IoU `mask_voting_iou` or more.
      Else every copy predicts the mask of the merged box, and they are
      averaged.
    soft_nms: 'linear' or 'gaussian' instead of suppression.
    soft_nms_sigma: of 'gaussian'.
    tighten_boxes: boxes become the bounds of their masks.
    score_threshold: least score; None is the model's, see
      `detection_generator.pre_nms_score_threshold`.
    max_detections: of one image; None is the model's `max_num_detections`.
    ensemble: models that predict together; the first makes the proposals.
    ensemble_merge: 'mean' of scores, boxes and masks of each proposal, or
      'voting' among the detections of each model as among copies.
    one_model_at_a_time: a model is in memory only while it is used; for each
      batch every one is loaded twice.
    feature_cache_gib: features kept for the masks; beyond it they are computed
      a second time.
  """
  scales: list[float] = dataclasses.field(default_factory=list)
  long_edge: int = 1400
  flip: bool = False
  box_voting: bool = False
  box_voting_iou: float = 0.8
  box_voting_scoring: str = 'identity'
  box_voting_beta: float = 1.0
  mask_voting: bool = False
  mask_voting_iou: float = 0.5
  soft_nms: str = ''
  soft_nms_sigma: float = 0.5
  tighten_boxes: bool = False
  score_threshold: float | None = None
  max_detections: int | None = None
  ensemble: list[EnsembleMember] = dataclasses.field(default_factory=list)
  ensemble_merge: str = 'mean'
  one_model_at_a_time: bool = False
  feature_cache_gib: float = 4.0

  @property
  def is_plain(self) -> bool:
    """Whether one run of one model is all."""
    return not (self.scales or self.flip or self.box_voting or self.mask_voting
                or self.soft_nms or self.tighten_boxes or self.ensemble)

  def check(self):
    """Raises InputError for a value that has no meaning."""
    where = 'task.inference'
    if self.soft_nms:
      checks.one_of(f'{where}.soft_nms', self.soft_nms, SOFT_NMS_METHODS)
    checks.one_of(f'{where}.box_voting_scoring', self.box_voting_scoring,
                  BOX_SCORINGS)
    checks.one_of(f'{where}.ensemble_merge', self.ensemble_merge,
                  ('mean', 'voting'))
    numbers = [
        ('long_edge', 64, 16384), ('box_voting_iou', 0, 1),
        ('mask_voting_iou', 0, 1), ('box_voting_beta', 1e-3, 1e3),
        ('soft_nms_sigma', 1e-3, 1e3), ('feature_cache_gib', 0, 1e6)]
    numbers += [(name, *limits) for name, *limits in (
        ('score_threshold', 0, 1), ('max_detections', 1, 10000))
                if getattr(self, name) is not None]
    for name, least, most in numbers:
      value = getattr(self, name)
      if not least <= value <= most:
        raise errors.InputError(
            f'{where}.{name} is {value}; it must be {least} to {most}')
    for scale in self.scales:
      if not (isinstance(scale, (int, float)) and (
          0.1 <= scale <= 10 or 32 <= scale <= self.long_edge)):
        raise errors.InputError(
            f'{where}.scales has {scale!r}; a scale must be 0.1 to 10, times '
            "the model's own, or a shorter edge of 32 pixels to long_edge, "
            f'{self.long_edge}')
    for number, member in enumerate(self.ensemble):
      if member.backbone:
        checks.one_of(f'{where}.ensemble[{number}].backbone', member.backbone,
                      backbone.BACKBONES)
      if not member.checkpoint:
        raise errors.InputError(f'{where}.ensemble[{number}] has no checkpoint')


def check_backbone(number: int, member: EnsembleMember, found: Any):
  """Raises InputError if a run has another backbone than an ensemble's list.

  What was `found` is a `configs.backbone.Backbone`; `number` is the member's.
  """
  name = found.name or f'resnet{found.model_id}'
  if member.backbone not in ('', name):
    raise errors.InputError(
        f'task.inference.ensemble[{number}].backbone is {member.backbone}, but '
        f'{member.checkpoint} has {name}')
