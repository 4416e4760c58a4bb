"""`panet <verb>`: everything a person runs, but training and export.

  panet data coco      COCO JSON and images to TFRecord shards
  panet data shapes    generated scenes: images, COCO JSON and shards
  panet evaluate       AP of a COCO results file
  panet predict        boxes, masks and pictures from a checkpoint
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
from panet_tf import errors


def _data_coco(args):
  from panet_tf.dataloaders import tfrecord
  print(tfrecord.convert_coco(
      args.image_dir, args.annotations, args.output_prefix,
      num_shards=args.num_shards, include_masks=args.include_masks,
      skip_invalid=args.skip_invalid, num_workers=args.num_workers))


def _data_shapes(args):
  from panet_tf.dataloaders import shapes
  shapes.make_shapes(args.output_prefix, args.num_images, args.seed,
                     args.image_size)
  print(f'{args.num_images} scenes: {args.output_prefix}.json, '
        f'{args.output_prefix}-*.tfrecord')


def _evaluate(args):
  from panet_tf.evaluation import evaluate
  evaluate.evaluate_predictions(
      args.predictions, args.annotations, args.output_dir,
      args.max_detections)
  print(f'written: {os.path.join(args.output_dir, "metrics.json")}')


def _predict(args):
  from panet_tf.inference import predict
  predict.predict(
      args.checkpoint, args.images, args.output_dir,
      experiment=args.experiment, config_files=args.config_file,
      params_override=args.params_override,
      score_threshold=args.score_threshold, annotations=args.annotations,
      max_pictures=args.max_pictures)


def _add_data_verbs(verbs):
  data = verbs.add_parser('data', help='make TFRecord shards')
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
  coco.set_defaults(run=_data_coco)
  shapes = kinds.add_parser('shapes', help='generated scenes')
  shapes.add_argument('--output_prefix', required=True)
  shapes.add_argument('--num_images', type=int, required=True)
  shapes.add_argument('--seed', type=int, default=0)
  shapes.add_argument('--image_size', type=int, default=128)
  shapes.set_defaults(run=_data_shapes)


def _add_result_verbs(verbs):
  evaluate = verbs.add_parser('evaluate', help='AP of a COCO results file')
  evaluate.add_argument('--predictions', required=True,
                        help='COCO results JSON, as `panet predict` writes')
  evaluate.add_argument('--annotations', required=True,
                        help='COCO instances JSON')
  evaluate.add_argument('--output_dir', default='.',
                        help='where metrics.json goes')
  evaluate.add_argument('--max_detections', type=int, default=100,
                        help='results counted per image and category')
  evaluate.set_defaults(run=_evaluate)
  predict = verbs.add_parser('predict', help='run a checkpoint on images')
  predict.add_argument('--checkpoint', required=True,
                       help='model_dir of a training, or one checkpoint')
  predict.add_argument('--images', required=True, help='folder or glob')
  predict.add_argument('--output_dir', required=True)
  predict.add_argument('--experiment', default='',
                       help='default: params.yaml beside the checkpoint')
  predict.add_argument('--config_file', action='append', default=[])
  predict.add_argument('--params_override', default='')
  predict.add_argument('--score_threshold', type=float, default=0.5,
                       help='of what is drawn; predictions.json has all')
  predict.add_argument('--annotations', default='',
                       help='COCO JSON that gives the images their ids')
  predict.add_argument('--max_pictures', type=int, default=None,
                       help='draw at most this many')
  predict.set_defaults(run=_predict)


def main(argv=None) -> int:
  """Runs one verb. Returns the exit code: 2 for a mistake of the user's."""
  parser = argparse.ArgumentParser(
      prog='panet', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  verbs = parser.add_subparsers(dest='verb', required=True)
  _add_data_verbs(verbs)
  _add_result_verbs(verbs)
  args = parser.parse_args(argv)
  try:
    args.run(args)
  except errors.InputError as e:
    print(f'error: {e}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('stopped', file=sys.stderr)
    return 130
  return 0


if __name__ == '__main__':
  sys.exit(main())
