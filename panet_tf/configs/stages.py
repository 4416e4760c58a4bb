"""One model for both stages, or one for each: what goes with `model.stages`.

A two-stage detector proposes boxes, and then classifies them. Section 4.1
trains the two apart: "proposals are from an independently trained RPN [...]
for convenient ablation and fair comparison, i.e., the backbone is not shared
with object detection/instance segmentation".
"""

from collections.abc import Iterable
from typing import Any

from panet_tf import errors

STAGES = ('both', 'rpn', 'detector')

# {whether proposals are wanted, not detections: {stages that fail: why}}.
_LACKS = {
    True: {'detector': ': it has no RPN; --model must be a whole model, or of '
                       'the experiment panet_rpn'},
    False: {'rpn': '; run it with `panet propose`',
            'detector': '; it needs stored proposals, which only `train.py '
                        '--mode=eval` with task.validation_data.proposals '
                        'has'}}


def check_image(stages: str, proposes: bool, where: str):
  """Raises InputError for a model that makes nothing of an image alone.

  It shall give proposals or else detections; `where` is its checkpoint.
  """
  if stages in _LACKS[proposes]:
    raise errors.InputError(f'{where} is a model whose task.model.stages is '
                            f'{stages}{_LACKS[proposes][stages]}')


def check_task(task: Any, used: Iterable[Any]):
  """Raises InputError for what a model of one stage does not go with.

  Of the data of a `configs.panet.PANetTask` only what is `used` is looked at.
  """
  stages = task.model.stages
  for data in used:
    _check_data(stages, data, 'task.train_data' if data.is_training
                else 'task.validation_data')
  if stages == 'both':
    return
  if not task.inference.is_plain:
    raise errors.InputError(
        f'task.inference is set, but task.model.stages is {stages}; copies, '
        'voting and ensembles need both stages in each model')
  if (stages == 'rpn' and task.init_checkpoint
      and task.init_checkpoint_modules == 'all'):
    raise errors.InputError(
        'task.init_checkpoint_modules is all, but task.model.stages is rpn; it '
        'must be of backbone and decoder')


def _check_data(stages, data, field):
  if stages == 'detector' and not data.proposals:
    raise errors.InputError(
        f'{field}.proposals is empty, but task.model.stages is detector; it '
        'must be a file of `panet propose`, or of Detectron')
  if stages != 'detector' and data.proposals:
    raise errors.InputError(
        f'{field}.proposals is {data.proposals}, but task.model.stages is '
        f'{stages}, which makes its own; stages must be detector, or proposals '
        'empty')
  if stages != 'both' and data.parser.pad_to:
    raise errors.InputError(
        f'{field}.parser.pad_to is {data.parser.pad_to}, but task.model.stages '
        f'is {stages}, which is evaluated on one canvas; it must be 0')
  if not data.proposals:
    return
  if data.enable_tf_data_service:
    raise errors.InputError(
        f'{field}.enable_tf_data_service is set, but proposals are in the '
        'memory of this process only; it must be false')
  if data.regenerate_source_id:
    raise errors.InputError(
        f'{field}.decoder: regenerate_source_id is set, but proposals go by '
        "the records' own ids; it must be false")
