"""`panet <verb>`: everything a person runs, but training and export.

  panet data check        what is wrong with a COCO JSON, and repairing it
  panet data cityscapes   Cityscapes to COCO JSON
  panet data mapillary    Mapillary Vistas to COCO JSON
  panet data anchors      anchors that fit the boxes of a data set
  panet data coco         COCO JSON and images to TFRecord shards
  panet data shapes       generated scenes: images, COCO JSON and shards
  panet evaluate          AP of a COCO results file, or of a model
  panet predict           boxes, masks and pictures, of images and videos,
                          from a checkpoint or what export.py made of it
  panet serve-client      the same from a running TensorFlow Serving
  panet propose           boxes of an RPN, to train on
  panet submit cityscapes a COCO results file as the benchmark takes it
  panet convert-weights   the authors' models, or ImageNet's, as checkpoints
"""

import argparse
import logging
import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# Warnings about Model Garden's own use of TensorFlow; some come at import.
logging.getLogger('tensorflow').setLevel(logging.ERROR)

# Verbs import what they need, so that `panet --help` does not load TensorFlow.
# pylint: disable=g-import-not-at-top
from panet_tf import cli_convert
from panet_tf import cli_data
from panet_tf import cli_predict
from panet_tf import cli_propose
from panet_tf import errors
from panet_tf.serving import client_verb


def _evaluate(args):
  from panet_tf.evaluation import evaluate
  status, predictions = 0, args.predictions
  if bool(predictions) == bool(args.models or args.images):
    raise errors.InputError(
        '--predictions, or --checkpoint with --images: one of them is needed')
  if not predictions:
    from panet_tf.inference import predict
    status = predict.predict(
        images=args.images, output_dir=args.output_dir,
        annotations=args.annotations, max_pictures=0,
        **cli_predict.model_arguments(args))
    predictions = os.path.join(args.output_dir, 'predictions.json')
  if args.cityscapes_root:
    evaluate.evaluate_cityscapes(
        predictions, args.annotations, args.output_dir, args.cityscapes_root)
  else:
    evaluate.evaluate_predictions(
        predictions, args.annotations, args.output_dir, args.max_detections)
  print(f'written: {os.path.join(args.output_dir, "metrics.json")}')
  return status


def _submit_cityscapes(args):
  from panet_tf.dataloaders import coco_json
  from panet_tf.evaluation import cityscapes_submission
  from panet_tf.evaluation import coco_results
  count = cityscapes_submission.write_submission(
      coco_json.read(args.annotations),
      coco_results.load_results(args.predictions), args.output_dir)
  print(f'{count} masks; to submit: cd {args.output_dir} && '
        'zip -r ../submission.zip .')


def _add_result_verbs(verbs):
  evaluate = verbs.add_parser(
      'evaluate', help='AP of a COCO results file, or of a model')
  evaluate.add_argument('--predictions', default='',
                        help='COCO results JSON, as `panet predict` writes')
  evaluate.add_argument('--images', nargs='+', default=[],
                        help='folders or globs that a model is run on')
  cli_predict.add_model_arguments(evaluate)
  evaluate.add_argument('--annotations', required=True,
                        help='COCO instances JSON')
  evaluate.add_argument('--output_dir', default='.',
                        help='where metrics.json goes')
  evaluate.add_argument('--max_detections', type=int, default=100,
                        help='results counted per image and category')
  evaluate.add_argument('--cityscapes_root', default='',
                        help="folder with gtFine: the benchmark's own AP")
  evaluate.set_defaults(run=_evaluate)
  submit = verbs.add_parser('submit', help='results as a benchmark takes them')
  cityscapes = submit.add_subparsers(dest='kind', required=True).add_parser(
      'cityscapes', help='text files and mask PNGs')
  cityscapes.add_argument('--predictions', required=True,
                          help='COCO results JSON, as `panet predict` writes')
  cityscapes.add_argument('--annotations', required=True,
                          help='of `panet data cityscapes`')
  cityscapes.add_argument('--output_dir', required=True, help='a new folder')
  cityscapes.set_defaults(run=_submit_cityscapes)


def main(argv=None) -> int:
  """Runs one verb. Returns the exit code: 2 for a mistake of the user's."""
  parser = argparse.ArgumentParser(
      prog='panet', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  verbs = parser.add_subparsers(dest='verb', required=True)
  cli_data.add_verbs(verbs)
  _add_result_verbs(verbs)
  cli_predict.add_verb(verbs)
  cli_propose.add_verb(verbs)
  client_verb.add_verb(verbs)
  cli_convert.add_verb(verbs)
  args = parser.parse_args(argv)
  try:
    return args.run(args) or 0
  except errors.InputError as e:
    print(f'error: {e}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('stopped', file=sys.stderr)
    return 130


if __name__ == '__main__':
  sys.exit(main())
