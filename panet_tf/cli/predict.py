"""The arguments of `panet predict`; `predict` itself is loaded to run."""

from panet_tf.cli import model_options


def _run(args) -> int:
  from panet_tf.prediction import predict
  return predict.predict(
      images=args.images, output_dir=args.output_dir,
      score_threshold=args.score_threshold, annotations=args.annotations,
      max_pictures=args.max_pictures, **model_options.model_arguments(args))


def add_verb(verbs):
  """Adds `predict` to the verbs of `panet`."""
  parser = verbs.add_parser(
      'predict', help='run a model on images and videos',
      description='Boxes, masks and pictures. A run that was stopped goes on '
      'where it was when it is started again; to begin anew, delete '
      'OUTPUT_DIR/predictions.partial.jsonl.')
  parser.set_defaults(run=_run)
  model_options.add_model_arguments(parser)
  add = parser.add_argument
  add('--images', required=True, nargs='+',
      help='folders, globs, image and video files')
  add('--output_dir', required=True)
  add('--score_threshold', type=float, default=0.5,
      help='of what is drawn; predictions.json has all')
  add('--annotations', default='', help='COCO JSON that gives the images their '
      'ids; its annotations are drawn beside the detections')
  add('--max_pictures', type=model_options.at_least(0),
      help='draw at most this many, a video counting as one')
