"""Claims about fitted anchors; the grid is checked against Model Garden's."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
from official.vision.ops import anchor as official_anchor
from official.vision.ops import iou_similarity
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.configs import canvases as canvases_lib
from panet_tf.configs import experiments
from panet_tf.data.anchors import boxes as boxes_lib
from panet_tf.data.anchors import grid as grid_lib
from panet_tf.data.anchors import search as anchors_lib
from panet_tf.dataloaders import factory as input_factory
from tests.support import tiny

Anchors, NetworkInput = anchors_lib.Anchors, anchors_lib.NetworkInput
SQUARE = NetworkInput((256, 256), 0, 0)


def random_boxes(height, width, number=600, seed=0):
  """Boxes [4, N] yxyx of all sizes and ratios; many touch the edges."""
  rng = np.random.default_rng(seed)
  image = np.array([[height], [width]])
  size = np.minimum(
      2**rng.uniform(0, 8, [1, number]) * 2**rng.uniform(-1, 1, [2, number]),
      image)
  corner = rng.uniform(-0.3, 1.3, [2, number]).clip(0, 1) * (image - size)
  return np.concatenate([corner, corner + size])


def write(path, boxes, height=256, width=256, **fields):
  """A COCO instances file with boxes [4, N] yxyx on one image."""
  annotations = [
      {'id': i, 'image_id': 1, 'category_id': 1, 'area': (y2 - y1) * (x2 - x1),
       'bbox': [x1, y1, x2 - x1, y2 - y1], 'iscrowd': 0} | fields
      for i, (y1, x1, y2, x2) in enumerate(boxes.T.tolist())]
  path.write_text(json.dumps({
      'images': [{'id': 1, 'file_name': 'a.png', 'height': height,
                  'width': width}],
      'annotations': annotations,
      'categories': [{'id': 1, 'name': 'thing'}]}))
  return str(path)


def on_the_grid(anchors, number=400, seed=0):
  """Boxes [4, N] equal to anchors of a 256 x 256 canvas, wholly inside it."""
  rng = np.random.default_rng(seed)
  boxes = []
  while len(boxes) < number:
    level = rng.integers(2, 6)
    shape = np.array(list(anchors.shapes(level)))
    shape = shape[rng.integers(len(shape))]
    centre = (rng.integers(0, 256 // 2**level, 2) + 0.5) * 2**level
    box = np.concatenate([centre - shape / 2, centre + shape / 2])
    if box.min() >= 0 and box.max() <= 256:
      boxes.append(box)
  return np.array(boxes).T


# IoU with the grid.


@pytest.mark.parametrize('canvas', [[128, 192], [256, 64]])
@pytest.mark.parametrize('anchors', [
    Anchors(), Anchors(3, (0.3, 1.1), 2.7), Anchors(2, (0.5, 1.0, 4.0), 13.0)])
def test_best_iou_is_that_of_all_of_model_garden_s_anchors(anchors, canvas):
  boxes = random_boxes(*canvas)
  grid = official_anchor.Anchor(
      2, 6, anchors.num_scales, anchors.aspect_ratios, anchors.anchor_size,
      canvas).multilevel_boxes
  grid = tf.concat([tf.reshape(level, [-1, 4]) for level in grid.values()], 0)
  expected = iou_similarity.IouSimilarity()(
      grid, boxes.T.astype(np.float32)).numpy().max(0)
  iou = grid_lib.best_iou(boxes, anchors)
  np.testing.assert_allclose(iou, expected, rtol=2e-4)
  for threshold in 0.5, 0.7:
    assert (iou >= threshold).sum() == (expected >= threshold).sum()
    assert 0 < (iou >= threshold).sum() < len(iou)


def test_anchors_and_canvas_are_those_of_the_parser():
  """A box equal to any anchor of the parser has IoU 1."""
  grid = tiny.parser().anchors()
  for level, boxes in grid.items():
    boxes = tf.reshape(boxes, [-1, 4]).numpy().T
    iou = grid_lib.best_iou(boxes, Anchors(anchor_size=4.0))
    np.testing.assert_allclose(iou, 1, rtol=1e-4, err_msg=level)


def test_box_of_exactly_half_an_anchor_is_found_at_half():
  boxes = np.array([[18.0, 10.0, 34.0, 42.0]]).T  # Lower half, 32 x 32 at 18.
  anchors = Anchors(1, (1.0,), 8.0)
  assert grid_lib.best_iou(boxes, anchors) == [0.5]
  np.testing.assert_array_equal(
      grid_lib.measures(np.array([0.5, 0.7, 0.3])), [2 / 3, 1 / 3, 0.5])


# Boxes as the network sees them.


@pytest.mark.parametrize('height, width', [(48, 64), (90, 41), (33, 33)])
@pytest.mark.parametrize('edges', [None, (40, 50)])
def test_boxes_are_scaled_as_the_parser_does(tmp_path, height, width, edges):
  example, _ = tiny.example(height=height, width=width, num_objects=4)
  size = np.array([height, width, height, width])
  path = write(tmp_path / 'a.json', (
      example['groundtruth_boxes'].numpy() * size).T, height, width)
  fields, network_input = {}, NetworkInput((tiny.SIZE, tiny.SIZE), 0, 0)
  if edges:
    fields = dict(short_edge=[edges[0]] * 2, long_edge=edges[1])
    network_input = NetworkInput((1, 1), *edges)
  _, labels = tiny.parser(**fields).parse_fn(True)(example)
  boxes, areas, *_ = boxes_lib.read_boxes(path, network_input)
  np.testing.assert_allclose(boxes.T, labels['gt_boxes'][:4], rtol=1e-4)
  canvas = canvases_lib.canvas_size(
      [tiny.SIZE] * 2, edges[1] if edges else 0)
  assert np.all(boxes[2:].max(1) <= canvas)
  expected = example['groundtruth_boxes'].numpy() * size
  np.testing.assert_allclose(  # Areas are of the original image.
      areas, np.prod(expected[:, 2:] - expected[:, :2], 1), rtol=1e-4)


def test_crowds_and_boxes_outside_are_left_out_and_counted(tmp_path):
  boxes = random_boxes(256, 256, 20)
  path = tmp_path / 'a.json'
  write(path, boxes)
  data = json.loads(path.read_text())
  data['annotations'][0]['iscrowd'] = 1
  data['annotations'][1]['bbox'] = [300, 300, 5, 5]
  data['annotations'][2]['bbox'] = [-10, 200, 40, 100]
  path.write_text(json.dumps(data))
  found, _, crowds, outside = boxes_lib.read_boxes(str(path), SQUARE)
  assert (found.shape, crowds, outside) == ((4, 18), 1, 1)
  np.testing.assert_array_equal(found[:, 0], [200, 0, 256, 30])
  text = str(anchors_lib.fit_dataset(str(path), network_input=SQUARE))
  assert 'a.json: 18 boxes; left out: 1 crowds, 1 outside' in text


def test_box_and_area_may_come_from_the_mask(tmp_path):
  path = tmp_path / 'a.json'
  write(path, np.zeros([4, 1]), bbox=None, area=None,
        segmentation=[[10, 20, 40, 20, 40, 80, 10, 80]])
  boxes, areas, *_ = boxes_lib.read_boxes(str(path), SQUARE)
  np.testing.assert_array_equal(boxes[:, 0], [20, 10, 80, 40])
  assert areas == [1800]


# The proposal.


@pytest.mark.parametrize('true', [
    Anchors(1, (0.4, 1.3), 5.0), Anchors(2, (0.5, 1.0, 3.2), 3.1)])
def test_anchors_that_made_the_boxes_are_found_again(tmp_path, true):
  path = write(tmp_path / 'a.json', on_the_grid(true))
  result = anchors_lib.fit_dataset(
      path, true.num_scales, len(true.aspect_ratios), network_input=SQUARE)
  found = result.anchors['proposed']
  np.testing.assert_allclose(found.anchor_size, true.anchor_size, rtol=0.03)
  np.testing.assert_allclose(
      found.aspect_ratios, true.aspect_ratios, rtol=0.03)
  count, row = result.table()['all']
  assert count == 400
  np.testing.assert_array_equal(row['proposed'][:2], [1, 1])
  assert row['default'][1] < 0.7


def test_clusters_are_the_means_of_groups_however_unequal():
  spread = np.random.default_rng(0).uniform(-0.1, 0.1, 570)
  values = np.repeat([-2, 0, 1.5], [50, 500, 20]) + spread
  means = [group.mean() for group in np.split(values, [50, 550])]
  np.testing.assert_allclose(anchors_lib.cluster(values, 3), means, atol=1e-9)


def test_as_many_anchors_are_no_worse_than_the_default(tmp_path):
  """Here the search from clusters alone ends lower than the default."""
  default = Anchors(1, (0.33, 0.66, 3.0), 5.0)
  path = write(tmp_path / 'a.json', np.concatenate(
      [on_the_grid(default, 60, 2), random_boxes(256, 256, 60, 2)], 1))
  score = {}
  for start in default, Anchors(num_scales=2):
    result = anchors_lib.fit_dataset(
        path, 1, 3, default=start, network_input=SQUARE)
    score[start] = grid_lib.measures(result.iou['proposed']).mean()
  boxes, *_ = boxes_lib.read_boxes(path, SQUARE)
  before = grid_lib.measures(grid_lib.best_iou(boxes, default)).mean()
  assert score[Anchors(num_scales=2)] < before <= score[default]


def test_no_gain_is_said_plainly(tmp_path):
  default = Anchors(1, (0.5, 1.0, 2.0), 4.0)
  path = write(tmp_path / 'a.json', on_the_grid(default))
  result = anchors_lib.fit_dataset(path, default=default, network_input=SQUARE)
  assert 'not better: keep the default' in result.verdict()
  assert result.verdict() in str(result)
  better = anchors_lib.fit_dataset(path, network_input=SQUARE).verdict()
  assert better == ('Better than the default: recall at 0.5, recall at 0.7, '
                    'mean IoU.')


def test_loss_is_said_beside_the_gain(tmp_path):
  path = write(tmp_path / 'a.json', random_boxes(256, 256, 30))
  result = dataclasses.replace(
      anchors_lib.fit_dataset(path, network_input=SQUARE),
      iou={'default': np.array([0.6, 0.6]), 'proposed': np.array([0.8, 0.3])})
  assert result.verdict() == ('Better than the default: recall at 0.7. Worse: '
                              'recall at 0.5, mean IoU.')


def test_sample_is_the_same_every_time_and_recall_is_of_all(
    tmp_path, monkeypatch):
  path = write(tmp_path / 'a.json', random_boxes(256, 256, 300))
  monkeypatch.setattr(anchors_lib, '_FITTED_BOXES', 50)
  first, second = (
      anchors_lib.fit_dataset(path, network_input=SQUARE) for _ in range(2))
  assert first.anchors == second.anchors and str(first) == str(second)
  assert 'fitted to a sample of 50;' in str(first)
  assert first.table()['all'][0] == len(first.iou['proposed']) == 300


def test_rows_are_coco_s_sizes_of_original_pixels(tmp_path):
  boxes = np.array([[0, 0, 31, 32], [0, 0, 32, 32], [0, 0, 64, 32],
                    [0, 0, 96, 96], [9, 9, 200, 209]]).T
  path = write(tmp_path / 'a.json', boxes)
  table = anchors_lib.fit_dataset(
      path, 1, 1, network_input=NetworkInput((64, 64), 0, 0)).table()
  assert {name: count for name, (count, _) in table.items()} == {
      'all': 5, 'small': 1, 'medium': 2, 'large': 2}


def test_nuclei_gain_much(shared_dir):
  path = shared_dir / 'data/nuclei/annotations/instances_val.json'
  if not path.is_file():
    pytest.skip(f'{path} is absent')
  result = anchors_lib.fit_dataset(str(path), network_input=SQUARE)
  _, row = result.table()['all']
  assert row['default'][0] < 0.2 and row['proposed'][0] > 0.75
  assert row['proposed'][1] > 3 * row['default'][1]


# The file, and the experiment.


def test_written_file_is_a_config_file(tmp_path):
  path = write(tmp_path / 'odd\nname.json', random_boxes(256, 256, 60))
  result = anchors_lib.fit_dataset(path, 2, 4, network_input=SQUARE)
  output = tmp_path / 'new' / 'anchors.yaml'
  result.write(str(output))
  params = experiments.read('panet_coco', [str(output)])
  proposed = result.anchors['proposed']
  anchor = params.task.model.anchor
  assert (anchor.num_scales, len(anchor.aspect_ratios)) == (2, 4)
  assert anchor.anchor_size == proposed.anchor_size
  assert tuple(anchor.aspect_ratios) == proposed.aspect_ratios
  assert anchors_lib.of_experiment(params)[0] == proposed
  _, row = result.table()['all']
  text = output.read_text()
  assert r'odd\nname.json: 60 boxes' in text and str(tmp_path) not in text
  assert (f'recall at 0.7: {row["default"][1]:.3f} by default, '
          f'{row["proposed"][1]:.3f} proposed') in text
  assert [p.name for p in output.parent.iterdir()] == ['anchors.yaml']


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = write(tmp_path / 'a.json', random_boxes(256, 256, 30))
  result = anchors_lib.fit_dataset(path, network_input=SQUARE)
  output = tmp_path / 'anchors.yaml'
  output.write_text('old')
  with monkeypatch.context() as m:
    m.setattr('os.replace', lambda *_: (_ for _ in ()).throw(
        OSError(28, 'No space left on device')))
    with pytest.raises(errors.InputError, match='anchors.yaml: No space left'):
      result.write(str(output))
  assert output.read_text() == 'old'
  with pytest.raises(
      errors.InputError, match='would overwrite the annotations'):
    result.write(path)
  with pytest.raises(errors.InputError, match='expected a f'):
    result.write(str(tmp_path))
  assert {p.name for p in tmp_path.iterdir()} == {'a.json', 'anchors.yaml'}


def test_experiments_give_their_anchors_and_evaluation_scale():
  anchors, network_input = anchors_lib.of_experiment(
      experiments.read('panet_coco'))
  assert (anchors, network_input) == (Anchors(), NetworkInput())
  anchors, network_input = anchors_lib.of_experiment(
      experiments.read('panet_shapes'))
  assert anchors == Anchors(anchor_size=4.0)
  assert network_input == NetworkInput((128, 128), 0, 0)


def with_canvases(*canvases):
  params = experiments.read('panet_coco')
  params.task.validation_data.parser.canvases = list(canvases)
  return params


@pytest.mark.parametrize('canvas', ['512x1024', '500x700', '1344x1344'])
def test_boxes_are_scaled_as_evaluation_does_on_its_canvas(canvas):
  params = with_canvases(canvas)
  _, network_input = anchors_lib.of_experiment(params)
  evaluation = input_factory.build_parser(
      params.task.model, params.task.validation_data)
  for height, width in (480, 640), (640, 480), (333, 1000):
    _, info = evaluation.eval_image(np.zeros([height, width, 3], np.uint8))
    assert network_input.scaled(height, width) == pytest.approx(
        tuple(info[1].numpy()), abs=1)


def test_canvas_is_told_and_an_odd_one_is_named():
  _, network_input = anchors_lib.of_experiment(with_canvases('500x700'))
  assert 'inside 512x704 (height x width)' in str(network_input)
  for canvases in ['500'], ['512x512', '512x1024']:
    with pytest.raises(
        errors.InputError, match='validation_data.parser.canvases'):
      anchors_lib.of_experiment(with_canvases(*canvases))


def test_options_replace_the_scale_of_the_experiment():
  paper = NetworkInput()
  assert paper.replaced() == paper
  assert paper.replaced('256,320') == NetworkInput((256, 320), 0, 0)
  assert paper.replaced(None, 600) == NetworkInput((1024, 1024), 600, 1000)
  assert SQUARE.replaced(None, 600, 900) == NetworkInput((256, 256), 600, 900)


@pytest.mark.parametrize('options, message', [
    (('256',), "input_size: '256', should be HEIGHT,WIDTH"),
    (('256,0',), 'should be HEIGHT,WIDTH'),
    (('256,-1',), 'should be HEIGHT,WIDTH'),
    (('256,' + '9' * 400,), 'should be HEIGHT,WIDTH'),
    (('256,256', 800), 'cannot go with short_edge'),
    ((None, 0), 'short_edge 0, long_edge 1000: both should be at least 1'),
    ((None, None, -4), 'long_edge -4'),
])
def test_odd_scales_are_named(options, message):
  with pytest.raises(errors.InputError, match=message):
    NetworkInput().replaced(*options)


def test_one_edge_needs_the_other():
  with pytest.raises(errors.InputError, match='long_edge 0: both'):
    SQUARE.replaced(None, 800)


@pytest.mark.parametrize('fields', [
    dict(num_scales=0), dict(aspect_ratios=()), dict(aspect_ratios=(1.0, -1.0)),
    dict(anchor_size=0.0)])
def test_odd_anchors_of_a_config_are_named(fields):
  with pytest.raises(errors.InputError, match='task.model.anchor: .* above 0'):
    Anchors(**fields)


@pytest.mark.parametrize('options, message', [
    ((0, 3), 'num_scales: 0, should be 1 to 10'),
    ((1, 0), 'num_ratios: 0, should be 1 to 10'),
    ((1, 10**9), 'num_ratios: 1000000000'),
    ((1, 3), 'num_ratios: 3, should be at most 1: the boxes have no more'),
])
def test_impossible_numbers_are_named(tmp_path, options, message):
  path = write(tmp_path / 'a.json', np.array([[8, 8, 40, 40]] * 5).T)
  with pytest.raises(errors.InputError, match=message):
    anchors_lib.fit_dataset(path, *options, network_input=SQUARE)


@pytest.mark.parametrize('change, message', [
    (lambda d: d.update(annotations=[]), 'a.json: no boxes'),
    (lambda d: d['annotations'][0].update(iscrowd=1), 'a.json: no boxes'),
    (lambda d: d['images'][0].pop('width'), 'image 1: `height` and `width`'),
    (lambda d: d['annotations'][0].update(bbox=[1, 2]),
     r'a.json: annotations\[0\] \(id 0\): `bbox`'),
    (lambda d: d['annotations'][0].update(bbox=None),
     'a.json: annotation 0: `bbox`'),
    (lambda d: d['annotations'][0].update(image_id=7), '`image_id` 7'),
])
def test_unusable_file_is_one_line(tmp_path, change, message):
  path = tmp_path / 'a.json'
  write(path, np.array([[8, 8, 40, 40]]).T)
  data = json.loads(path.read_text())
  change(data)
  path.write_text(json.dumps(data))
  with pytest.raises(errors.InputError, match=message) as e:
    anchors_lib.fit_dataset(str(path), 1, 1, network_input=SQUARE)
  assert '\n' not in str(e.value)


def test_absent_file_is_one_line(tmp_path):
  with pytest.raises(errors.InputError, match='none.json: No such file'):
    anchors_lib.fit_dataset(str(tmp_path / 'none.json'))


def test_tensorflow_is_not_loaded():
  program = ('import sys, panet_tf.data.anchors.search\n'
             'print({"tensorflow", "official"} & set(sys.modules))')
  result = subprocess.run([sys.executable, '-c', program], check=True,
                          capture_output=True, text=True, env={
                              'PYTHONPATH': ':'.join(sys.path)})
  assert result.stdout.strip() == 'set()'
