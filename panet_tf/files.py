"""Names of the files of a run, and writing JSON whole or not at all."""

import json
import os
from typing import Any

import yaml

PARAMS = 'params.yaml'
DATASET_INFO = 'dataset.json'  # Names and ids of the categories.


def read_json(path: str) -> Any:
  """Reads JSON."""
  with open(path, encoding='utf-8') as f:
    return json.load(f)


def write_json(path: str, value: Any):
  """Writes JSON under a temporary name and moves it into place."""
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  temporary = f'{path}.{os.getpid()}.tmp'
  with open(temporary, 'w', encoding='utf-8') as f:
    json.dump(value, f, indent=2)
    f.write('\n')
  os.replace(temporary, path)


def read_yaml(path: str) -> Any:
  """Reads a params.yaml; tuples are all that Model Garden adds to YAML."""

  class Loader(yaml.SafeLoader):
    pass

  Loader.add_constructor(
      'tag:yaml.org,2002:python/tuple',
      lambda loader, node: list(loader.construct_sequence(node)))
  with open(path, encoding='utf-8') as f:
    return yaml.load(f, Loader=Loader)
