"""COCO's metrics of a run by way of its predictions, image by image."""

import json

import numpy as np
from PIL import Image

from panet_tf.configs import overrides
from panet_tf.evaluation import coco
from panet_tf.inference import open_model


def predicted_metrics(run, override, folder):
  """What `--mode=eval` must give on the shards of `tiny.write_shards`.

  Args:
    run: folder of the training.
    override: of its configuration, a dictionary.
    folder: that the shards were written to.
  """
  truth = json.loads((folder / 'train.json').read_text())
  detector = open_model.open_model(
      str(run), overrides.Overrides(params_override=json.dumps(override)))
  results = []
  for image in truth['images']:
    pixels = Image.open(folder / 'train_images' / image['file_name'])
    results += detector.detect(np.array(pixels.convert('RGB'))).to_coco(
        image['id'], [category['id'] for category in truth['categories']])
  return coco.coco_metrics(
      truth, results, include_mask=True, max_detections=10)
