"""The one exception that a person's mistake raises.

Front ends (`train.py`, `panet <verb>`) print its message as one line and exit
with code 2; anything else is a defect of ours and keeps its traceback.
"""


class InputError(ValueError):
  """Bad input. The message is one line: what, where, what would be right.

  Attributes:
    reason: what is wrong, for those who know where; the message where the two
      are not told apart.
  """

  def __init__(self, message: str, reason: str | None = None):
    """Takes the message, and its reason."""
    super().__init__(message)
    self.reason = reason or message

  @classmethod
  def at(cls, where: str, reason: str) -> 'InputError':
    """Says where, and then what is wrong."""
    return cls(f'{where}: {reason}', reason)
