"""COCO's 80 categories in the order of their ids, which have gaps.

Classes of the released models are their places in this order, from 1 on.
https://cocodataset.org/#format-data (instances_val2017.json, `categories`)
"""

import os
from typing import Any

from panet_tf import files

CATEGORIES = {int(category_id): name for category_id, name in files.read_json(
    os.path.join(os.path.dirname(__file__), 'coco_categories.json')).items()}


def labelled() -> list[dict[str, Any]]:
  """{'label', 'id', 'name'} of each, as `dataset.json` has them."""
  return [{'label': label, 'id': category_id, 'name': name}
          for label, (category_id, name) in enumerate(CATEGORIES.items(), 1)]
