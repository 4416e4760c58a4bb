"""The arguments of `panet serve-client`; `client` itself is loaded to run."""

import argparse


def _timeout(text: str) -> float:
  seconds = float(text)
  if not 0 < seconds < 1e6:
    raise argparse.ArgumentTypeError(f'{text}: must be seconds above 0')
  return seconds


def _run(args) -> int:
  from panet_tf.serving.client import client
  return client.run(
      args.url, args.images, args.output_dir, mode=args.mode,
      score_threshold=args.score_threshold, labels=args.labels,
      timeout=args.timeout)


def add_verb(verbs):
  """Adds `serve-client` to the verbs of `panet`."""
  parser = verbs.add_parser(
      'serve-client', help='ask TensorFlow Serving, draw the answers')
  parser.set_defaults(run=_run)
  add = parser.add_argument
  add('--url', required=True, help='http://HOST:8501/v1/models/panet (REST) or '
      'grpc://HOST:8500/panet (gRPC), both also with /versions/NUMBER')
  add('--images', required=True, help='folder or glob')
  add('--output_dir', required=True)
  add('--mode', choices=('base64', 'tensor'), default='base64',
      help='send encoded files, or pixels, far more bytes')
  add('--score_threshold', type=float, default=0.5,
      help='of what is drawn; predictions.json has all')
  add('--labels', default='', help="the export's assets/panet.json, for names "
      'of classes; default: numbers')
  add('--timeout', type=_timeout, default=60.0, help='of a request, seconds')
