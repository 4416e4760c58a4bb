"""Stored proposals: each file's format read right, or refused in one line."""

import json
import os
import pickle

import numpy as np
import pytest

from panet_tf import errors
from panet_tf.data import proposal_files
from panet_tf.data import tfrecord_file
from panet_tf.dataloaders import proposals

SIZE = {7: (40, 60), 9: (64, 48), 12: (10, 10)}  # Height, width.


def drawn(seed=0, counts=(5, 3, 0)):
  """{image id: (boxes [n, 4] yxyx of whole pixels, scores [n] descending)}."""
  rng = np.random.default_rng(seed)
  found = {}
  for (image_id, (height, width)), n in zip(SIZE.items(), counts, strict=False):
    start = rng.integers(0, [height // 2, width // 2], [n, 2])
    end = start + rng.integers(1, [height // 2, width // 2], [n, 2])
    found[image_id] = (np.concatenate([start, end], 1).astype(np.float32),
                       np.sort(rng.random(n, np.float32))[::-1])
  return found


def as_json(path, found):
  results = [
      {'image_id': image_id, 'category_id': 3, 'score': float(score),
       'bbox': [float(v) for v in (x1, y1, x2 - x1, y2 - y1)]}
      for image_id, (boxes, scores) in found.items()
      for (y1, x1, y2, x2), score in zip(boxes, scores, strict=True)]
  path.write_text(json.dumps(results[::-1]), encoding='utf-8')  # Worst first.


def as_records(path, found):
  path.write_bytes(b''.join(
      proposal_files.record(image_id, *SIZE[image_id], boxes, scores)
      for image_id, (boxes, scores) in found.items()))


def tree(found, ids='ids', scores='scores', inclusive=1, **fields):
  return {
      'boxes': [b[:, [1, 0, 3, 2]] - np.float32([0, 0, inclusive, inclusive])
                for b, _ in found.values()],
      scores: [s.copy() for _, s in found.values()], ids: list(found),
      'cfg': 'MODEL: {}', **fields}


def as_detectron(path, found, protocol=2):
  path.write_bytes(pickle.dumps(tree(found), protocol))


def as_old_detectron(path, found):
  """Bytes of Python 2, ids of NumPy."""
  value = tree(found, ids='indexes')
  value['indexes'] = [np.int64(i) for i in value['indexes']]
  path.write_bytes(pickle.dumps(value, 0))


def as_detectron2(path, found):
  path.write_bytes(pickle.dumps(tree(
      found, scores='objectness_logits', inclusive=0, bbox_mode=0)))


def as_detectron2_widths(path, found):
  value = tree(found, scores='objectness_logits', inclusive=0, bbox_mode=1)
  for boxes in value['boxes']:
    boxes[:, 2:] -= boxes[:, :2]
  path.write_bytes(pickle.dumps(value))


WRITERS = {
    '.json': as_json, '.tfrecord': as_records, 'd.pkl': as_detectron,
    'old.pkl': as_old_detectron, 'd2.pkl': as_detectron2,
    'wh.pkl': as_detectron2_widths}


@pytest.mark.parametrize('kind', WRITERS)
@pytest.mark.parametrize('most', [100, 2])
def test_every_kind_of_file_gives_the_same_boxes_best_first(
    kind, most, tmp_path):
  found = drawn()
  path = tmp_path / f'boxes{kind}'
  WRITERS[kind](path, found)
  read = proposals.read(str(path), most)
  for image_id, (boxes, _) in found.items():
    if kind == '.json' and not len(boxes):
      continue  # Nothing in the file names the image.
    assert read.of(image_id).dtype == np.float32
    np.testing.assert_allclose(read.of(image_id), boxes[:most], atol=1e-5)


def test_scores_decide_not_the_order_in_the_file(tmp_path):
  boxes = np.arange(16, dtype=np.float32).reshape(4, 4)
  boxes[:, 2:] += 5
  path = tmp_path / 'x.tfrecord'
  path.write_bytes(proposal_files.record(
      'a', 64, 64, boxes, np.float32([.1, .9, -3, .9])))
  np.testing.assert_allclose(
      proposals.read(str(path), 3).of('a'), boxes[[1, 3, 0]], rtol=1e-6)


def test_a_glob_reads_all_its_records(tmp_path):
  found = drawn()
  for image_id, one in found.items():
    as_records(tmp_path / f'part-{image_id}.tfrecord', {image_id: one})
  read = proposals.read(str(tmp_path / 'part-*.tfrecord'), 10)
  for image_id, (boxes, _) in found.items():
    np.testing.assert_allclose(read.of(image_id), boxes, rtol=1e-6)


# What is refused.


def refused(path, content, text):
  if isinstance(content, bytes):
    path.write_bytes(content)
  elif content is not None:
    path.write_text(content, encoding='utf-8')
  with pytest.raises(errors.InputError, match=text) as e:
    proposals.read(str(path), 10)
  assert '\n' not in str(e.value) and path.name in str(e.value)


GOOD = {'image_id': 1, 'bbox': [0, 0, 5, 5], 'score': .5}


@pytest.mark.parametrize('change, text', [
    ({'bbox': [0, 0, 5]}, 'result 0: bbox'),
    ({'bbox': [0, 0, '5', 5]}, 'result 0: bbox'),
    ({'bbox': None}, 'result 0: bbox'),
    ({'bbox': [0, 0, -5, 5]}, 'image 1: box 0.* ends before it begins'),
    ({'bbox': [0, 0, 1e300, 5]}, 'result 0: bbox'),
    ({'score': 'high'}, 'result 0: score'),
    ({'score': None}, 'result 0: score'),
    ({'image_id': 1.5}, 'result 0: image_id')])
def test_a_result_that_is_no_box_is_named(change, text, tmp_path):
  refused(tmp_path / 'x.json', json.dumps([{**GOOD, **change}]), text)


@pytest.mark.parametrize('content, text', [
    ('', 'not JSON'), ('{"a": 1}', 'holds a dict'), ('[3]', 'result 0'),
    ('[' * 100000, 'not JSON')])
def test_json_that_is_no_list_of_results(content, text, tmp_path):
  refused(tmp_path / 'x.json', content, text)


def test_ids_that_look_alike_are_not_mixed(tmp_path):
  refused(tmp_path / 'x.json', json.dumps([GOOD, {**GOOD, 'image_id': '1'}]),
          "image '1' is there twice")


@pytest.mark.parametrize('name, text', [
    ('x.csv', 'should be a file that ends in .json, .pkl, .tfrecord'),
    ('x.json', 'there is no such file'), ('x.pkl', 'there is no such file'),
    ('x-*.tfrecord', 'there is no such file')])
def test_a_file_that_is_none_of_these(name, text, tmp_path):
  refused(tmp_path / name, None, text)


def record(**changes):
  features = {
      'image/source_id': [b'a'], 'image/height': [10], 'image/width': [10],
      'image/proposal/score': np.float32([.5]), **{
          f'image/proposal/bbox/{edge}': np.float32([value]) for edge, value in
          (('xmin', 0), ('ymin', 0), ('xmax', 1), ('ymax', 1))}, **changes}
  return tfrecord_file.frame(tfrecord_file.serialize(features))


@pytest.mark.parametrize('content, text', [
    (record()[:-3], 'cut off'),
    (record() + record(), "image 'a' is there twice"),
    (record(**{'image/height': []}), 'not of `panet propose`'),
    (record(**{'image/source_id': [3]}), 'not of `panet propose`'),
    (record(**{'image/proposal/score': np.float32([1, 2])}), 'scores'),
    (record(**{'image/proposal/bbox/xmax': np.float32([1, 2])}),
     'not of `panet propose`'),
    (record(**{'image/proposal/bbox/xmax': np.float32([np.nan])}),
     'not of finite numbers'),
    (record(**{'image/proposal/score': np.float32([np.inf])}),
     'not of finite numbers')])
def test_records_that_are_no_proposals(content, text, tmp_path):
  refused(tmp_path / 'x.tfrecord', content, text)


class Hostile:
  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (self.path,)


@pytest.mark.parametrize('key', ['boxes', 'cfg'])
def test_code_in_a_pickle_does_not_run(key, tmp_path):
  trap = tmp_path / 'trap'
  value = tree(drawn(), **{key: Hostile(str(trap))})
  refused(tmp_path / 'x.pkl', pickle.dumps(value), 'mkdir, which could run')
  assert not trap.exists()


def test_a_truncated_pickle_is_one_line(tmp_path):
  whole = pickle.dumps(tree(drawn()))
  for end in (0, 1, 20, len(whole) // 2, len(whole) - 1):
    refused(tmp_path / 'x.pkl', whole[:end], 'damaged|truncated')


def test_one_array_for_a_million_images_is_refused(tmp_path):
  boxes, scores = np.zeros([1000, 4], np.float32), np.zeros(1000, np.float32)
  value = {'boxes': [boxes] * 10000, 'scores': [scores] * 10000,
           'ids': list(range(10000))}
  refused(tmp_path / 'x.pkl', pickle.dumps(value), 'again and again')


@pytest.mark.parametrize('change, text', [
    ({'boxes': 3}, 'boxes is a int'),
    ({'boxes': [[1, 2, 3, 4]] * 3}, 'image 7: boxes and scores should be'),
    ({'boxes': [np.zeros([2, 5])] * 3}, r'image 7: boxes are \[2, 5\]'),
    ({'boxes': [np.array(3.0)] * 3}, r'image 7: boxes are \[\]'),
    ({'boxes': []}, '3 ids, 0 lists of boxes and 3 of scores'),
    ({'boxes': [np.array(['a'])] * 3}, 'damaged|arrays of numbers'),
    ({'scores': [np.zeros([9])] * 3}, 'image 7: boxes are'),
    ({'ids': [7, 7, 7]}, 'image 7 is there twice'),
    ({'ids': [[7]] * 3}, 'not the id of an image'),
    ({'bbox_mode': 4}, 'bbox_mode is 4')])
def test_pickles_of_something_else(change, text, tmp_path):
  refused(tmp_path / 'x.pkl', pickle.dumps({**tree(drawn()), **change}), text)


@pytest.mark.parametrize('value, text', [
    ([1, 2], 'holds a list'), ({'blobs': {}}, 'has no ids'),
    ({'ids': []}, 'has no boxes')])
def test_pickles_without_proposals(value, text, tmp_path):
  refused(tmp_path / 'x.pkl', pickle.dumps(value), text)
