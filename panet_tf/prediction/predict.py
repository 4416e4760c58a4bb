"""`panet predict`: pictures and COCO results of images and videos."""

import collections
from collections.abc import Sequence
import itertools
import os
import sys
import time

import tqdm

from panet_tf import errors
from panet_tf import files
from panet_tf.configs import overrides as overrides_lib
from panet_tf.data import coco_json
from panet_tf.inference import detector as detector_lib
from panet_tf.inference import open_model
from panet_tf.inference.suite import tiles
from panet_tf.prediction import frames
from panet_tf.prediction import image_files
from panet_tf.prediction import outputs
from panet_tf.prediction import partial_results
from panet_tf.prediction import pipeline
from panet_tf.prediction.gallery import page


def predict(models: str | Sequence[str],
            images: str | Sequence[str], output_dir: str, *,
            overrides: overrides_lib.Overrides = overrides_lib.NONE,
            score_threshold: float = 0.5,
            annotations: str = '', max_pictures: int | None = None,
            batch_size: int = 1, tile: int = 0, overlap: int | None = None,
            strict: bool = False) -> int:
  """Writes a picture per image, a video per video and one predictions.json.

  Results are kept in OUTPUT_DIR/predictions.partial.jsonl until all are there.
  The same call goes on from there, and writes the same predictions.json as if
  it had never stopped. An image that fails is one line on stderr.

  Args:
    models: see `open_model.open_model`.
    images: folders, globs or files of images and videos, one or several.
    output_dir: gets NAME.png per image, NAME.mp4 per video, index.html with
      all pictures, and predictions.json: COCO results with the dataset's
      category ids and full-image RLE masks. A frame of a video has the id
      NAME.mp4/000000.
    overrides: of the configuration of checkpoints.
    score_threshold: least score that is drawn; predictions.json has all.
    annotations: COCO JSON that gives each file name its image id, see
      `image_files.image_ids`; its annotations are drawn beside the detections.
    max_pictures: draw only the first so many images and videos; None draws all;
      0 also writes no index.html.
    batch_size: images, or tiles of one, that the model gets at a time. Each so
      many of a folder belong together, whatever fails and when the run stops.
    tile: side of the tiles of a larger image, pixels; 0 takes whole images.
    overlap: of neighbouring tiles, pixels; None is an eighth of `tile`.
    strict: stop at the first image that fails.

  Returns:
    Exit code: 1 if an image failed.

  Raises:
    InputError: for a model, annotation file, option or output folder that
      cannot be used, before anything is written; or for an image, if strict.
  """
  paths = image_files.image_paths(images, videos=True)
  pictures = image_files.picture_paths(
      paths, output_dir, [partial_results.PARTIAL, page.PAGE])
  coco = coco_json.read(annotations) if annotations else {
      'images': [], 'annotations': []}
  ids = image_files.image_ids(paths, annotations, coco['images'])
  detector = _open(models, overrides, batch_size, tile, overlap)
  drawn = {path: pictures[path] for path in paths[:max_pictures]}
  files.make_folder(output_dir)
  with partial_results.PartialResults(
      os.path.join(output_dir, partial_results.PARTIAL), _identity(
          models, overrides, annotations, score_threshold=score_threshold,
          max_pictures=max_pictures, batch_size=batch_size, tile=tile,
          overlap=overlap,
          images=[[os.path.abspath(path), ids[path]] for path in paths]
      )) as partial, _progress(paths, partial.num_images) as progress:
    began = time.monotonic()
    # A tiled image may be huge: one at a time, and one ahead.
    with pipeline.PredictionRun(
        detector, partial, drawn, progress,
        truth=_truth(annotations, coco['annotations'], detector.categories),
        score_threshold=score_threshold, batch_size=1 if tile else batch_size,
        num_ahead=1 if tile else 2 * batch_size + 2, strict=strict) as run:
      for is_video, group in itertools.groupby(paths, image_files.is_video):
        if is_video:
          for path in group:
            run.video(path)
        else:
          run.images([(path, ids[path]) for path in group])
    seconds = time.monotonic() - began
    count = partial.finish(os.path.join(output_dir, image_files.PREDICTIONS))
  if drawn:
    _write_gallery(output_dir, {
        ids[path]: os.path.basename(pictures[path]) if path in drawn else None
        for path in paths if not image_files.is_video(path)},
                   detector.categories, score_threshold, coco)
  _report(run, count, output_dir, seconds)
  return 1 if run.num_failed else 0


def _open(models, overrides, batch_size, tile,
          overlap) -> detector_lib.Detector:
  """The model, or ensemble, on whole images or on tiles."""
  if batch_size < 1:
    raise errors.InputError(
        f'--batch_size is {batch_size}; it must be 1 or more')
  if overlap is not None and not tile:
    raise errors.InputError('--overlap goes with --tile')
  detector = open_model.open_model(models, overrides)
  if not tile:
    return detector
  return tiles.TiledDetector(
      detector, tile, tile // 8 if overlap is None else overlap, batch_size)


def _identity(models, overrides, annotations, **rest):
  """What must be the same for a run to go on."""
  of_files = partial_results.identity
  return {
      'models': of_files([models] if isinstance(models, str) else models),
      'experiment': overrides.experiment,
      'config_files': of_files(overrides.config_files),
      'params_override': overrides.params_override,
      'annotations': annotations and of_files([annotations]), **rest}


def _write_gallery(output_dir, pictures, categories, score_threshold, coco):
  """index.html, with AP and errors where the annotations allow it."""
  arguments = (
      output_dir, pictures,
      files.read_json(os.path.join(output_dir, image_files.PREDICTIONS)),
      {c['id']: c['name'] for c in categories}, score_threshold,
      {c['id']: c['label'] for c in categories})
  if coco['annotations']:
    try:
      page.write(*arguments, coco)
      return
    except errors.InputError as e:
      print(f'{page.PAGE} has no AP: {e}', file=sys.stderr)
  page.write(*arguments)


def _report(run, count, output_dir, seconds):
  print(f'{count} detections in {run.num_stored + run.num_predicted} images: '
        f'{output_dir} ({run.num_predicted / max(seconds, 1e-9):.1f} images/s)')
  if run.num_failed:
    total = run.num_failed + run.num_stored + run.num_predicted
    print(f'{run.num_failed} of {total} images failed', file=sys.stderr)


def _truth(path, annotations, categories):
  """Function from an image's id, height and width to what `outputs.draw` takes.

  It gives None if there are no annotations at all, but ids.
  """
  labels = {category['id']: category['label'] for category in categories}
  of_image = collections.defaultdict(list)
  for annotation in annotations:
    of_image[annotation['image_id']].append(annotation)

  def truth(image_id, height, width):
    if not annotations:
      return None
    try:
      return outputs.ground_truth(
          of_image.get(image_id, ()), height, width, labels)
    except errors.InputError as e:
      raise errors.InputError(f'{path}: {e}') from e

  return truth


def _progress(paths, num_done):
  """A bar that counts images, with a total where videos announce theirs."""
  totals = [frames.num_announced(path) if image_files.is_video(path) else 1
            for path in paths]
  return tqdm.tqdm(total=sum(totals) if all(totals) else None,
                   initial=num_done, unit='image', mininterval=1.0)
