"""Of Model Garden's configuration of decoders."""

import dataclasses

from official.modeling import hyperparams
from official.vision.configs import decoders


def add(name: str, options: type[hyperparams.Config]):
  """Makes `decoder: {type: <name>, <name>: ...}` known to all its models.

  They look `decoders.Decoder` up whenever a configuration is made; there is no
  registry for the types of a one-of config. `options` have a default for each.
  """
  decoders.Decoder = dataclasses.make_dataclass(
      'Decoder', [(name, options, dataclasses.field(default_factory=options))],
      bases=(decoders.Decoder,))
