"""`panet propose`, and the detector on what it wrote."""

import collections
import json
import pathlib

import numpy as np
from official.core import config_definitions as cfg
from official.modeling import hyperparams
from official.vision.configs import maskrcnn
from PIL import Image
import pytest
import tensorflow as tf

from panet_tf import runs
from panet_tf.cli import main
from panet_tf.configs import panet
from panet_tf.data import tfrecord
from panet_tf.data.sources import shapes
from panet_tf.dataloaders import proposals
from panet_tf.training import task as task_lib
from tests.support import tiny
from tests.support import tiny_run as tiny_run_lib


@pytest.fixture(scope='module')
def shards(tmp_path_factory) -> str:
  """Scenes that the 64-px models see at 0.64 of their size."""
  folder = tmp_path_factory.mktemp('shards')
  shapes.make_shapes(str(folder / 'val'), 4, 5, image_size=100)
  return str(folder / 'val-*.tfrecord')


def propose(model, output, *args, code=0, num_proposals=24):
  assert main.main(['propose', '--model', str(model), '--output', str(output),
                   '--num_proposals', str(num_proposals), *args]) == code


def of_one_stage(folder, **fields) -> str:
  """A run of an RPN, or of a detector; fields of `tiny.params`."""
  params = cfg.ExperimentConfig(task=panet.PANetTask(
      model=tiny.params(**fields), train_data=tiny.data_config(),
      validation_data=tiny.data_config(is_training=False)))
  model = task_lib.PANetTask(params.task).build_model()
  path = tf.train.Checkpoint(model=model).write(str(folder / 'ckpt-1'))
  hyperparams.save_params_dict_to_yaml(params, str(folder / 'params.yaml'))
  return path


@pytest.fixture(scope='module')
def rpn(tmp_path_factory) -> str:
  return of_one_stage(tmp_path_factory.mktemp('rpn'), stages='rpn',
                      include_mask=False)


def validation(model, **data):
  task = tiny.task(model)
  task.coco_metric = type('', (), {'name': 'coco_metric'})
  data = task.task_config.validation_data.replace(
      drop_remainder=False, **data)
  return task, list(task.build_inputs(data))


def whole_run(kind, tiny_run, folder):
  if kind == 'paper':
    return tiny_run
  # The release clips proposals to the image with its padding, of 32 pixels;
  # here there is none.
  return tiny_run_lib.write_run(folder, tiny.params(
      legacy_boxes=True, include_mask=False, roi_align=panet.RoIAlign(
          aligned=False, use_xla=False),
      detection_generator=maskrcnn.DetectionGenerator(
          max_num_detections=10, pre_nms_score_threshold=0.0,
          nms_version='batched')))


@pytest.mark.parametrize('kind, ending', [
    ('paper', 'json'), ('legacy', 'tfrecord')])
def test_a_detector_on_a_whole_models_proposals_is_that_model(
    kind, ending, tiny_run, shards, tmp_path):
  run = whole_run(kind, tiny_run, tmp_path)
  stored = str(tmp_path / f'boxes.{ending}')
  propose(run, stored, '--shards', shards)
  made = runs.Run.read(run)
  whole = made.model_config
  detector = whole.replace(stages='detector')
  expected, batches = validation(whole, input_path=shards)
  found, joined = validation(detector, input_path=shards, proposals=stored)
  assert len(batches) == len(joined) == 2
  models = [task.build_model() for task in (expected, found)]
  for model in models:
    runs.restore(model, made.checkpoint)
  for before, after in zip(batches, joined, strict=True):
    np.testing.assert_array_equal(before[0], after[0])
    assert 'proposals' in after[1] and 'anchor_boxes' not in after[1]
    (_, a), (_, b) = (
        task.validation_step(batch, model)['coco_metric'] for
        task, batch, model in zip(
            (expected, found), (before, after), models, strict=True))
    np.testing.assert_array_equal(a['num_detections'], b['num_detections'])
    assert np.all(a['num_detections'] == 10)
    np.testing.assert_allclose(a['detection_scores'], b['detection_scores'],
                               atol=2e-3)
    np.testing.assert_array_equal(a['detection_classes'],
                                  b['detection_classes'])
    np.testing.assert_allclose(a['detection_boxes'], b['detection_boxes'],
                               atol=0.02)
    if whole.include_mask:
      np.testing.assert_allclose(a['detection_masks'], b['detection_masks'],
                                 atol=0.01)


