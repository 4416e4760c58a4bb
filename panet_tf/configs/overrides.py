"""Which experiment a person asks for, and what is changed in it."""

from collections.abc import Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class Overrides:
  """The flags --experiment, --config_file and --params_override.

  Attributes:
    experiment: registered name, such as 'panet_coco'; '' takes the
      configuration that lies beside a checkpoint.
    config_files: YAML or JSON files, later ones win.
    params_override: YAML or JSON text, or a file; wins over the files.
  """
  experiment: str = ''
  config_files: Sequence[str] = ()
  params_override: str = ''


NONE = Overrides()  # A run as it was trained.
