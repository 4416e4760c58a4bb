"""`panet data <kind>`: from what people have to what training reads."""

import argparse
import json
import sys

from panet_tf import errors


def _print(report):
  """Prints text; of names of files, what the terminal cannot show, escaped."""
  encoding = sys.stdout.encoding or 'utf-8'
  print(str(report).encode(encoding, 'backslashreplace').decode(encoding))


def _coco(args):
  from panet_tf.data import tfrecord
  _print(tfrecord.convert_coco(
      args.image_dir, args.annotations, args.output_prefix,
      num_shards=args.num_shards, include_masks=args.include_masks,
      skip_invalid=args.skip_invalid, num_workers=args.num_workers))


def _shapes(args):
  from panet_tf.data.sources import shapes
  shapes.make_shapes(args.output_prefix, args.num_images, args.seed,
                     args.image_size)
  _print(f'{args.num_images} scenes: {args.output_prefix}.json, '
         f'{args.output_prefix}-*.tfrecord')


def _cityscapes(args):
  from panet_tf.data.sources import cityscapes
  _print(cityscapes.convert_cityscapes(
      args.root, args.output_dir, args.splits, args.num_workers))


def _mapillary(args):
  from panet_tf.data.sources import mapillary
  _print(mapillary.convert_mapillary(
      args.root, args.output_dir, args.version, args.splits,
      args.num_workers))


def _check(args):
  from panet_tf.data.doctor import doctor
  report = doctor.check(args.annotations, args.image_dir, args.fix,
                        num_workers=args.num_workers)
  _print(json.dumps(report.as_dict(), indent=2) if args.json else report)
  return 1 if report.has_errors else 0


def _anchors(args):
  from panet_tf.data.anchors import search
  default, network_input = search.Anchors(), search.NetworkInput()
  if args.experiment:
    from panet_tf.configs import experiments
    default, network_input = search.of_experiment(
        experiments.read(args.experiment, args.config_file))
  elif args.config_file:
    raise errors.InputError('--config_file needs --experiment')
  proposal = search.propose(
      args.annotations, args.num_scales, args.num_ratios, default=default,
      network_input=network_input.replaced(
          args.input_size, args.short_edge, args.long_edge))
  _print(proposal)
  proposal.write(args.output)
  _print(f'written: {args.output}')


def add_verbs(verbs):
  """Adds `data` and its kinds to the subparsers of `panet`."""
  data = verbs.add_parser('data', help='look at, convert and make data sets')
  kinds = data.add_subparsers(dest='kind', required=True)
  coco = kinds.add_parser('coco', help='from COCO JSON and images')
  coco.add_argument('--image_dir', required=True)
  coco.add_argument('--annotations', required=True,
                    help='COCO instances JSON')
  coco.add_argument('--output_prefix', required=True,
                    help='shards are PREFIX-00000-of-NNNNN.tfrecord')
  coco.add_argument('--num_shards', type=int, default=32)
  coco.add_argument('--num_workers', type=int, default=None)
  coco.add_argument('--include_masks', default=True,
                    action=argparse.BooleanOptionalAction)
  coco.add_argument('--skip_invalid', action='store_true',
                    help='reject unusable images and annotations instead of '
                    'stopping at the first')
  coco.set_defaults(run=_coco)
  shapes = kinds.add_parser('shapes', help='generated scenes')
  shapes.add_argument('--output_prefix', required=True)
  shapes.add_argument('--num_images', type=int, required=True)
  shapes.add_argument('--seed', type=int, default=0)
  shapes.add_argument('--image_size', type=int, default=128)
  shapes.set_defaults(run=_shapes)
  _add_instance_verbs(kinds)
  _add_check(kinds)
  _add_anchors(kinds)


def _add_instance_verbs(kinds):
  for kind, run, splits in (
      ('cityscapes', _cityscapes, ['train', 'val']),
      ('mapillary', _mapillary, ['training', 'validation'])):
    instances = kinds.add_parser(kind, help='to COCO JSON, for `data coco`')
    instances.add_argument('--root', required=True,
                           help='folder of the unpacked data set')
    instances.add_argument('--output_dir', required=True,
                           help=f'for {kind}_SPLIT.json')
    instances.add_argument('--splits', nargs='+', default=splits)
    instances.add_argument('--num_workers', type=int, default=None)
    if kind == 'mapillary':
      instances.add_argument('--version', default='v1.2', help='v1.2 or v2.0')
    instances.set_defaults(run=run)


def _add_check(kinds):
  check = kinds.add_parser(
      'check', help='what is wrong with a COCO JSON; exit code 1 for errors')
  check.add_argument('--annotations', required=True, help='any COCO JSON')
  check.add_argument('--image_dir', default=None,
                     help='look into the images, too')
  check.add_argument('--fix', default=None, metavar='OUT.json',
                     help='write what has one right answer repaired; every '
                     'change stands in OUT.json.changes.jsonl')
  check.add_argument('--json', action='store_true',
                     help='a report for programs')
  check.add_argument('--num_workers', type=int, default=None)
  check.set_defaults(run=_check)


def _add_anchors(kinds):
  anchors = kinds.add_parser('anchors', help='anchors fitted to the boxes')
  anchors.add_argument('--annotations', required=True,
                       help='COCO instances JSON')
  anchors.add_argument('--output', default='anchors.yaml',
                       help='for --config_file')
  anchors.add_argument('--num_scales', type=int, default=None,
                       help='sizes per octave; default: as the default anchors')
  anchors.add_argument('--num_ratios', type=int, default=None,
                       help='aspect ratios; default: as the default anchors')
  anchors.add_argument('--experiment', default='',
                       help='whose anchors are the default, and whose '
                       'evaluation scale boxes are measured at; default: '
                       "Model Garden's anchors, edges 800 and 1000")
  anchors.add_argument('--config_file', action='append', default=[])
  anchors.add_argument('--input_size', default=None, metavar='HEIGHT,WIDTH',
                       help='images are fitted into')
  anchors.add_argument('--short_edge', type=int, default=None)
  anchors.add_argument('--long_edge', type=int, default=None)
  anchors.set_defaults(run=_anchors)
