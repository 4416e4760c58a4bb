"""Flags that name a model, and how images go through it."""

import argparse
from collections.abc import Callable
from typing import Any

from panet_tf.configs import overrides


def at_least(least: int) -> Callable[[str], int]:
  """The type of a flag: a whole number with a lower bound."""
  def number(text):
    value = int(text)
    if value < least:
      raise argparse.ArgumentTypeError(f'{text}: must be {least} or more')
    return value
  return number


def add_overrides(parser: argparse.ArgumentParser):
  """What is changed in the configuration of a checkpoint."""
  parser.add_argument('--experiment', default='',
                      help='default: params.yaml beside the checkpoint')
  parser.add_argument('--config_file', action='append', default=[])
  parser.add_argument('--params_override', default='')


def overrides_of(args: argparse.Namespace) -> overrides.Overrides:
  """What `add_overrides` added."""
  return overrides.Overrides(
      args.experiment, args.config_file, args.params_override)


def add_model_arguments(parser: argparse.ArgumentParser):
  """Which model, and how images go through it."""
  add = parser.add_argument
  add('--model', '--checkpoint', action='append', default=[], dest='models',
      metavar='MODEL',
      help='model_dir of a training or one checkpoint; or a SavedModel (or the '
      'folder of its versions), .tflite or .onnx file of export.py; several '
      'checkpoints, each with its --model, are an ensemble, whose first makes '
      'the proposals')
  add_overrides(parser)
  add('--batch_size', type=at_least(1), default=1,
      help='images, or tiles, that the model gets at a time')
  add('--tile', type=at_least(0), default=0, metavar='N', help='cut images '
      'larger than N pixels into tiles of N; default: whole images')
  add('--overlap', type=at_least(0), metavar='N',
      help='pixels that tiles have in common; default: an eighth of --tile')
  add('--strict', action='store_true', help='stop at the first image that '
      'fails; otherwise it is reported, and the exit code is 1')


def model_arguments(args: argparse.Namespace) -> dict[str, Any]:
  """What `add_model_arguments` added, as arguments of `predict`."""
  return dict(
      models=args.models, overrides=overrides_of(args),
      batch_size=args.batch_size, tile=args.tile, overlap=args.overlap,
      strict=args.strict)
