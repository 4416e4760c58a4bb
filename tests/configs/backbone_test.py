"""Claims about `task.model.backbone`."""

import pytest

from panet_tf import errors
from panet_tf import factory
from panet_tf.configs import experiments
from panet_tf.configs import inference as inference_config
from panet_tf.configs import panet
from tests.support import tiny


@pytest.mark.parametrize('fields, name', [
    ('model_id: 18, width_multiplier: 0.5', 'resnet18'), ('', 'resnet50'),
    ('model_id: 269', 'resnet269'), ('name: senet154', 'senet154'),
    ('name: resnext101_64x4d, deformable_stages: [3, 4, 5], modulated: true',
     'resnext101_64x4d')])
def test_a_file_says_which_and_an_ensemble_finds_it(fields, name, tmp_path):
  path = tmp_path / 'params.yaml'
  path.write_text(f'task: {{model: {{backbone: {{{fields}}}}}}}')
  backbone = experiments.read('panet_coco', [str(path)]).task.model.backbone
  backbone.check()
  member = inference_config.EnsembleMember(checkpoint='runs/a', backbone=name)
  inference_config.check_backbone(0, member, backbone)
  member.backbone = 'resnet34'
  with pytest.raises(errors.InputError, match=f'but runs/a has {name}'):
    inference_config.check_backbone(0, member, backbone)


@pytest.mark.parametrize('fields, message', [
    (dict(model_id=51), r'model_id is 51; it must be one of 18, .* 269'),
    (dict(name='resnet50'), r'name is .resnet50.; .* senet154'),
    (dict(name='senet154', model_id=152), 'leave model_id out'),
    (dict(name='senet154', width_multiplier=.3), 'multiple of 1/32'),
    (dict(deformable_stages=[2, 3]), r'stages is 2; it must be one of 3, 4, 5'),
    (dict(model_id=34, deformable_stages=[5]), 'has no bottlenecks'),
    (dict(modulated=True), 'deformable_stages is empty')])
def test_a_backbone_that_there_is_not_is_one_line(fields, message):
  with pytest.raises(errors.InputError, match=message) as e:
    tiny.params(backbone=panet.Backbone(**fields)).check()
  assert '\n' not in str(e.value)
  assert str(e.value).startswith('task.model.backbone.')


@pytest.mark.parametrize('fields', [
    dict(model_id=34), dict(model_id=50, deformable_stages=[4]),
    dict(name='resnext101_32x8d', deformable_stages=[5], modulated=True)])
def test_the_backbone_built_is_the_one_asked_for(fields):
  built = factory.build_backbone(tiny.params(
      backbone=panet.Backbone(width_multiplier=.0625, **fields)))
  assert built.model_id == fields.get('name', fields.get('model_id'))
  assert list(built.deformable_stages) == fields.get('deformable_stages', [])
  assert built.modulated == fields.get('modulated', False)
