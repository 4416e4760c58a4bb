"""`panet predict`: pictures and COCO results for a folder of images."""

import glob
import io
import os
from typing import Dict, List, Optional, Sequence

import numpy as np
from PIL import Image
import tqdm

from panet_tf import errors
from panet_tf import files
from panet_tf import visualize
from panet_tf.dataloaders import coco_json
from panet_tf.dataloaders import image_bytes
from panet_tf.evaluation import coco_results
from panet_tf.inference import predictor as predictor_lib
from panet_tf.ops import paste_masks

_ENDINGS = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.tif', '.tiff', '.webp')


def image_paths(images: str) -> List[str]:
  """Images of a folder, or of a glob, in order of name.

  Raises:
    InputError: if there are none.
  """
  if os.path.isdir(images):
    found = [os.path.join(images, name) for name in os.listdir(images)
             if name.lower().endswith(_ENDINGS)]
  else:
    found = [path for path in glob.glob(images) if os.path.isfile(path)]
  if not found:
    raise errors.InputError(
        f'--images {images!r} matches no image; it must be a folder with '
        f'images ({", ".join(_ENDINGS)}) or a quoted glob')
  return sorted(found)


def predict(checkpoint: str, images: str, output_dir: str, *,
            experiment: str = '', config_files: Sequence[str] = (),
            params_override: str = '', score_threshold: float = 0.5,
            annotations: str = '', max_pictures: Optional[int] = None):
  """Writes a picture per image and one predictions.json.

  Args:
    checkpoint: see `Predictor.from_checkpoint`, as the next three.
    images: folder or glob.
    output_dir: gets NAME.png per image, and predictions.json: COCO results
      with the dataset's category ids and full-image RLE masks.
    experiment: registered name.
    config_files: YAML files.
    params_override: YAML text.
    score_threshold: least score that is drawn; predictions.json has all.
    annotations: COCO JSON that gives each file name its image id; '' takes
      the file name as id.
    max_pictures: draw only the first so many; None draws all.

  Raises:
    InputError: before anything is written, for a checkpoint, image or
      annotation file that cannot be used.
  """
  paths = image_paths(images)
  for path in paths:
    image_bytes.read_rgb(path)
  ids = _image_ids(annotations, paths)
  predictor = predictor_lib.Predictor.from_checkpoint(
      checkpoint, experiment, config_files, params_override)
  os.makedirs(output_dir, exist_ok=True)
  names = _picture_names(paths)
  results = []
  for number, path in enumerate(tqdm.tqdm(
      paths, unit='image', mininterval=1.0)):
    image = image_bytes.read_rgb(path)
    detections = predictor.detect(image)
    results += _results(detections, ids[path], image.shape, predictor)
    if max_pictures is None or number < max_pictures:
      _draw(image, detections, predictor, score_threshold,
            os.path.join(output_dir, names[path]))
  files.write_json(os.path.join(output_dir, 'predictions.json'), results)
  print(f'{len(results)} detections in {len(paths)} images: {output_dir}')


def _image_ids(annotations: str, paths: List[str]) -> Dict[str, object]:
  """Image id of each path; a glob may also match images that have none."""
  if not annotations:
    return {path: os.path.basename(path) for path in paths}
  known = {os.path.basename(image['file_name']): image['id']
           for image in coco_json.read(annotations)['images']}
  for path in paths:
    if os.path.basename(path) not in known:
      raise errors.InputError(
          f'image {path} is not among the file names of {annotations}')
  return {path: known[os.path.basename(path)] for path in paths}


def _picture_names(paths: List[str]) -> Dict[str, str]:
  """NAME.png, or NAME.jpg.png where two images differ in their ending only."""
  stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
  return {
      path: (stem if stems.count(stem) == 1 else os.path.basename(path)
             ) + '.png' for path, stem in zip(paths, stems)}


def _results(detections, image_id, shape, predictor):
  height, width = shape[:2]
  boxes = detections['detection_boxes']
  masks = detections.get('detection_masks')
  rles = None if masks is None else paste_masks.encode_masks(
      masks, boxes, height, width)
  return coco_results.detections_to_results(
      image_id, boxes, detections['detection_scores'],
      detections['detection_classes'], rles,
      [category['id'] for category in predictor.categories])


def _draw(image, detections, predictor, score_threshold, path):
  keep = detections['detection_scores'] >= score_threshold
  shown = {key: value[keep] for key, value in detections.items()}
  if 'detection_masks' in shown:
    shown['detection_masks'] = [
        paste_masks.paste_mask(mask, box, *image.shape[:2]) for mask, box in
        zip(shown['detection_masks'], shown['detection_boxes'])]
  names = {c['label']: c['name'] for c in predictor.categories}
  picture = visualize.draw_detections(image, shown, names, score_threshold)
  encoded = io.BytesIO()
  Image.fromarray(np.asarray(picture)).save(encoded, 'png')
  with open(path + '.tmp', 'wb') as f:
    f.write(encoded.getvalue())
  os.replace(path + '.tmp', path)
