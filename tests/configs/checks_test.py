"""What is refused for which use; the parts' own checks have their own tests."""

import pytest

from panet_tf import errors
from panet_tf.configs import checks
from panet_tf.configs import experiments

USES = ('train', 'eval', 'predict', 'propose', 'suite', 'export')
WHOLE = ('predict', 'suite', 'export')
PARSER = 'task: {{{}_data: {{parser: {}}}}}'


def refuses(use, override):
  params = experiments.read('panet_shapes', (), override)
  params.task.model.num_classes = 5
  try:
    checks.check(params, use, 'ckpt-1')
  except errors.InputError as e:
    assert '\n' not in str(e)
    return True
  return False


@pytest.mark.parametrize('override, uses', [
    ('task: {seed: 2}', ()),
    ('task: {model: {box_head: 3fc}}', USES),
    ('task: {inference: {long_edge: 3}}', USES),
    ('task: {model: {stages: detector}}', USES),
    ('task: {model: {stages: rpn, include_mask: false}}', WHOLE),
    (PARSER.format('validation', '{pad_to: 7}'),
     ('eval', 'propose', *WHOLE)),
    (PARSER.format('validation', '{canvases: [1x]}'),
     ('eval', 'propose', *WHOLE)),
    (PARSER.format('train', '{canvases: [1x]}'), ('train',)),
    (PARSER.format('train', '{aug_type: {type: autoaug}}'), ('train',)),
    ('task: {train_data: {decoder: {type: label_map_decoder}}}', ('train',)),
    ('task: {validation_data: {class_balanced: true}}', ('eval',)),
    ('task: {seed: 1, train_data: {enable_tf_data_service: true}}',
     ('train',)),
    ('task: {init_labels: [1]}', ('train',)),
    ('task: {init_checkpoint: a, init_checkpoint_modules: heads}', ('train',)),
    ('task: {use_wod_metrics: true}', ('train', 'eval')),
    ('task: {model: {detection_generator: {apply_nms: false}}}',
     ('suite', 'export')),
    ('task: {model: {roi_generator: {test_nms_iou_threshold: 0.3}}}',
     ('export',)),
])
def test_each_option_is_refused_where_it_counts(override, uses):
  found = {use for use in USES if refuses(use, override)}
  assert found == set(uses), override


def test_a_mode_of_both_checks_both():
  override = 'task: {validation_data: {class_balanced: true}}'
  assert refuses('train_and_eval', override)
  assert refuses('continuous_eval', override)
