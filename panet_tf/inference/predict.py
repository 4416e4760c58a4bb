"""`panet predict`: pictures and COCO results for a folder of images."""

import collections
import os
import pathlib
from typing import Dict, List, Optional, Sequence

import tqdm

from panet_tf import errors
from panet_tf import files
from panet_tf.dataloaders import coco_json
from panet_tf.dataloaders import image_bytes
from panet_tf.inference import image_files
from panet_tf.inference import open_model
from panet_tf.inference import outputs


def predict(model: str, images: str, output_dir: str, *,
            experiment: str = '', config_files: Sequence[str] = (),
            params_override: str = '', score_threshold: float = 0.5,
            annotations: str = '', max_pictures: Optional[int] = None):
  """Writes a picture per image and one predictions.json.

  Args:
    model: checkpoint, SavedModel, .tflite or .onnx, see `open_model`, as the
      next three.
    images: folder or glob.
    output_dir: gets NAME.png per image, and predictions.json: COCO results
      with the dataset's category ids and full-image RLE masks.
    experiment: registered name.
    config_files: YAML files.
    params_override: YAML text.
    score_threshold: least score that is drawn; predictions.json has all.
    annotations: COCO JSON that gives each file name its image id, the one with
      most folders in common where several end alike; '' takes the file name as
      id.
    max_pictures: draw only the first so many; None draws all.

  Raises:
    InputError: before anything is written, for a model, image, annotation
      file or output folder that cannot be used.
  """
  paths = image_files.image_paths(images)
  pictures = image_files.picture_paths(paths, output_dir)
  for path in paths:
    image_bytes.read_rgb(path)
  ids = _image_ids(annotations, paths)
  predictor = open_model.open_model(
      model, experiment, config_files, params_override)
  names = {c['label']: c['name'] for c in predictor.categories}
  files.make_folder(output_dir)
  results = []
  for number, path in enumerate(tqdm.tqdm(
      paths, unit='image', mininterval=1.0)):
    image = image_bytes.read_rgb(path)
    detections = predictor.detect(image)
    results += outputs.results(
        detections, ids[path], *image.shape[:2],
        [category['id'] for category in predictor.categories])
    if max_pictures is None or number < max_pictures:
      outputs.draw(image, detections, names, score_threshold, pictures[path])
  files.write_json(os.path.join(output_dir, image_files.PREDICTIONS), results)
  print(f'{len(results)} detections in {len(paths)} images: {output_dir}')


def _image_ids(annotations: str, paths: List[str]) -> Dict[str, object]:
  """Image id of each path; a glob may also match images that have none."""
  if not annotations:
    return {path: os.path.basename(path) for path in paths}
  known = collections.defaultdict(list)
  for image in coco_json.read(annotations)['images']:
    known[os.path.basename(image['file_name'])].append(image)
  return {
      path: _image_of(path, known[os.path.basename(path)], annotations)['id']
      for path in paths}


def _image_of(path, candidates, annotations):
  """The image whose file name shares most folders with the path."""
  shared = lambda image: len(os.path.commonprefix([
      pathlib.PurePath(name).parts[::-1]
      for name in (os.path.abspath(path), image['file_name'])]))
  *others, best = sorted(candidates, key=shared) or [None]
  if not best:
    raise errors.InputError(
        f'image {path} is not among the file names of {annotations}')
  if others and shared(others[-1]) == shared(best):
    raise errors.InputError(
        f'image {path} may be {others[-1]["file_name"]} or '
        f'{best["file_name"]} of {annotations}; --images should have the '
        'folders that tell them apart')
  return best
