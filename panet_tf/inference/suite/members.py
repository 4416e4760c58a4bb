"""What the models of an ensemble must have in common."""

from collections.abc import Sequence
from typing import Any

from panet_tf import errors
from panet_tf import runs
from panet_tf.configs import checks
from panet_tf.configs import inference as inference_config
from panet_tf.configs import overrides as overrides_lib
from panet_tf.configs import resolve


def check(members: Sequence[runs.Run]):
  """Raises InputError for models that do not go together."""
  base = members[0]
  checks.check(base.params, 'suite', base.checkpoint)
  sizes = {}
  for member in members:
    if member.categories != base.categories:
      raise errors.InputError(
          f'{member.checkpoint} has other categories than {base.checkpoint}; '
          'the models of an ensemble must be of one data set')
    if member.model_config.include_mask:
      aligner: Any = member.model_config.mask_roi_aligner
      sizes.setdefault(2 * aligner.crop_size, member.checkpoint)
  if len(sizes) > 1:
    raise errors.InputError(
        'the models of an ensemble have masks of different sizes: ' + ', '.join(
            f'{path} {size}' for size, path in sizes.items()))
  options = base.task.inference
  for name in ('mask_voting', 'tighten_boxes'):
    if getattr(options, name) and not sizes:
      raise errors.InputError(
          f'task.inference.{name} is true, but {base.checkpoint} has no mask '
          'branch')


def read_listed(listed: Sequence[inference_config.EnsembleMember],
                options: inference_config.Inference,
                overrides: overrides_lib.Overrides = overrides_lib.NONE
               ) -> list[runs.Run]:
  """The models of `task.inference.ensemble`, merged as `options` say.

  InputError if one is missing, or has another backbone.
  """
  members = [runs.Run.read(member.checkpoint, overrides) for member in listed]
  for number, (member, wanted) in enumerate(zip(members, listed, strict=True)):
    inference_config.check_backbone(
        number, wanted, member.model_config.backbone)
  members[0].params = resolve.merging(members[0].params, options)
  return members
