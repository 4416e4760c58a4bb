"""`panet convert-weights <source>`: weights of others as our checkpoints."""

import os


def _official(args):
  from panet_tf.convert import official_release
  written = official_release.convert(
      args.checkpoint, args.config, args.output_dir, args.params_override)
  print(f'written to {args.output_dir}: {", ".join(written)}\n'
        f'to run it: panet predict --model {args.output_dir} --images ...')


def _imagenet(args):
  from panet_tf import runs
  from panet_tf.convert import imagenet_backbones
  fields = imagenet_backbones.convert(args.source, args.file, args.output_dir)
  backbone = fields['task']['model']['backbone']
  path = os.path.join(args.output_dir, runs.BACKBONE)
  print(f'written to {args.output_dir}: {backbone}\n'
        f'to start from it: python train.py ... --config_file={path}')


def add_verb(verbs):
  """Adds `convert-weights` and its sources to the verbs of `panet`."""
  convert = verbs.add_parser(
      'convert-weights', help='weights of others as checkpoints')
  sources = convert.add_subparsers(dest='kind', required=True)
  official = sources.add_parser(
      'official', help="one of the authors' three released models")
  official.set_defaults(run=_official)
  add = official.add_argument
  add('--checkpoint', required=True, help='.pth')
  add('--config', required=True, help='of the release: '
      'e2e_panet_R-50-FPN_2x_mask, ..._1x_det or ..._1x_det_2fc')
  add('--output_dir', required=True, help='a new folder')
  add('--params_override', default='', help='of the experiment '
      'panet_official_release: other classes, say')
  imagenet = sources.add_parser(
      'imagenet', help='an ImageNet classifier, for init_checkpoint')
  imagenet.set_defaults(run=_imagenet)
  add = imagenet.add_argument
  add('--source', required=True, help='keras (.h5), torchvision (.pth) or '
      "caffe (Detectron's .pkl, or .pth)")
  add('--file', required=True)
  add('--output_dir', required=True, help='a new folder')
