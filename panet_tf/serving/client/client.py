"""`panet serve-client`: a model behind TensorFlow Serving, asked and drawn.

Over REST it needs no TensorFlow, so that it runs where only the server has a
model.
"""

import dataclasses
import os
import sys

import numpy as np
import tqdm

from panet_tf import errors
from panet_tf import files
from panet_tf.data import image_bytes
from panet_tf.inference.exported import model_info
from panet_tf.prediction import image_files
from panet_tf.prediction import outputs
from panet_tf.serving.client import rest
from panet_tf.serving.client import wire

# What is sent, and the signature that takes it.
MODES = {'base64': 'image_bytes', 'tensor': 'image_tensor'}


def open_server(url: str, timeout: float):
  """The server behind a URL; InputError if it is none, or lacks TensorFlow.

  Args:
    url: http(s)://HOST:8501/v1/models/NAME (REST) or grpc://HOST:8500/NAME
      (gRPC), either with /versions/NUMBER or without.
    timeout: of a request, seconds.
  """
  if url.startswith('grpc://'):
    try:
      from panet_tf.serving.client import grpc
    except ImportError as e:
      raise errors.InputError(
          f'--url {url}: grpc:// needs tensorflow and tensorflow-serving-api '
          f'({e}); use http://') from e
    return grpc.GrpcServer(url, timeout)
  return rest.RestServer(url, timeout)


def run(url: str, images: str, output_dir: str, *, mode: str = 'base64',
        score_threshold: float = 0.5, labels: str = '',
        timeout: float = 60.0) -> int:
  """Asks for every image; draws the answers and writes predictions.json.

  An image without an answer is one line on stderr, and the others go on.

  Args:
    url: see `open_server`.
    images: folder or glob.
    output_dir: gets NAME.png per image, and predictions.json: COCO results
      with file names as image ids, the data set's category ids, RLE masks.
    mode: one of MODES: the encoded file, or its pixels, far more to send.
    score_threshold: least score that is drawn; predictions.json has all.
    labels: panet.json of the export, for the names of classes; '' draws ids.
    timeout: of a request, seconds.

  Returns:
    Exit code: 1 if an image has no answer.

  Raises:
    InputError: arguments that cannot be used, or a server that answers nothing.
  """
  server = open_server(url, timeout)
  names = _names(labels)
  paths = image_files.image_paths(images)
  pictures = image_files.picture_paths(paths, output_dir)
  files.make_folder(output_dir)
  results, failed = [], []
  for number, path in enumerate(tqdm.tqdm(
      paths, unit='image', mininterval=1.0)):
    try:
      data = image_bytes.upright_file(path)  # TensorFlow's decoder turns none.
      image = image_bytes.decode_rgb(data)
      found = wire.detections(server.predict(
          MODES[mode], image[np.newaxis] if mode == 'tensor' else [data]),
                              *image.shape[:2])
    except (errors.InputError, wire.RefusedError) as e:
      failed.append(path)
      where = f'{path}: ' if isinstance(e, wire.RefusedError) else ''
      tqdm.tqdm.write(f'error: {where}{e}', sys.stderr)
      continue
    except wire.NoServerError as e:
      if len(failed) == number:
        raise errors.InputError(str(e)) from e
      failed += paths[number:]
      tqdm.tqdm.write(f'error: {path} and what follows: {e}', sys.stderr)
      break
    # The answer has category ids where a predictor has labels.
    ids, index = np.unique(found.labels, return_inverse=True)
    results += dataclasses.replace(found, labels=index + 1).to_coco(
        os.path.basename(path), ids.tolist())
    outputs.draw(image, found, names, score_threshold, pictures[path])
  files.write_json(os.path.join(output_dir, image_files.PREDICTIONS), results)
  print(f'{len(results)} detections in {len(paths) - len(failed)} of '
        f'{len(paths)} images: {output_dir}')
  return 1 if failed else 0


def _names(labels: str) -> dict[int, str]:
  """Category id -> name; an answer has ids, which labels.txt does not know."""
  if not labels:
    return {}
  try:
    with open(labels, 'rb') as f:
      info = model_info.ModelInfo.read(f, f'--labels {labels}')
  except OSError as e:
    raise errors.InputError(
        f'--labels {labels}: {e.strerror}; it should be the '
        f'assets/{model_info.FILE} of the export') from e
  return {category['id']: category['name'] for category in info.categories}
