"""The arguments of `panet propose`; `propose` itself is loaded to run."""


def _run(args):
  from panet_tf.prediction import propose  # pylint: disable=g-import-not-at-top
  propose.propose(
      args.model, args.output, images=args.images, shards=args.shards,
      annotations=args.annotations, experiment=args.experiment,
      config_files=args.config_file, params_override=args.params_override,
      num_proposals=args.num_proposals)


def add_verb(verbs):
  """Adds `propose` to the verbs of `panet`."""
  parser = verbs.add_parser(
      'propose', help='boxes of an RPN, for training and evaluation',
      description='Writes the proposals of an RPN to one file, which models '
      'with `stages: detector` read as `proposals`.')
  parser.add_argument(
      '--model', '--checkpoint', required=True,
      help='model_dir of a training, of panet_rpn or of a whole model, or one '
      'checkpoint in it')
  parser.add_argument('--experiment', default='',
                      help='default: params.yaml beside the checkpoint')
  parser.add_argument('--config_file', action='append', default=[])
  parser.add_argument('--params_override', default='')
  parser.add_argument('--images', nargs='+', default=[],
                      help='folders, globs and image files')
  parser.add_argument('--shards', default='',
                      help="instead: as in 'data/train-*.tfrecord'")
  parser.add_argument('--annotations', default='',
                      help='COCO JSON that gives --images their ids; default: '
                      'the file name is the id')
  parser.add_argument('--output', required=True,
                      help='.tfrecord: a record per image; .json: COCO '
                      'results, for small data sets')
  parser.add_argument('--num_proposals', type=int, default=2000,
                      help='of an image, at most; default: 2000')
  parser.set_defaults(run=_run)
