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
from collections.abc import Sequence
import sys

from panet_tf.cli import convert_weights
from panet_tf.cli import data
from panet_tf.cli import evaluate
from panet_tf.cli import front_end
from panet_tf.cli import predict
from panet_tf.cli import propose
from panet_tf.cli import serve_client


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one verb; gives the exit code, see `front_end.exit_code`."""
  # A verb imports what it needs: `panet --help` is quick.
  parser = argparse.ArgumentParser(
      prog='panet', description=__doc__,
      formatter_class=argparse.RawDescriptionHelpFormatter)
  verbs = parser.add_subparsers(dest='verb', required=True)
  data.add_verbs(verbs)
  evaluate.add_verbs(verbs)
  predict.add_verb(verbs)
  propose.add_verb(verbs)
  serve_client.add_verb(verbs)
  convert_weights.add_verb(verbs)
  args = parser.parse_args(argv)
  return front_end.exit_code(args.run, args)


if __name__ == '__main__':
  sys.exit(main())
