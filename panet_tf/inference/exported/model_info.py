"""What travels with an exported model: names of classes, image preprocessing.

It is one JSON text in every format: an asset of a SavedModel, a file packed
into a .tflite, metadata of an ONNX file. Reading it needs no TensorFlow.
"""

import dataclasses
import json
import os
from typing import Any, IO

from panet_tf import errors
from panet_tf.inference import preprocessing as preprocessing_lib

FILE = 'panet.json'  # Its name among the assets.
LABELS = 'labels.txt'  # The same names for other programs, a line each.
_MAX_BYTES = 2**24  # Of the JSON; a thousand classes take 100 kB.
_MAX_ID = 2**31 - 1  # Graphs give ids as int32.


@dataclasses.dataclass(frozen=True)
class ModelInfo:
  """Description of an exported model.

  Attributes:
    categories: {'label', 'id', 'name'} of each class, in order of label from 1.
    preprocessing: image to network input.
    include_mask: whether the model has masks.
    full_image_masks: whether they cover the image, as booleans, and not their
      box, as 28 x 28 probabilities.
    legacy_masks: whether masks go into the image as the authors' release
      does it, see `structures.box_masks.BoxMasks`.
  """
  categories: list[dict[str, Any]]
  preprocessing: preprocessing_lib.Preprocessing
  include_mask: bool = True
  full_image_masks: bool = False
  legacy_masks: bool = False

  def to_json(self) -> str:
    """The file's text."""
    return json.dumps(dataclasses.asdict(self), indent=2) + '\n'

  def labels_text(self) -> str:
    """A name per line, class 1 first."""
    return ''.join(' '.join(str(category['name']).split()) + '\n'
                   for category in self.categories)

  @classmethod
  def from_json(cls, text: str | bytes, where: str) -> 'ModelInfo':
    """Inverse of `to_json`; InputError, naming `where`, for another text."""
    try:
      fields = dict(json.loads(text))
      fields['preprocessing'] = preprocessing_lib.Preprocessing.from_dict(
          fields['preprocessing'])
      info = cls(**fields)
      _check(info)
    except (ValueError, KeyError, TypeError, ArithmeticError,
            RecursionError) as e:
      raise errors.InputError(
          f'{where}: not a description that export.py wrote '
          f'({" ".join(repr(e).split()):.160})') from e
    return info

  @classmethod
  def read(cls, stream: IO[bytes], where: str) -> 'ModelInfo':
    """`from_json` of a file, of which no more is read than may be right."""
    text = stream.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
      raise errors.InputError(
          f'{where}: more than {_MAX_BYTES} bytes; not a description that '
          'export.py wrote')
    return cls.from_json(text, where)


def _check(info):
  """Raises ValueError, KeyError or TypeError for what `to_json` never gives."""
  for name in ('include_mask', 'full_image_masks', 'legacy_masks'):
    if not isinstance(getattr(info, name), bool):
      raise ValueError(f'{name} is {getattr(info, name)!r:.40}')
  ids = set()
  for label, category in enumerate(info.categories, 1):
    number = category['id']
    if (category['label'] != label or type(number) is not int
        or not -_MAX_ID <= number <= _MAX_ID or number in ids
        or not isinstance(category['name'], str)):
      raise ValueError(f'category {label} is {category!r:.80}')
    ids.add(number)


def write_assets(info: ModelInfo, folder: str) -> list[str]:
  """Writes FILE and LABELS into a folder; returns both paths."""
  paths = []
  for name, text in ((FILE, info.to_json()), (LABELS, info.labels_text())):
    paths.append(os.path.join(folder, name))
    with open(paths[-1], 'w', encoding='utf-8') as f:
      f.write(text)
  return paths
