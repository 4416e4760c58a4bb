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
      args.root, args.output_dir, args.version, args.splits, args.num_workers))


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
  fitted = search.fit_dataset(
      args.annotations, args.num_scales, args.num_ratios, default=default,
      network_input=network_input.replaced(
          args.input_size, args.short_edge, args.long_edge))
  _print(fitted)
  fitted.write(args.output)
  _print(f'written: {args.output}')


def add_verbs(verbs):
  """Adds `data` and its kinds to the subparsers of `panet`."""
  data = verbs.add_parser('data', help='look at, convert and make data sets')
  kinds = data.add_subparsers(dest='kind', required=True)

  def kind(name, run, text):
    parser = kinds.add_parser(name, help=text)
    parser.set_defaults(run=run)
    return parser.add_argument

  _add_coco(kind('coco', _coco, 'from COCO JSON and images'))
  add = kind('shapes', _shapes, 'generated scenes')
  add('--output_prefix', required=True)
  add('--num_images', type=int, required=True)
  add('--seed', type=int, default=0)
  add('--image_size', type=int, default=128)
  text = 'to COCO JSON, for `data coco`'
  _add_instances(kind('cityscapes', _cityscapes, text), 'cityscapes',
                 ['train', 'val'])
  add = kind('mapillary', _mapillary, text)
  _add_instances(add, 'mapillary', ['training', 'validation'])
  add('--version', default='v1.2', help='v1.2 or v2.0')
  _add_check(kind('check', _check, 'what is wrong with a COCO JSON; exit code '
                  '1 for errors'))
  _add_anchors(kind('anchors', _anchors, 'anchors fitted to the boxes'))


def _add_coco(add):
  add('--image_dir', required=True)
  add('--annotations', required=True, help='COCO instances JSON')
  add('--output_prefix', required=True,
      help='shards are PREFIX-00000-of-NNNNN.tfrecord')
  add('--num_shards', type=int, default=32)
  add('--num_workers', type=int)
  add('--include_masks', default=True, action=argparse.BooleanOptionalAction)
  add('--skip_invalid', action='store_true', help='reject unusable images and '
      'annotations instead of stopping at the first')


def _add_instances(add, kind, splits):
  add('--root', required=True, help='folder of the unpacked data set')
  add('--output_dir', required=True, help=f'for {kind}_SPLIT.json')
  add('--splits', nargs='+', default=splits)
  add('--num_workers', type=int)


def _add_check(add):
  add('--annotations', required=True, help='any COCO JSON')
  add('--image_dir', help='look into the images, too')
  add('--fix', metavar='OUT.json', help='write what has one right answer '
      'repaired; every change stands in OUT.json.changes.jsonl')
  add('--json', action='store_true', help='a report for programs')
  add('--num_workers', type=int)


def _add_anchors(add):
  add('--annotations', required=True, help='COCO instances JSON')
  add('--output', default='anchors.yaml', help='for --config_file')
  default = '; default: as the default anchors'
  add('--num_scales', type=int, help=f'sizes per octave{default}')
  add('--num_ratios', type=int, help=f'aspect ratios{default}')
  add('--experiment', default='', help='whose anchors are the default, and '
      'whose evaluation scale boxes are measured at; default: Model '
      "Garden's anchors, edges 800 and 1000")
  add('--config_file', action='append', default=[])
  add('--input_size', metavar='HEIGHT,WIDTH', help='images are fitted into')
  add('--short_edge', type=int)
  add('--long_edge', type=int)
