"""Trains and evaluates PANet, with Model Garden's flags.

  python train.py --experiment=panet_coco --mode=train_and_eval \
      --model_dir=runs/coco [--config_file=...] [--params_override=...]

A run that stopped goes on from the last checkpoint in its model_dir.
"""

from absl import app
from absl import flags
from absl import logging

from panet_tf.cli import front_end
from panet_tf.training import loop

FLAGS = flags.FLAGS


def main(_):
  """Runs the mode that the flags ask for."""
  logging.set_verbosity(logging.WARNING)
  return front_end.exit_code(
      loop.run,
      experiment=FLAGS.experiment,
      mode=FLAGS.mode,
      model_dir=FLAGS.model_dir,
      config_files=FLAGS.config_file or (),
      params_override=FLAGS.params_override or '',
      tpu=FLAGS.tpu or '')


if __name__ == '__main__':
  from official.common import flags as official_flags  # After `front_end`.
  official_flags.define_flags()
  flags.mark_flags_as_required(['experiment', 'mode', 'model_dir'])
  app.run(main)
