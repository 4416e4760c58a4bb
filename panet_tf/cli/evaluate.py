"""The verbs `evaluate` and `submit`: figures and files out of results."""

import os

from panet_tf import errors
from panet_tf.cli import model_options


def _evaluate(args):
  from panet_tf.evaluation import evaluate
  status, predictions = 0, args.predictions
  if bool(predictions) == bool(args.models or args.images):
    raise errors.InputError(
        '--predictions, or --checkpoint with --images: one of them is needed')
  if not predictions:
    from panet_tf.prediction import predict
    status = predict.predict(
        images=args.images, output_dir=args.output_dir,
        annotations=args.annotations, max_pictures=0,
        **model_options.model_arguments(args))
    predictions = os.path.join(args.output_dir, 'predictions.json')
  evaluate.evaluate_predictions(
      predictions, args.annotations, args.output_dir, args.max_detections,
      args.cityscapes_root)
  print(f'written: {os.path.join(args.output_dir, "metrics.json")}')
  return status


def _submit_cityscapes(args):
  from panet_tf.data import coco_json
  from panet_tf.data import coco_results
  from panet_tf.evaluation import cityscapes_submission
  count = cityscapes_submission.write_submission(
      coco_json.read(args.annotations),
      coco_results.load_results(args.predictions), args.output_dir)
  print(f'{count} masks; to submit: cd {args.output_dir} && '
        'zip -r ../submission.zip .')


def add_verbs(verbs):
  """Adds `evaluate` and `submit` to the verbs of `panet`."""
  results = 'COCO results JSON, as `panet predict` writes'
  evaluate = verbs.add_parser(
      'evaluate', help='AP of a COCO results file, or of a model')
  evaluate.set_defaults(run=_evaluate)
  add = evaluate.add_argument
  add('--predictions', default='', help=results)
  add('--images', nargs='+', default=[],
      help='folders or globs that a model is run on')
  model_options.add_model_arguments(evaluate)
  add('--annotations', required=True, help='COCO instances JSON')
  add('--output_dir', default='.', help='where metrics.json goes')
  add('--max_detections', type=int, default=100,
      help='results counted per image and category')
  add('--cityscapes_root', default='',
      help="folder with gtFine: the benchmark's own AP")
  submit = verbs.add_parser('submit', help='results as a benchmark takes them')
  cityscapes = submit.add_subparsers(dest='kind', required=True).add_parser(
      'cityscapes', help='text files and mask PNGs')
  cityscapes.set_defaults(run=_submit_cityscapes)
  add = cityscapes.add_argument
  add('--predictions', required=True, help=results)
  add('--annotations', required=True, help='of `panet data cityscapes`')
  add('--output_dir', required=True, help='a new folder')
