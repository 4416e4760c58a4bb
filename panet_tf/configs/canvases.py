"""The padded network inputs that a configuration asks for."""

import re

from panet_tf import errors

_COARSEST_STRIDE = 64  # Level 6.


def parse_canvases(options, is_training):
  """[[height, width]] of a `configs.data.ParserConfig`'s `canvases`.

  Raises:
    InputError: naming the field, and what would be right.
  """
  field = (f'task.{"train" if is_training else "validation"}_data.parser.'
           'canvases')
  canvases = []
  for text in options.canvases:
    if not re.fullmatch('[1-9][0-9]{0,5}x[1-9][0-9]{0,5}', str(text)):
      raise errors.InputError(
          f'{field} has {text!r}; an entry must be HEIGHTxWIDTH in pixels, as '
          'in 1088x1408')
    canvases.append([int(edge) for edge in text.split('x')])
  if canvases and not (options.short_edge or options.short_edge_choices):
    raise errors.InputError(
        f'{field} is for images scaled by edges; set short_edge (or '
        'short_edge_choices) and long_edge as well')
  if len(canvases) > 1 and not is_training:
    raise errors.InputError(
        f'{field} has {len(canvases)} entries; evaluation takes one at most: '
        'only training groups its batches by canvas')
  return canvases


def canvas_size(input_size: list[int], long_edge: int) -> list[int]:
  """Height and width of the padded network input, multiples of 64."""
  height, width = (long_edge, long_edge) if long_edge else input_size[:2]
  return [-(-edge // _COARSEST_STRIDE) * _COARSEST_STRIDE
          for edge in (height, width)]
