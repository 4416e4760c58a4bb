"""`panet predict`: pictures and COCO results for a folder of images."""

import collections
import glob
import os
import pathlib
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
_PREDICTIONS = 'predictions.json'


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
    annotations: COCO JSON that gives each file name its image id, the one with
      most folders in common where several end alike; '' takes the file name as
      id.
    max_pictures: draw only the first so many; None draws all.

  Raises:
    InputError: before anything is written, for a checkpoint, image, annotation
      file or output folder that cannot be used.
  """
  paths = image_paths(images)
  _check_names(paths)
  names = _picture_names(paths)
  _check_output(output_dir, paths, [*names.values(), _PREDICTIONS])
  for path in paths:
    image_bytes.read_rgb(path)
  ids = _image_ids(annotations, paths)
  predictor = predictor_lib.Predictor.from_checkpoint(
      checkpoint, experiment, config_files, params_override)
  files.make_folder(output_dir)
  results = []
  for number, path in enumerate(tqdm.tqdm(
      paths, unit='image', mininterval=1.0)):
    image = image_bytes.read_rgb(path)
    detections = predictor.detect(image)
    results += _results(detections, ids[path], image.shape, predictor)
    if max_pictures is None or number < max_pictures:
      _draw(image, detections, predictor, score_threshold,
            os.path.join(output_dir, names[path]))
  files.write_json(os.path.join(output_dir, _PREDICTIONS), results)
  print(f'{len(results)} detections in {len(paths)} images: {output_dir}')


def _check_names(paths):
  """Pictures and results go by file name."""
  seen = {}
  for path in paths:
    other = seen.setdefault(os.path.basename(path), path)
    if other != path:
      raise errors.InputError(
          f'images {other} and {path} have the same file name; predict one '
          'folder at a time, each with its own --output_dir')


def _check_output(output_dir, paths, names):
  """No picture may replace an image, not even one that is not predicted."""
  folders = {os.path.realpath(os.path.dirname(path)) for path in paths}
  folders |= {os.path.dirname(os.path.realpath(path)) for path in paths}
  if os.path.realpath(output_dir) in folders:
    raise errors.InputError(
        f'--output_dir {output_dir} holds the images, which pictures might '
        'replace; it should be another folder')
  for path in (os.path.join(output_dir, name) for name in names):
    if os.path.isdir(path):
      raise errors.InputError(f'{path}: is a folder; a file should go there')


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


def _picture_names(paths: List[str]) -> Dict[str, str]:
  """NAME.png, or NAME.jpg.png where that might be another image's, too."""
  names = [os.path.basename(path) for path in paths]
  stems = [os.path.splitext(name)[0] for name in names]
  taken = collections.Counter(stems + names)
  return {path: (stem if taken[stem] == 1 else name) + '.png'
          for path, name, stem in zip(paths, names, stems)}


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
  with files.written_whole(path) as temporary:
    Image.fromarray(np.asarray(picture)).save(temporary, 'png')
