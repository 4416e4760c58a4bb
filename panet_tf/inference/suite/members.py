"""The models of an ensemble: what lies beside their checkpoints."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from official.core import config_definitions as cfg

from panet_tf import errors
from panet_tf import runs
from panet_tf.configs import inference as inference_config
from panet_tf.dataloaders import factory as input_factory
from panet_tf.inference import preprocessing


@dataclasses.dataclass
class Member:
  """One checkpoint of an ensemble.

  Attributes:
    path: of the checkpoint.
    params: its experiment.
    categories: {'label', 'id', 'name'}, in order of label.
  """
  path: str
  params: cfg.ExperimentConfig
  categories: list[dict[str, Any]]

  @classmethod
  def read(cls, checkpoint: str, *args) -> 'Member':
    """What lies beside a checkpoint; arguments of `runs.read_run`."""
    path, params, info = runs.read_run(checkpoint, *args)
    return cls(path, params, runs.categories_of(
        info, params.task.model.num_classes))

  @property
  def include_mask(self) -> bool:
    return self.params.task.model.include_mask

  @functools.cached_property
  def rule(self) -> preprocessing.Preprocessing:
    """How it sees an image without augmentation."""
    task = self.params.task
    parser = input_factory.build_parser(task.model, task.validation_data)
    return dataclasses.replace(
        preprocessing.Preprocessing.from_dict(parser.eval_rule()),
        pad_to=parser.pad_to)


def check(members: Sequence[Member]):
  """Raises InputError for models that do not go together."""
  base = members[0]
  sizes = {}
  for member in members:
    if member.categories != base.categories:
      raise errors.InputError(
          f'{member.path} has other categories than {base.path}; the models of '
          'an ensemble must be of one data set')
    if member.include_mask:
      size = 2 * member.params.task.model.mask_roi_aligner.crop_size
      sizes.setdefault(size, member.path)
  if len(sizes) > 1:
    raise errors.InputError(
        'the models of an ensemble have masks of different sizes: ' + ', '.join(
            f'{path} {size}' for size, path in sizes.items()))
  options = base.params.task.inference
  for name in ('mask_voting', 'tighten_boxes'):
    if getattr(options, name) and not sizes:
      raise errors.InputError(
          f'task.inference.{name} is true, but {base.path} has no mask branch')


def read_listed(listed: Sequence[inference_config.EnsembleMember],
                options: inference_config.Inference, *args) -> list[Member]:
  """The models of `task.inference.ensemble`, merged as `options` say.

  Args:
    listed: checkpoints, and the backbones they must have.
    options: of the whole.
    *args: see `Member.read`.

  Raises:
    InputError: one is missing, or has another backbone.
  """
  members = [Member.read(member.checkpoint, *args) for member in listed]
  for number, (member, wanted) in enumerate(zip(members, listed)):
    inference_config.check_backbone(
        number, wanted, member.params.task.model.backbone)
  members[0].params.task.inference = options
  inference_config.apply(members[0].params.task)
  return members
