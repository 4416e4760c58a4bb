"""Files of proposals: COCO results, records as `panet propose` writes, pickles.

Each reader yields (image id, boxes [n, 4] xyxy edges, scores [n]) of an image
at a time; boxes are in pixels of the image and end at edges. Nothing in a file
is trusted. No TensorFlow.
"""

import collections
import glob
import os

from google.protobuf import message
import numpy as np

from panet_tf import errors
from panet_tf import safe_pickle
from panet_tf.data import coco_json
from panet_tf.data import coco_results
from panet_tf.data import tfrecord_file

_EDGES = 'xmin', 'ymin', 'xmax', 'ymax'
# Names in pickles, of which a file has one.
_IDS = 'ids', 'indexes'
_SCORES = 'scores', 'objectness_logits'


def images(path):
  """Yields what a .json, a .pkl, a .tfrecord or a glob of these has.

  InputError names the file, and the image or field that is wrong.
  """
  readers = {'.json': _of_json, '.pkl': _of_pickle, '.tfrecord': _of_records}
  ending = os.path.splitext(path)[1].lower()
  if ending not in readers:
    raise errors.InputError(f'proposals {path!r} should be a file that ends in '
                            f'{", ".join(readers)}')
  found = [path] if os.path.isfile(path) else (
      sorted(glob.glob(path)) if ending == '.tfrecord' else [])
  if not found:
    raise errors.InputError(
        f'proposals {path!r}: there is no such file; `panet propose` writes it')
  for file in found:
    yield from readers[ending](file)


def _of_json(path):
  """COCO results; `category_id` may be missing and is not looked at."""
  of_image = collections.defaultdict(list)
  for result in coco_results.load_results(path, boxes_only=True):
    of_image[result['image_id']].append([*result['bbox'], result['score']])
  for image_id, rows in of_image.items():
    rows = np.array(rows, np.float64)
    rows[:, 2:4] += rows[:, :2]
    yield image_id, rows[:, :4], rows[:, 4]


def record(image_id, height, width, boxes, scores):
  """One image's proposals as the bytes of a .tfrecord file, framed.

  The id, int or str, is written as text. Boxes are [n, 4] yxyx edges in pixels
  of the image, of which there are `height` and `width`; scores [n].
  """
  y1, x1, y2, x2 = np.asarray(boxes, np.float64).reshape(-1, 4).T
  columns = x1 / width, y1 / height, x2 / width, y2 / height
  return tfrecord_file.frame(tfrecord_file.serialize({
      'image/source_id': [str(image_id).encode()],
      'image/height': [height],
      'image/width': [width],
      'image/proposal/score': np.asarray(scores, np.float32),
      **{f'image/proposal/bbox/{edge}': column.astype(np.float32)
         for edge, column in zip(_EDGES, columns, strict=True)}}))


def _of_records(path):
  for data in tfrecord_file.records(path):
    try:
      features = tfrecord_file.parse(data)
      image_id, = features['image/source_id']
      height, = features['image/height']
      width, = features['image/width']
      columns = [np.array(features.get(f'image/proposal/{name}', ()), float)
                 for name in (*(f'bbox/{edge}' for edge in _EDGES), 'score')]
      boxes = np.stack(columns[:4], 1) * np.array([width, height] * 2, float)
      yield image_id.decode(), boxes, columns[4]
    except (message.DecodeError, LookupError, TypeError, ValueError,
            AttributeError) as e:
      raise errors.InputError(f'{path}: holds a record that is not of `panet '
                              f'propose` ({e!r:.80})') from e


def _of_pickle(path):
  """Detectron's files, or Detectron2's.

  Detectron's have 'boxes', 'scores' and 'ids' (once 'indexes'), and boxes that
  end on the index of their last pixel. Detectron2's have 'objectness_logits',
  'bbox_mode' (0 is xyxy, 1 xywh), and boxes that end at edges.
  """
  with open(path, 'rb') as f:
    size = os.fstat(f.fileno()).st_size
    tree = safe_pickle.load(safe_pickle.Reader(f, path), path)
  if not isinstance(tree, dict):
    raise errors.InputError(f'{path}: holds a {type(tree).__name__}, should be '
                            'a dictionary of boxes, scores and ids')
  ids, boxes, scores = (
      _list(path, tree, names) for names in (_IDS, ('boxes',), _SCORES))
  if not len(ids) == len(boxes) == len(scores):
    raise errors.InputError(
        f'{path}: has {len(ids)} ids, {len(boxes)} lists of boxes and '
        f'{len(scores)} of scores, should be as many')
  mode = tree.get('bbox_mode', 0)
  if type(mode) is not int or mode not in (0, 1):
    raise errors.InputError(f'{path}: bbox_mode is {mode!r:.40}, should be 0 '
                            '(x1, y1, x2, y2) or 1 (x, y, width, height)')
  past_the_last = 1 if 'scores' in tree else 0
  for image_id, *arrays in zip(ids, boxes, scores, strict=True):
    image_id = _id(path, image_id)
    xyxy, score = (_numbers(path, image_id, array) for array in arrays)
    # One array of a pickle may stand in it a million times.
    size -= xyxy.nbytes + score.nbytes
    if size < 0:
      raise errors.InputError(f'{path}: names the same boxes again and again; '
                              'should have boxes of its own for each image')
    xyxy = xyxy.astype(np.float64) if xyxy.size else np.zeros([0, 4])
    if xyxy.shape[1:] == (4,):  # Else there is one line about it, later.
      xyxy[:, 2:] += past_the_last + mode * xyxy[:, :2]
    yield image_id, xyxy, score.reshape(-1)


def _list(path, tree, names):
  """The list under the one of these names that a dictionary has."""
  for name in names:
    if name in tree:
      value = safe_pickle.plain(tree[name])
      if isinstance(value, np.ndarray):
        value = list(value)
      if isinstance(value, (list, tuple)):
        return value
      raise errors.InputError(f'{path}: {name} is a {type(value).__name__}, '
                              'should be a list with one entry for each image')
  raise errors.InputError(f'{path}: has no {names[0]}; should be proposals of '
                          'Detectron: boxes, scores and ids')


def _id(path, value):
  value = value.item() if isinstance(value, np.generic) else value
  if not coco_json.is_id(value):
    raise errors.InputError(f'{path}: {value!r:.60} is not the id of an image')
  return value


def _numbers(path, image_id, value):
  value = safe_pickle.plain(value)
  if isinstance(value, np.ndarray) and value.dtype.kind in 'iuf':
    return value
  raise errors.InputError(
      f'{path}: image {image_id!r}: boxes and scores should be arrays of '
      f'numbers; one is a {type(value).__name__}')
