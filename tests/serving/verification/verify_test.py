"""What `verify` must find: every kind of difference, and damaged files."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.inference import open_model
from panet_tf.serving.verification import verify
from panet_tf.structures import box_masks
from panet_tf.structures import detections

_IMAGE = np.zeros((100, 120, 3), np.uint8)
_EXACT = verify.TOLERANCES['saved_model']
_CLOSE = verify.TOLERANCES['tflite']


class Fixed:
  """A predictor that has the detections of each image in order."""

  def __init__(self, *detections):
    self._detections = list(detections)

  def detect(self, image):
    del image
    return self._detections.pop(0)


def _scene(num=4):
  """Detections far from each other, of two classes, scores 0.9, 0.8, ..."""
  low = np.array([[5 + 20 * i, 7 + 25 * i] for i in range(num)], np.float32)
  masks = np.zeros((num, 28, 28), np.float32)
  masks[:, 2:26, 2:26] = 0.9
  boxes = np.concatenate([low, low + 18.0], 1)
  return detections.Detections(
      boxes, np.float32(0.9 - 0.1 * np.arange(num)),
      np.arange(num, dtype=np.int32) % 2 + 1, _IMAGE.shape[:2],
      box_masks.BoxMasks(masks, boxes, _IMAGE.shape[:2]))


def _compare(*pairs, tolerance=_EXACT, **kwargs):
  """Figures of (reference, exported) detections, one pair per image."""
  references, exports = zip(*pairs, strict=True)
  return verify.compare(Fixed(*references), Fixed(*exports),
                        [_IMAGE] * len(pairs), tolerance, **kwargs)


def _with(key, index, change):
  """A scene with `change` added to one number."""
  scene = _scene()
  column = scene.masks.probabilities if key == 'masks' else getattr(scene, key)
  column[index] += change
  return scene


def test_figures_of_the_same_detections_in_another_order():
  figures = _compare((_scene(), _scene()[[2, 0, 3, 1]]))
  assert dataclasses.asdict(figures) == {
      'images': 1, 'compared': 'scores from 0.3', 'reference_detections': 4,
      'exported_detections': 4, 'matched_reference': 1.0,
      'matched_exported': 1.0, 'class_agreement': 1.0, 'box_iou_min': 1.0,
      'box_iou_mean': 1.0, 'mask_iou_min': 1.0, 'mask_iou_mean': 1.0,
      'score_difference': 0.0, 'box_difference': 0.0,
      'worst_image': dict.fromkeys([
          'matched_reference', 'matched_exported', 'class_agreement',
          'score_difference', 'box_difference', 'box_iou_min', 'mask_iou_min'],
                                   'image 0')}
  verify.check(figures, _EXACT, 'saved_model')


def test_figures_have_known_answers_over_images():
  other = _scene()
  other.boxes[1] += [0, 0, 0, 2]  # IoU 18 / 20.
  other.scores[2] -= 0.05
  other.masks.probabilities[3, 2:26, 2:8] = 0  # IoU 18 / 24.
  figures = _compare((_scene(), _scene()), (_scene(), other),
                     names=['a.jpg', 'b.jpg'])
  assert figures.images == 2 and figures.exported_detections == 8
  assert figures.matched_reference == figures.matched_exported == 5 / 8
  assert figures.box_iou_min == pytest.approx(0.9)
  assert figures.box_iou_mean == pytest.approx(7.9 / 8)
  assert figures.box_difference == pytest.approx(2)
  assert figures.mask_iou_min == pytest.approx(0.75)
  assert figures.score_difference == pytest.approx(0.05, abs=1e-6)
  assert figures.class_agreement == 1
  assert {name for name, image in figures.worst_image.items()
          if image == 'b.jpg'} == set(figures.worst_image) - {
              'class_agreement'}


@pytest.mark.parametrize('change, figure', [
    (_with('boxes', (2, 3), 0.0625), 'box_difference is 0.0625'),
    (_with('scores', 1, 2e-4), 'score_difference is 0.000'),
    (_with('masks', (0, 5, 5), -0.9), 'mask_iou_min is 0.998'),
    (_with('masks', (0, 0, 0), 0.9), 'mask_iou_min is 0.998'),
    (_with('labels', 3, 1), 'class_agreement is 0.875'),
    (_scene()[[0, 1, 3]], 'matched_reference is 0.875'),
    (_scene(5), 'matched_exported is 0.888889'),
    (_scene()[[0, 1, 2, 3, 3]], 'matched_exported is 0.888889'),
    (_scene()[[]], 'matched_reference is 0.5 '),
], ids=['moved box', 'score', 'mask cell lost', 'mask cell won', 'class',
        'missing', 'invented', 'twice', 'all missing'])
def test_every_difference_is_found_in_its_image(change, figure):
  figures = _compare((_scene(), _scene()), (_scene(), change))
  with pytest.raises(verify.ExportMismatch) as e:
    verify.check(figures, _EXACT, 'saved_model')
  message = str(e.value)
  assert message.startswith('saved_model: ') and '\n' not in message
  assert figure in message
  assert all(part.endswith('(image 1)') for part in message.split('; '))
  assert isinstance(e.value, errors.InputError)


@pytest.mark.parametrize('change', [
    _with('boxes', (2, 3), 0.04), _with('scores', 1, 0.9e-4),
    _with('masks', (0, 5, 5), -0.3)])
def test_what_is_within_tolerance_passes(change):
  verify.check(_compare((_scene(), change)), _EXACT, 'saved_model')


def test_a_share_may_differ_where_the_tolerance_says_so():
  same = [(_scene(), _scene())] * 25  # 100 detections.
  far = _with('boxes', (0, 3), 0.2)  # IoU 0.989.
  verify.check(_compare(*same, (_scene(), far), tolerance=_CLOSE),
               _CLOSE, 'tflite')
  with pytest.raises(verify.ExportMismatch, match='box_iou_min is 0.989'):
    verify.check(_compare(*same, (_scene(), far), (_scene(), far),
                          tolerance=_CLOSE), _CLOSE, 'tflite')
  verify.check(_compare(*same, (_scene(), _scene(5)), tolerance=_CLOSE),
               _CLOSE, 'tflite')
  with pytest.raises(verify.ExportMismatch, match='matched_exported'):
    verify.check(_compare((_scene(), _scene(5)), tolerance=_CLOSE),
                 _CLOSE, 'tflite')


def _at(score):
  scene = _scene()[[0, 1]]
  scene.scores[1] = score
  return scene


@pytest.mark.parametrize('own, other', [
    (0.30004, 0.29996), (0.29996, 0.30004)])
def test_rounding_about_the_threshold_makes_nothing_missing(own, other):
  figures = _compare((_at(own), _at(other)))
  assert {figures.reference_detections, figures.exported_detections} == {1, 2}
  assert figures.matched_reference == figures.matched_exported == 1
  verify.check(figures, _EXACT, 'saved_model')


def test_a_counterpart_far_below_the_threshold_is_a_difference_of_scores():
  figures = _compare((_at(0.35), _at(0.1)))
  assert figures.matched_reference == 0.5
  assert figures.score_difference == pytest.approx(0.25)
  assert figures.matched_exported == 1  # Of the one above the threshold.


def test_scores_below_the_threshold_are_compared_if_there_are_no_others():
  weak = _scene()
  weak.scores *= 0.2
  figures = _compare((weak, weak))
  assert 'no score reaches 0.3' in figures.compared
  assert figures.reference_detections == 4
  verify.check(figures, _EXACT, 'saved_model')
  moved = dataclasses.replace(weak, boxes=weak.boxes + 1)
  with pytest.raises(verify.ExportMismatch):
    verify.check(_compare((weak, moved)), _EXACT, 'saved_model')


def test_only_the_best_20_of_each_image_are_compared_then():
  scores = np.linspace(0.2, 0.1, 40, dtype=np.float32)
  low = np.arange(40, dtype=np.float32)[:, np.newaxis] * 20
  many = detections.Detections(
      np.concatenate([low, low, low + 9, low + 9], 1), scores,
      np.ones(40, int), (900, 900))
  figures = _compare((many, many[:20]))
  assert figures.reference_detections == figures.exported_detections == 20
  assert figures.mask_iou_min is None
  verify.check(figures, _EXACT, 'saved_model')


def test_nothing_compared_is_not_proven():
  empty = _scene()[[]]
  figures = _compare((empty, empty), (empty, empty))
  with pytest.raises(verify.ExportMismatch, match='--verify_images must'):
    verify.check(figures, _EXACT, 'saved_model')
  with pytest.raises(verify.ExportMismatch, match='no image'):
    verify.compare(Fixed(), Fixed(), [], _EXACT)


def test_one_side_without_detections_fails_at_any_tolerance():
  empty = _scene()[[]]
  for pair in ((_scene(), empty), (empty, _scene())):
    for kind, tolerance in verify.TOLERANCES.items():
      with pytest.raises(verify.ExportMismatch):
        verify.check(_compare(pair, tolerance=tolerance), tolerance, kind)


@pytest.mark.parametrize('key', ['boxes', 'scores', 'masks'])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_a_number_that_is_none_fails(key, value):
  with pytest.raises(verify.ExportMismatch,
                     match=f'export on image 0: detection_{key} .*not finite'):
    _compare((_scene(), _with(key, -1, value)))


def test_masks_on_one_side_only_fail():
  scene = _scene()
  with pytest.raises(verify.ExportMismatch, match='only one of'):
    _compare((scene, dataclasses.replace(scene, masks=None)))


# Damaged files.


@pytest.fixture(name='kernel', scope='module')
def _kernel(tiny_run):
  """Weights of the class scores [24, 5], the only array of that shape."""
  reader = tf.train.load_checkpoint(os.path.join(tiny_run, 'ckpt-1'))
  names = [name for name, shape in reader.get_variable_to_shape_map().items()
           if shape == [24, 5]]
  assert len(names) == 1
  return reader.get_tensor(names[0])


def _one_weight(kernel):
  changed = kernel.copy()
  changed.flat[np.argmax(np.abs(kernel))] *= 3
  return changed


_DAMAGES = {'one weight': _one_weight, 'a whole kernel': np.zeros_like}


def _damage_file(path, kernel, changed):
  """Changes a weight where its bytes lie in a file."""
  with open(path, 'rb') as f:
    content = f.read()
  layouts = [(kernel, changed), (kernel.T, changed.T)]
  found = [[np.ascontiguousarray(array).tobytes() for array in pair]
           for pair in layouts]
  found = [(old, new) for old, new in found if content.count(old) == 1]
  assert len(found) == 1
  with open(path, 'wb') as f:
    f.write(content.replace(*found[0]))


def _damage_saved_model(folder, kernel, changed):
  """Writes all variables again, as their checksums want it."""
  prefix = os.path.join(folder, 'variables', 'variables')
  reader = tf.train.load_checkpoint(prefix)
  tensors = {name: reader.get_tensor(name)
             for name in reader.get_variable_to_shape_map()}
  names = [name for name, value in tensors.items()
           if np.array_equal(value, kernel)]
  assert len(names) == 1
  tensors[names[0]] = changed
  tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(tensors),
                    shape_and_slices=[''] * len(tensors),
                    tensors=list(tensors.values()))


@pytest.fixture(name='expected', scope='module')
def _expected(reference, images):
  """The checkpoint's detections of each image."""
  return [reference.detect(image) for image in images]


