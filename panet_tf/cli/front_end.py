"""What every program of the command line has in common.

A person's mistake becomes one line on stderr, and TensorFlow quiet: this module
comes before the ones that load it.
"""

from collections.abc import Callable
import logging
import os
import re
import sys
from typing import Any

from panet_tf import errors

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# Warnings about Model Garden's own use of TensorFlow; some come at import.
logging.getLogger('tensorflow').setLevel(logging.ERROR)


def exit_code(function: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
  """Calls a function that gives an exit code, or None for 0.

  A mistake of the user's is one line on stderr, and 2.
  """
  try:
    return function(*args, **kwargs) or 0
  except KeyboardInterrupt:
    print('stopped', file=sys.stderr)
    return 130
  except Exception as e:
    message = _mistake(e)
    if message is None:
      raise
    print(f'error: {message}', file=sys.stderr)
    return 2


def _mistake(e: Exception) -> str | None:
  """What a person did wrong; None for a defect of ours."""
  if isinstance(e, errors.InputError):
    return str(e)
  tf = sys.modules.get('tensorflow')  # Where it is not loaded, it raised none.
  if tf is None:
    return None
  if isinstance(e, tf.errors.DataLossError):
    return f'a record is damaged: {str(e).strip().splitlines()[0]}'
  if isinstance(e, tf.errors.InvalidArgumentError):
    # Raised in a function that tf.data calls, which hands on its text only.
    found = re.search('InputError: (.*)', str(e))
    return found and found[1]
  return None
