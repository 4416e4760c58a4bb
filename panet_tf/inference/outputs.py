"""What is written of an image's detections: COCO results and a picture.

`panet predict` and `panet serve-client` write the same.
"""

from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
from PIL import Image

from panet_tf import files
from panet_tf import visualize
from panet_tf.evaluation import coco_results
from panet_tf.inference import detections as detections_lib


def results(found: Mapping[str, np.ndarray], image_id: Any, height: int,
            width: int, category_ids: Sequence[int]) -> List[Dict[str, Any]]:
  """COCO results of one image.

  Args:
    found: see `detections.Detector.detect`.
    image_id: of the data set, or a file name.
    height: of the image, pixels.
    width: of the image, pixels.
    category_ids: of label 1, 2, and so on.
  """
  rles = (detections_lib.image_rles(found, height, width)
          if 'detection_masks' in found else None)
  return coco_results.detections_to_results(
      image_id, found['detection_boxes'], found['detection_scores'],
      found['detection_classes'], rles, category_ids)


def draw(image: np.ndarray, found: Mapping[str, np.ndarray],
         names: Mapping[int, str], score_threshold: float, path: str):
  """Draws detections into a PNG file, written whole or not at all.

  Args:
    image: [H, W, 3] uint8, RGB.
    found: see `detections.Detector.detect`.
    names: of the classes in `found`.
    score_threshold: detections below it are not drawn.
    path: of the file.

  Raises:
    InputError: the file cannot be written.
  """
  keep = found['detection_scores'] >= score_threshold
  shown = {name: array[keep] for name, array in found.items()}
  if 'detection_masks' in shown:
    shown['detection_masks'] = detections_lib.image_masks(
        shown, *image.shape[:2])
  picture = visualize.draw_detections(image, shown, names, score_threshold)
  with files.written_whole(path) as temporary:
    Image.fromarray(np.asarray(picture)).save(temporary, 'png')
