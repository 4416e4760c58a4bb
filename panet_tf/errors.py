"""The one exception that a person's mistake raises.

Front ends (`train.py`, `panet <verb>`) print its message as one line and exit
with code 2; anything else is a defect of ours and keeps its traceback.
"""


class InputError(ValueError):
  """Bad input. The message is one line: what, where, what would be right."""
