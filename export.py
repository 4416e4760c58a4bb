"""Serving formats of a trained PANet: not built yet."""

import sys

if __name__ == '__main__':
  sys.exit('error: export.py is not built yet; `panet predict` and '
           'panet_tf.inference.predictor run a checkpoint')
