"""One tiny run from scenes to metrics, and everything a person does with it."""

import json
import os
import re
import socket
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import yaml

from panet_tf import errors
from panet_tf import runs
from panet_tf.cli import main
from panet_tf.configs import overrides
from panet_tf.data.sources import shapes
from panet_tf.evaluation import coco
from panet_tf.inference import predictor as predictor_lib
from panet_tf.training import loop

_TINY = {
    'task': {
        'model': {
            'input_size': [64, 64, 3],
            'backbone': {'width_multiplier': 0.125},
            'decoder': {'num_filters': 16},
            'roi_align': {'use_xla': False},
            'rpn_head': {'num_filters': 16},
            'detection_head': {'num_filters': 16, 'fc_dims': 16},
            'mask_head': {'num_filters': 16},
            'roi_generator': {'num_proposals': 32, 'test_num_proposals': 32},
            'roi_sampler': {'num_sampled_rois': 16},
            'mask_sampler': {'num_sampled_masks': 4},
            'detection_generator': {'pre_nms_score_threshold': 0.0}},
        'train_data': {'global_batch_size': 2, 'shuffle_buffer_size': 4},
        'validation_data': {'global_batch_size': 2}},
    'trainer': {'train_steps': 2, 'steps_per_loop': 1, 'summary_interval': 1,
                'validation_interval': 2, 'checkpoint_interval': 2}}


class Run:
  """Folders and configuration of one tiny experiment."""

  def __init__(self, folder):
    self.data = os.path.join(folder, 'data')
    self.model_dir = os.path.join(folder, 'model')
    self.config = os.path.join(folder, 'tiny.yaml')
    shapes.make_shapes(os.path.join(self.data, 'train'), 6, 1, 64)
    shapes.make_shapes(os.path.join(self.data, 'val'), 3, 2, 64)
    tiny = dict(_TINY)
    tiny['task']['train_data']['input_path'] = f'{self.data}/train-*.tfrecord'
    tiny['task']['validation_data']['input_path'] = (
        f'{self.data}/val-*.tfrecord')
    with open(self.config, 'w', encoding='utf-8') as f:
      yaml.dump(tiny, f)

  def train(self, mode='train_and_eval', override='', model_dir=None):
    loop.run('panet_shapes', mode, model_dir or self.model_dir,
                 [self.config], override)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  run = Run(str(tmp_path_factory.mktemp('run')))
  run.train()
  return run


def test_training_leaves_a_checkpoint_its_configuration_and_the_names(run):
  assert tf.train.latest_checkpoint(run.model_dir).endswith('ckpt-2')
  with open(f'{run.model_dir}/dataset.json', encoding='utf-8') as f:
    names = [category['name'] for category in json.load(f)['categories']]
  assert 'star' in names
  with open(f'{run.model_dir}/params.yaml', encoding='utf-8') as f:
    assert f'num_classes: {len(names) + 1}' in f.read()


def test_an_interrupted_run_goes_on_and_evaluates_every_checkpoint(
    run, capsys):
  stale = f'{run.model_dir}/annotation.json'  # Model Garden would reuse it.
  with open(stale, 'w', encoding='utf-8') as f:
    f.write('{}')
  run.train('continuous_train_and_eval',
            'trainer: {train_steps: 4, checkpoint_interval: 1}')
  os.remove(stale)
  out = capsys.readouterr().out
  assert 'going on from step 2' in out
  assert re.search(r'step 3/4 \(1 left\) \| loss \d.*rpn_score .* mask .* '
                   r'images/s \| .* left', out)
  assert len(re.findall(r'evaluation \| AP \d.*mask_AP \d.*mask_APl', out)) == 2
  assert tf.train.latest_checkpoint(run.model_dir).endswith('ckpt-4')


def test_a_run_of_another_model_is_not_restored_by_half(run):
  with pytest.raises(errors.InputError, match='fc_source was .conv3. and is'):
    run.train('train', 'task: {model: {fc_source: conv2}}')


def test_checkpoint_of_another_architecture_is_refused(run):
  with pytest.raises(errors.InputError, match='another architecture'):
    predictor_lib.Predictor(runs.Run.read(run.model_dir, overrides.Overrides(
        params_override='task: {model: {box_head: 2fc}}')))
  with pytest.raises(errors.InputError, match='init_checkpoint .* not fit'):
    run.train('train', 'task: {init_checkpoint: '
              f"'{run.model_dir}', model: {{decoder: {{num_filters: 32}}}}}}",
              model_dir=run.model_dir + '_other')


_LIMIT = 'task: {model: {detection_generator: {max_num_detections: 7}}}'


def test_the_detection_limit_reaches_nms_head_and_evaluator(run, monkeypatch):
  limits = []
  metrics = coco.coco_metrics
  monkeypatch.setattr(
      coco, 'coco_metrics', lambda truth, results, **options: limits.append(
          (options['max_detections'], np.bincount(results.images)))
      or metrics(truth, results, **options))
  run.train('eval', _LIMIT)
  (limit, counts), = limits
  assert limit == 7 and counts.max() == 7


