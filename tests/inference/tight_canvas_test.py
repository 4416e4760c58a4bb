"""Claims about `parser.pad_to`: each image on a canvas of its own."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.configs import inference as inference_config
from panet_tf.configs import panet
from panet_tf.inference import preprocessing
from panet_tf.inference.suite import views
from panet_tf.training import loop
from tests.support import predicted_metrics
from tests.support import tiny


@pytest.mark.parametrize('height, width, expected', [
    (64, 64, (64, 64)), (65, 128, (128, 128)), (64, 40, (64, 64)),
    (128, 60, (128, 64))])
def test_a_canvas_is_as_small_as_the_step_allows(height, width, expected):
  parser = tiny.parser(tiny.params(input_size=[128, 128, 3]), False, pad_to=64,
                       short_edge=[min(height, width)] * 2, long_edge=128)
  image = np.full([height, width, 3], 7, np.uint8)
  tight, info = parser.predict_image(tf.constant(image))
  whole, whole_info = parser.eval_image(tf.constant(image))
  assert tight.shape == [*expected, 3] and whole.shape == [128, 128, 3]
  np.testing.assert_array_equal(info, whole_info)
  np.testing.assert_array_equal(tight, whole[:expected[0], :expected[1]])


def test_a_copy_at_the_models_own_scale_gets_it_too():
  rule = preprocessing.Preprocessing(
      canvas=(128, 128), fit=(128, 128), short_edge=None, long_edge=None,
      mean=(0, 0, 0), stddev=(1, 1, 1), pad_to=32)
  view, = views.views(inference_config.Inference(), (100, 40), rule)
  assert view.canvas == (128, 64)


def test_a_step_that_the_levels_do_not_take_is_refused():
  legacy = tiny.params(legacy_boxes=True)
  with pytest.raises(errors.InputError, match='pad_to is 32; it must be a'):
    panet.ParserConfig(pad_to=32).check(tiny.params(), is_training=False)
  with pytest.raises(errors.InputError, match='multiple of 32'):
    panet.ParserConfig(pad_to=48).check(legacy, is_training=False)
  panet.ParserConfig(pad_to=32).check(legacy, is_training=False)


def test_evaluation_mode_is_what_prediction_gives(tiny_run, tmp_path):
  run = shutil.copytree(tiny_run, tmp_path / 'run')
  override = {'task': {'validation_data': {
      'input_path': tiny.write_shards(tmp_path, num_images=3),
      'parser': {'pad_to': 64}}}}
  (run / 'dataset.json').unlink()
  loop.run('panet_coco', 'eval', str(run), [str(run / 'params.yaml')],
               json.dumps(override))
  metrics = json.loads((run / 'metrics.json').read_text())
  wanted = predicted_metrics.predicted_metrics(run, override, tmp_path)
  assert metrics['AP'] == pytest.approx(wanted['box']['AP'], abs=1e-6)
