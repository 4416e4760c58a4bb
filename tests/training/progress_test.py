"""The lines a person watches."""

import tensorflow as tf

from panet_tf.training import progress


def test_durations_read_like_a_person_says_them():
  assert [progress.duration(s) for s in (9.4, 200, 7500)] == [
      '9 s', '3 min 20 s', '2 h 5 min']


def test_training_line_has_speed_and_time_left(capsys):
  now = [0.0]
  step = tf.Variable(100, dtype=tf.int64)
  watch = progress.TrainProgress(400, 8, clock=lambda: now[0])
  watch.start(step)
  step.assign(150)
  now[0] = 100.0
  watch({'total_loss': tf.constant(2.0), 'rpn_box_loss': tf.constant(0.5),
         'learning_rate': tf.constant(0.1)})
  assert capsys.readouterr().out == (
      'going on from step 100\n'
      'step 150/400 (250 left) | loss 2.000 (rpn_box 0.500) | '
      '4.0 images/s | 8 min 20 s left\n')


def test_a_reset_to_an_earlier_step_is_no_negative_speed(capsys):
  step = tf.Variable(100, dtype=tf.int64)
  watch = progress.TrainProgress(400, 8, clock=lambda: 0.0)
  watch.start(step)
  capsys.readouterr()
  step.assign(50)
  watch({'total_loss': tf.constant(2.0)})
  assert not capsys.readouterr().out


def test_evaluation_line_comes_every_few_seconds(capsys):
  now = [0.0]
  watch = progress.EvaluationProgress(100, 10.0, clock=lambda: now[0])
  for now[0], done in ((5.0, 10), (10.0, 20), (12.0, 25)):
    watch(done)
  assert capsys.readouterr().err == 'evaluated 20/100 images | 40 s left\n'


def test_an_estimate_that_was_too_low_gives_no_negative_time(capsys):
  now = [0.0]
  watch = progress.EvaluationProgress(100, 10.0, clock=lambda: now[0])
  now[0] = 20.0
  watch(110)
  assert capsys.readouterr().err == 'evaluated 110/110 images | 0 s left\n'
