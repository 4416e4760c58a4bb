"""`panet data`, `evaluate` and `submit`, as a person types them."""

import json

import pytest

from panet_tf.cli import main
from tests.support.datasets import mini_cityscapes
from tests.support.datasets import mini_mapillary


def run(*args):
  """Exit code of `panet ARGS`."""
  return main.main([str(arg) for arg in args])


@pytest.fixture(name='cityscapes')
def _cityscapes(tmp_path):
  """A small tree of Cityscapes, and the JSON of its val split."""
  root = tmp_path / 'root'
  mini_cityscapes.build(root)
  assert run('data', 'cityscapes', '--root', root, '--splits', 'val',
             '--output_dir', tmp_path) == 0
  return root, tmp_path / 'cityscapes_val.json'


def predictions_of(annotations, path, score=0.9):
  """The ground truth as a results file; crowds are no objects."""
  dataset = json.loads(annotations.read_text())
  path.write_text(json.dumps([
      {'image_id': a['image_id'], 'category_id': a['category_id'],
       'score': score, 'bbox': a['bbox'], 'segmentation': a['segmentation']}
      for a in dataset['annotations'] if not a['iscrowd']]))
  return path


def test_cityscapes_from_its_folders_to_its_own_ap(cityscapes, tmp_path):
  root, annotations = cityscapes
  assert run('data', 'check', '--annotations', annotations, '--image_dir',
             root) == 0
  assert run('data', 'coco', '--image_dir', root, '--annotations', annotations,
             '--output_prefix', tmp_path / 'shards', '--num_shards', 1) == 0
  predictions = predictions_of(annotations, tmp_path / 'predictions.json')
  for extra in ((), ('--cityscapes_root', root)):
    assert run('evaluate', '--predictions', predictions, '--annotations',
               annotations, '--output_dir', tmp_path, *extra) == 0
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    rows = metrics if extra else metrics['mask']
    assert rows['AP'] == pytest.approx(1) and rows['AP50'] == pytest.approx(1)
  assert run('submit', 'cityscapes', '--predictions', predictions,
             '--annotations', annotations, '--output_dir',
             tmp_path / 'submission') == 0
  assert len(list((tmp_path / 'submission').glob('*.txt'))) == 3


def test_mapillary_from_its_folders_to_ap(tmp_path):
  root = tmp_path / 'root'
  mini_mapillary.build(root)
  assert run('data', 'mapillary', '--root', root, '--splits', 'validation',
             '--output_dir', tmp_path) == 0
  annotations = tmp_path / 'mapillary_validation.json'
  assert run('evaluate', '--predictions',
             predictions_of(annotations, tmp_path / 'p.json'), '--annotations',
             annotations, '--output_dir', tmp_path) == 0
  metrics = json.loads((tmp_path / 'metrics.json').read_text())
  assert metrics['mask']['AP'] == pytest.approx(1)


def test_check_finds_and_fixes(cityscapes, tmp_path, capsys):
  _, annotations = cityscapes
  dataset = json.loads(annotations.read_text())
  dataset['annotations'][0]['image_id'] = 99
  del dataset['annotations'][1]['iscrowd']
  broken, fixed = tmp_path / 'broken.json', tmp_path / 'fixed.json'
  broken.write_text(json.dumps(dataset))
  capsys.readouterr()
  assert run('data', 'check', '--annotations', broken, '--json') == 1
  report = json.loads(capsys.readouterr().out)
  assert 'missing-iscrowd' in json.dumps(report)
  assert run('data', 'check', '--annotations', broken, '--fix', fixed) == 1
  assert len(json.loads(fixed.read_text())['annotations']) == len(
      dataset['annotations']) - 1
  assert run('data', 'check', '--annotations', fixed) == 0


def test_anchors_are_a_config_file(cityscapes, tmp_path):
  _, annotations = cityscapes
  output = tmp_path / 'anchors.yaml'
  assert run('data', 'anchors', '--annotations', annotations, '--num_scales', 1,
             '--num_ratios', 3, '--input_size', '128,256', '--output',
             output) == 0
  assert 'anchor' in output.read_text()


@pytest.mark.parametrize('args, said', [
    (['data', 'check', '--annotations', 'no.json'], 'no.json'),
    (['data', 'cityscapes', '--root', 'no', '--output_dir', 'o'],
     'leftImg8bit'),
    (['data', 'mapillary', '--root', 'no', '--output_dir', 'o'], 'config'),
    (['data', 'anchors', '--annotations', 'no.json'], 'no.json'),
    (['submit', 'cityscapes', '--predictions', 'p.json', '--annotations',
      'no.json', '--output_dir', 'o'], 'no.json'),
    (['evaluate', '--predictions', 'p.json', '--annotations', 'no.json',
      '--cityscapes_root', 'r'], 'no.json'),
])
def test_a_mistake_is_one_line_and_leaves_nothing(args, said, tmp_path,
                                                  monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert run(*args) == 2
  message = capsys.readouterr().err
  assert message.startswith('error: ') and message.count('\n') == 1
  assert said in message
  assert not list(tmp_path.iterdir())
