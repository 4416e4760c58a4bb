"""What a person watching a long run sees: one line at a time."""

from collections.abc import Callable, Mapping
import sys
import time
from typing import Any

import tensorflow as tf

from panet_tf.model_garden import training


def duration(seconds: float) -> str:
  """Seconds for people: '45 s', '3 min 20 s', '2 h 5 min'."""
  seconds = int(round(seconds))
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60} s'
  return f'{seconds // 3600} h {seconds % 3600 // 60} min'


def print_metrics(metrics: Mapping[str, Any]):
  """The main ones of COCO's metrics in one line, under Model Garden's names."""
  print('evaluation | ' + ' '.join(
      f'{name} {metrics[name]:.3f}'
      for kind in ('', 'mask_') for name in (
          f'{kind}AP', f'{kind}AP50', f'{kind}AP75', f'{kind}APs',
          f'{kind}APm', f'{kind}APl') if name in metrics), flush=True)


class TrainProgress:
  """Orbit train action: step, steps left, losses, images/s, time left.

  It takes the place of Orbit's own printout, which spreads the losses over a
  line each; that one still goes to the log.
  """

  def __init__(self, train_steps: int, batch_size: int,
               clock: Callable[[], float] = time.monotonic):
    """Takes the steps of the training, images of a step, and a clock."""
    self._train_steps = train_steps
    self._batch_size = batch_size
    self._clock = clock
    training.send_orbit_s_printout_to_the_log()

  def start(self, global_step: tf.Variable):
    """Names the step counter; the trainer makes it after its actions."""
    self._global_step = global_step
    self._last_step = int(global_step.numpy())
    self._last_time = self._clock()
    if self._last_step:
      print(f'going on from step {self._last_step}', flush=True)

  def __call__(self, outputs):
    """Prints a line; `outputs` are the losses of the last steps."""
    step, now = int(self._global_step.numpy()), self._clock()
    if step < self._last_step:  # Loss blew up and was reset to a checkpoint.
      self._last_step, self._last_time = step, now
      return
    per_second = (step - self._last_step) / max(now - self._last_time, 1e-9)
    self._last_step, self._last_time = step, now
    left = self._train_steps - step
    losses = {name: float(value) for name, value in outputs.items()
              if name.endswith('loss')}
    parts = ' '.join(
        f'{name[:-len("_loss")]} {value:.3f}'
        for name, value in losses.items()
        if name not in ('total_loss', 'model_loss', 'training_loss'))
    print(f'step {step}/{self._train_steps} ({left} left) | '
          f'loss {losses.get("total_loss", float("nan")):.3f} ({parts}) | '
          f'{per_second * self._batch_size:.1f} images/s | '
          f'{duration(left / max(per_second, 1e-9))} left', flush=True)


class EvaluationProgress:
  """Says every few seconds how many images have been evaluated.

  With several workers each speaks of its own part, whose size `num_images` is
  an estimate then.
  """

  def __init__(self, num_images: int, every_seconds: float = 10.0,
               clock: Callable[[], float] = time.monotonic):
    """Takes the images of the evaluation, the pause of lines, and a clock."""
    self._num_images = num_images
    self._every_seconds = every_seconds
    self._clock = clock
    self._start = self._said = clock()

  def __call__(self, done: int):
    """Prints a line, if it is time, after so many images."""
    now = self._clock()
    if now - self._said < self._every_seconds:
      return
    self._said = now
    total = max(self._num_images, done)
    left = (now - self._start) / max(done, 1) * (total - done)
    print(f'evaluated {done}/{total} images | '
          f'{duration(left)} left', file=sys.stderr, flush=True)
