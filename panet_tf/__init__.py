"""PANet (CVPR 2018) for TensorFlow, in the style of the Model Garden.

`open_model(path)` gives any model, a function of an image whose result are
`Detections`; `layers` are the paper's, for other Keras models. Each is imported
when it is first asked for: `import panet_tf` itself is light.
"""

import importlib
from typing import Any, TYPE_CHECKING

__version__ = '0.1.0'
__all__ = ['Detections', 'layers', 'open_model']

if TYPE_CHECKING:
  from panet_tf.inference.open_model import open_model
  from panet_tf.modeling import public_layers as layers
  from panet_tf.structures.detections import Detections
else:
  def __getattr__(name: str) -> Any:
    """What the imports above say, when it is asked for."""
    if name == 'layers':
      return importlib.import_module('panet_tf.modeling.public_layers')
    home = {'open_model': 'panet_tf.inference.open_model',
            'Detections': 'panet_tf.structures.detections'}.get(name)
    if home is None:
      raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