def test_shards_and_their_images_give_the_same_boxes_in_both_kinds_of_file(
    rpn, shards, tmp_path, capsys):
  folder = pathlib.Path(shards).parent
  outputs = [tmp_path / 'new' / 'a.json', tmp_path / 'a.tfrecord']
  propose(rpn, outputs[0], '--images', str(folder / 'val_images'),
          '--annotations', str(folder / 'val.json'))
  propose(rpn, outputs[1], '--shards', shards)
  line = capsys.readouterr().out.strip().splitlines()[-1]
  ids = {image['id'] for image in
         tfrecord.ground_truth_from_shards(shards)['images']}
  results = json.loads(outputs[0].read_text(encoding='utf-8'))
  assert {result['image_id'] for result in results} == ids
  read = [proposals.read(str(output), 100) for output in outputs]
  for image_id in ids:
    boxes = read[1].of(image_id)
    assert 0 < len(boxes) <= 24 and np.all(boxes[:, 2:] > boxes[:, :2])
    assert boxes.min() >= 0 and 64 < boxes.max() <= 100
    np.testing.assert_allclose(read[0].of(image_id), boxes, atol=2e-3)
    scores = [r['score'] for r in results if r['image_id'] == image_id]
    assert scores == sorted(scores, reverse=True)
  assert line.startswith(f'{len(results)} proposals of 4 images: ')
  assert line.endswith(' images/s)')


def last_error(capsys):
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert error.startswith('error: ')
  return error


@pytest.mark.parametrize('output, args, text', [
    ('x.csv', ['--images', '.'], 'should end in .json or .tfrecord'),
    ('x.json', [], '--images or --shards'),
    ('x.json', ['--images', '.', '--shards', '.'], '--images or --shards'),
    ('x.json', ['--shards', 'none-*.tfrecord'], 'matches no file'),
    ('x.json', ['--images', '.', '--num_proposals', '0'], '--num_proposals'),
    ('x.json', ['--shards', '.', '--annotations', 'a.json'],
     '--annotations goes with --images')])
def test_a_mistake_is_one_line(output, args, text, rpn, tmp_path, capsys):
  propose(rpn, tmp_path / output, *args, code=2)
  assert text in last_error(capsys)


@pytest.mark.parametrize('kind', ['images', 'shards'])
def test_nothing_is_left_of_a_run_that_failed(
    kind, rpn, shards, tmp_path, capsys):
  output = tmp_path / 'out' / 'x.tfrecord'
  if kind == 'images':
    Image.new('RGB', (30, 30)).save(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes(b'no image')
    propose(rpn, output, '--images', str(tmp_path), code=2)
    assert 'b.png' in last_error(capsys)
  else:  # The same records twice.
    first = shards.replace('val-*', 'val-00000-*')
    whole = b''.join(open(path, 'rb').read()
                     for path in tfrecord.shard_paths(first))
    (tmp_path / 'twice.tfrecord').write_bytes(whole * 2)
    propose(rpn, output, '--shards', str(tmp_path / 'twice.tfrecord'), code=2)
    assert 'is there twice' in last_error(capsys)
  assert not list((tmp_path / 'out').iterdir())


def test_models_of_one_stage_say_what_they_are_for(
    rpn, shards, tmp_path, capsys):
  Image.new('RGB', (30, 30)).save(tmp_path / 'a.png')
  detector = of_one_stage(tmp_path, stages='detector')
  propose(detector, tmp_path / 'x.json', '--shards', shards, code=2)
  assert 'stages is detector: it has no RPN' in last_error(capsys)
  for model, text in ((rpn, '`panet propose`'),
                      (detector, 'task.validation_data.proposals')):
    assert main.main(['predict', '--model', model, '--images', str(tmp_path),
                     '--output_dir', str(tmp_path / 'out')]) == 2
    assert text in last_error(capsys)
    assert not (tmp_path / 'out').exists()


def test_more_proposals_than_the_model_has_candidates_per_level(
    tiny_run, shards, tmp_path):
  """As the default of 2000 is, beside `test_pre_nms_top_k` of 1000."""
  output = str(tmp_path / 'boxes.json')
  propose(tiny_run, output, '--shards', shards, '--params_override',
          'task: {model: {roi_generator: {test_pre_nms_top_k: 100}}}',
          num_proposals=600)
  counts = collections.Counter(
      box['image_id'] for box in json.loads(pathlib.Path(output).read_text()))
  assert len(counts) == 4 and all(100 < n <= 600 for n in counts.values())
