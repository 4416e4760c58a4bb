"""What must be said before TensorFlow is imported; fixtures are in support."""

import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# oneDNN's convolution gradients write beyond their buffers when two logical CPU
# devices run them at once (TF 2.20, AVX-512): the process aborts.
os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'

pytest_plugins = [
    'tests.support.session', 'tests.support.exported',
    'tests.support.small_coco']
