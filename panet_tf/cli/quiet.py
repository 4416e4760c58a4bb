"""Imported before TensorFlow: keeps its warnings from people.

They are about Model Garden's own use of TensorFlow, and some come at import.
"""

import logging
import os

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
logging.getLogger('tensorflow').setLevel(logging.ERROR)
