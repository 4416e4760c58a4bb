"""Layers that come back from their configuration as they were."""

import inspect
from typing import Any

import tf_keras


class Configured(tf_keras.layers.Layer):
  """A layer or model whose configuration is the arguments that made it.

  Keras does so by itself where all of them are numbers, strings or None.
  """

  def __new__(cls, *args, **kwargs):
    """Keeps the arguments, with the defaults of those left out."""
    layer = super().__new__(cls, *args, **kwargs)
    # Not a dict, which Keras would track. A copy is made without arguments.
    layer._made_with = inspect.signature(cls.__init__).bind_partial(
        None, *args, **kwargs)
    layer._made_with.apply_defaults()
    return layer

  def get_config(self) -> dict[str, Any]:
    """Returns the name, and arguments that make the same layer again."""
    _, *arguments = self._made_with.arguments.items()
    return {'name': self.name, **super().get_config(), **{
        name: value for name, value in arguments if name != 'kwargs'}}
