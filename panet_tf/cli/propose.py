"""The arguments of `panet propose`; `propose` itself is loaded to run."""

from panet_tf.cli import model_options


def _run(args):
  from panet_tf.prediction import propose
  propose.propose(
      args.model, args.output, images=args.images, shards=args.shards,
      annotations=args.annotations,
      overrides=model_options.overrides_of(args),
      num_proposals=args.num_proposals)


def add_verb(verbs):
  """Adds `propose` to the verbs of `panet`."""
  parser = verbs.add_parser(
      'propose', help='boxes of an RPN, for training and evaluation',
      description='Writes the proposals of an RPN to one file, which models '
      'with `stages: detector` read as `proposals`.')
  parser.set_defaults(run=_run)
  add = parser.add_argument
  add('--model', '--checkpoint', required=True, help='model_dir of a training, '
      'of panet_rpn or of a whole model, or one checkpoint in it')
  model_options.add_overrides(parser)
  add('--images', nargs='+', default=[], help='folders, globs and image files')
  add('--shards', default='', help="instead: as in 'data/train-*.tfrecord'")
  add('--annotations', default='', help='COCO JSON that gives --images their '
      'ids; default: the file name is the id')
  add('--output', required=True, help='.tfrecord: a record per image; .json: '
      'COCO results, for small data sets')
  add('--num_proposals', type=int, default=2000,
      help='of an image, at most; default: 2000')
