"""A person's mistake becomes one line on stderr."""

from collections.abc import Callable
import re
import sys
from typing import Any

import tensorflow as tf

from panet_tf import errors


def exit_with_one_line(function: Callable[..., Any], **kwargs):
  """Calls a function; a person's mistake is one line and exit code 2."""
  try:
    return function(**kwargs)
  except errors.InputError as e:
    message = str(e)
  except tf.errors.DataLossError as e:
    message = f'a record is damaged: {str(e).strip().splitlines()[0]}'
  except tf.errors.InvalidArgumentError as e:
    # Raised in a function that tf.data calls.
    found = re.search('InputError: (.*)', str(e))
    if not found:
      raise
    message = found[1]
  except KeyboardInterrupt:
    print('stopped', file=sys.stderr)
    sys.exit(130)
  print(f'error: {message}', file=sys.stderr)
  sys.exit(2)
