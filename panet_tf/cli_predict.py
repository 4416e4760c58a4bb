"""The arguments of `panet predict`; `predict` itself is loaded to run."""

import argparse
from typing import Any, Callable, Dict


def _at_least(least: int) -> Callable[[str], int]:
  def number(text):
    value = int(text)
    if value < least:
      raise argparse.ArgumentTypeError(f'{text}: must be {least} or more')
    return value
  return number


def _run(args) -> int:
  from panet_tf.inference import predict  # pylint: disable=g-import-not-at-top
  return predict.predict(
      images=args.images, output_dir=args.output_dir,
      score_threshold=args.score_threshold, annotations=args.annotations,
      max_pictures=args.max_pictures, **model_arguments(args))


def add_model_arguments(parser: argparse.ArgumentParser):
  """Which model, and how images go through it."""
  parser.add_argument(
      '--model', '--checkpoint', action='append', default=[], dest='models',
      metavar='MODEL',
      help='model_dir of a training or one checkpoint; or a SavedModel (or the '
      'folder of its versions), .tflite or .onnx file of export.py; several '
      'checkpoints, each with its --model, are an ensemble, whose first makes '
      'the proposals')
  parser.add_argument('--experiment', default='',
                      help='default: params.yaml beside the checkpoint')
  parser.add_argument('--config_file', action='append', default=[])
  parser.add_argument('--params_override', default='')
  parser.add_argument('--batch_size', type=_at_least(1), default=1,
                      help='images, or tiles, that the model gets at a time')
  parser.add_argument('--tile', type=_at_least(0), default=0, metavar='N',
                      help='cut images larger than N pixels into tiles of N; '
                      'default: whole images')
  parser.add_argument('--overlap', type=_at_least(0), default=None,
                      metavar='N',
                      help='pixels that tiles have in common; default: an '
                      'eighth of --tile')
  parser.add_argument('--strict', action='store_true',
                      help='stop at the first image that fails; otherwise it '
                      'is reported, and the exit code is 1')


def model_arguments(args: argparse.Namespace) -> Dict[str, Any]:
  """What `add_model_arguments` added, as arguments of `predict`."""
  return dict(
      models=args.models, experiment=args.experiment,
      config_files=args.config_file, params_override=args.params_override,
      batch_size=args.batch_size, tile=args.tile, overlap=args.overlap,
      strict=args.strict)


def add_verb(verbs):
  """Adds `predict` to the verbs of `panet`."""
  parser = verbs.add_parser(
      'predict', help='run a model on images and videos',
      description='Boxes, masks and pictures. A run that was stopped goes on '
      'where it was when it is started again; to begin anew, delete '
      'OUTPUT_DIR/predictions.partial.jsonl.')
  add_model_arguments(parser)
  parser.add_argument('--images', required=True, nargs='+',
                      help='folders, globs, image and video files')
  parser.add_argument('--output_dir', required=True)
  parser.add_argument('--score_threshold', type=float, default=0.5,
                      help='of what is drawn; predictions.json has all')
  parser.add_argument('--annotations', default='',
                      help='COCO JSON that gives the images their ids; its '
                      'annotations are drawn beside the detections')
  parser.add_argument('--max_pictures', type=_at_least(0), default=None,
                      help='draw at most this many, a video counting as one')
  parser.set_defaults(run=_run)