def _figures(expected, path, images, kind):
  tolerance = verify.TOLERANCES[kind]
  figures = verify.compare(
      Fixed(*expected), open_model.open_model(str(path)), images, tolerance)
  assert figures.reference_detections > 20
  return figures, tolerance, kind


@pytest.mark.parametrize('kind', ['tflite', 'onnx'])
def test_a_file_passes_until_a_weight_in_it_is_damaged(
    kind, request, expected, images, kernel, tmp_path):
  path = request.getfixturevalue(f'tiny_{kind}')
  verify.check(*_figures(expected, path, images, kind))
  for name, damage in _DAMAGES.items():
    copy = shutil.copy(path, tmp_path / f'{name}.{kind}')
    _damage_file(copy, kernel, damage(kernel))
    with pytest.raises(verify.ExportMismatch, match=f'^{kind}: the export'):
      verify.check(*_figures(expected, copy, images, kind))


def test_a_saved_model_passes_until_a_weight_in_it_is_damaged(
    tiny_saved_model, expected, images, kernel, tmp_path):
  verify.check(*_figures(expected, tiny_saved_model, images, 'saved_model'))
  copy = shutil.copytree(tiny_saved_model, tmp_path / 'copy')
  _damage_saved_model(copy, kernel, _one_weight(kernel))
  with pytest.raises(verify.ExportMismatch, match='^saved_model: the export'):
    verify.check(*_figures(expected, copy, images, 'saved_model'))


def test_a_saved_model_with_a_byte_changed_does_not_even_open(
    tiny_saved_model, kernel, tmp_path):
  copy = shutil.copytree(tiny_saved_model, tmp_path / 'copy')
  _damage_file(copy / 'variables' / 'variables.data-00000-of-00001',
               kernel, _one_weight(kernel))
  with pytest.raises(errors.InputError):
    open_model.open_model(str(copy))