# What a worker evaluates, printed; its arguments are those of `loop.run`.
_WORKER = '''
import json, sys
from panet_tf.training import loop
from panet_tf.evaluation import coco

metrics = coco.coco_metrics

def spy(truth, results, **options):
  print('images', sorted(set(results.images.tolist())), len(results.images))
  return metrics(truth, results, **options)

coco.coco_metrics = spy
loop.run(*json.loads(sys.argv[1]))
'''


@pytest.mark.slow
def test_two_workers_evaluate_the_last_checkpoint_together(run, capfd):
  """Each reads its part of the images; both end with the metrics of all."""
  run.train('eval')
  alone = re.findall(r'evaluation \|.*', capfd.readouterr().out)
  ports = []
  for _ in range(2):
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      ports.append(f'127.0.0.1:{free.getsockname()[1]}')
  arguments = ['panet_shapes', 'eval', run.model_dir, [run.config],
               'runtime: {distribution_strategy: multi_worker_mirrored}']
  workers = [
      subprocess.Popen(
          [sys.executable, '-c', _WORKER, json.dumps(arguments)],
          stdout=subprocess.PIPE, text=True,
          env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path),
               'CUDA_VISIBLE_DEVICES': '', 'TF_CONFIG': json.dumps({
                   'cluster': {'worker': ports},
                   'task': {'type': 'worker', 'index': index}})})
      for index in range(2)]
  try:
    said = [worker.communicate(timeout=300)[0] for worker in workers]
  finally:
    for worker in workers:
      worker.kill()
  for text, worker in zip(said, workers, strict=False):
    assert worker.returncode == 0
    assert 'images [0, 1, 2]' in text
    assert re.findall(r'evaluation \|.*', text) == alone
  assert len({re.search('images .*', text)[0] for text in said}) == 1


@pytest.fixture(scope='module')
def predictor(run):
  return predictor_lib.Predictor(runs.Run.read(run.model_dir))


def _predict(run, tmp_path, *extra):
  return main.main([
      'predict', '--checkpoint', run.model_dir, '--images',
      f'{run.data}/val_images', '--output_dir', str(tmp_path / 'out'),
      '--score_threshold', '0', *extra])


def test_predict_and_evaluate_agree_on_ids_and_sizes(run, tmp_path, capsys):
  annotations = f'{run.data}/val.json'
  assert _predict(run, tmp_path, '--annotations', annotations) == 0
  out = tmp_path / 'out'
  results = json.loads((out / 'predictions.json').read_text())
  assert {r['image_id'] for r in results} <= {1, 2, 3}
  assert all(r['segmentation']['size'] == [64, 64] for r in results)
  pictures = sorted(path for path in os.listdir(out) if path.endswith('.png'))
  assert len(pictures) == 3
  # Ground truth and detections side by side, each 64 pixels three times over.
  assert Image.open(out / pictures[0]).size == (192 + 8 + 192, 22 + 192)
  assert (out / 'index.html').is_file()
  assert main.main(['evaluate', '--predictions', str(out / 'predictions.json'),
                   '--annotations', annotations, '--output_dir',
                   str(tmp_path)]) == 0
  assert 'mask' in capsys.readouterr().out
  metrics = json.loads((tmp_path / 'metrics.json').read_text())
  assert 0 <= metrics['mask']['AP'] <= 1
  # The same in one go, from the checkpoint.
  assert main.main(['evaluate', '--checkpoint', run.model_dir, '--images',
                   f'{run.data}/val_images', '--annotations', annotations,
                   '--output_dir', str(tmp_path / 'direct')]) == 0
  assert json.loads((tmp_path / 'direct/metrics.json').read_text()) == metrics
  assert not (tmp_path / 'direct/index.html').exists()


def test_predictor_gives_full_image_masks_in_original_pixels(predictor):
  image = np.random.default_rng(0).integers(0, 255, [96, 50, 3], np.uint8)
  detections = predictor(image)
  masks = detections.masks.images()
  assert masks.shape == (len(detections), 96, 50) and masks.dtype == bool
  boxes = detections.boxes
  assert boxes[:, 2].max() <= 96.001 and boxes[:, 3].max() <= 50.001
  assert boxes[:, 2].max() > 64  # Not the frame of the network's input.
  with pytest.raises(errors.InputError, match='must be uint8'):
    predictor(image.astype(np.float32))


def test_masks_of_the_predictor_lie_in_their_boxes(predictor):
  image = np.random.default_rng(1).integers(0, 255, [64, 64, 3], np.uint8)
  detections = predictor(image)
  for mask, (y1, x1, y2, x2) in zip(
      detections.masks.images(), detections.boxes, strict=False):
    ys, xs = np.nonzero(mask)
    if len(ys):
      assert ys.min() >= np.floor(y1) and ys.max() < np.ceil(y2) + 1
      assert xs.min() >= np.floor(x1) and xs.max() < np.ceil(x2) + 1
