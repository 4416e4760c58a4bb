"""Copies and models put together, beside one run of one model."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import yaml

from panet_tf import errors
from panet_tf import runs as runs_lib
from panet_tf.configs import inference as inference_config
from panet_tf.configs import overrides as overrides_lib
from panet_tf.inference import open_model
from panet_tf.inference import preprocessing
from panet_tf.inference.suite import ensemble
from panet_tf.inference.suite import mask_voting
from panet_tf.inference.suite import merging
from panet_tf.inference.suite import stages
from panet_tf.inference.suite import views as views_lib
from panet_tf.inference.suite import voting
from panet_tf.structures import box_masks
from panet_tf.structures import detections
from panet_tf.structures import mask_windows
from panet_tf.training import loop
from tests.support import graph_outputs
from tests.support import predicted_metrics
from tests.support import tiny
from tests.support import tiny_run as tiny_run_lib


@pytest.fixture(scope='module')
def other_run(tmp_path_factory):
  """Another model of the same data set, with other proposals."""
  return tiny_run_lib.write_run(
      tmp_path_factory.mktemp('other_run'), tiny.params(box_head='2fc'))


@pytest.fixture(scope='module')
def box_run(tmp_path_factory):
  """A model without masks."""
  return tiny_run_lib.write_run(
      tmp_path_factory.mktemp('box_run'), tiny.params(include_mask=False))


_LOADED = {}


@pytest.fixture(scope='module', autouse=True)
def forget():
  """The models' memory is free again for the rest of the session."""
  yield
  _LOADED.clear()


@pytest.fixture(autouse=True)
def loads(monkeypatch):
  """Builds each model once; returns the list of paths that were asked for."""
  load, asked = stages.Stages.from_run, []

  def from_run(run):
    asked.append(run.checkpoint)
    # What is done with boxes and scores is not a matter of the stages.
    key = run.checkpoint, str(
        run.model_config.as_dict() | {'detection_generator': None})
    if key not in _LOADED:
      _LOADED[key] = load(run)
    return _LOADED[key]

  monkeypatch.setattr(stages.Stages, 'from_run', from_run)
  return asked


def _open(runs, **options):
  return open_model.open_model(
      runs, overrides_lib.Overrides(
          params_override=json.dumps({'task': {'inference': options}})))


def _rule(run):
  return preprocessing.Preprocessing.of_parser(run.parser)


def _assert_same(found, wanted):
  assert len(wanted) and found.image_size == wanted.image_size
  assert isinstance(found.masks, type(wanted.masks))
  found = graph_outputs.of(found)
  for key, value in graph_outputs.of(wanted).items():
    assert found[key].dtype == value.dtype
    np.testing.assert_array_equal(found[key], value, key)


@pytest.mark.parametrize('options', [
    {}, {'scales': [1]}, {'scales': [64], 'long_edge': 64},
    {'feature_cache_gib': 0}, {'ensemble_merge': 'voting'}])
def test_one_copy_and_one_model_is_the_plain_model(
    tiny_run, reference, images, options):
  member = runs_lib.Run.read(tiny_run, overrides_lib.Overrides(
      params_override=json.dumps({'task': {'inference': options}})))
  detector = ensemble.Ensemble([member])
  for image in images:
    _assert_same(detector.detect(image), reference.detect(image))


@pytest.mark.parametrize('options', [{}, {'ensemble_merge': 'voting'}])
@pytest.mark.parametrize('count', [2, 3])
def test_an_ensemble_of_a_model_with_itself_is_that_model(
    tiny_run, reference, images, options, count):
  detector = _open([tiny_run] * count, **options)
  for image in images[:2]:
    _assert_same(detector.detect(image), reference.detect(image))


def test_a_mirrored_copy_is_the_mirrored_image(tiny_run, images):
  run = runs_lib.Run.read(tiny_run)
  steps = stages.Stages.from_run(run)
  image = images[2]
  rule = _rule(run)
  plain, flipped = views_lib.views(
      inference_config.Inference(flip=True), image.shape[:2], rule)
  found = []
  for view, pixels in ((flipped, image), (plain, image[:, ::-1])):
    features = steps.features(pixels, view)
    proposals = steps.propose(features)
    boxes, scores = steps.classify(features, proposals)
    masks = steps.segment(features, proposals[:5], np.arange(1, 6) % 4 + 1)
    found.append((proposals, boxes, scores, masks))

  def mirrored(boxes):
    return np.stack(
        [boxes[..., 0], image.shape[1] - boxes[..., 3],
         boxes[..., 2], image.shape[1] - boxes[..., 1]], -1)

  for i in (0, 1):
    np.testing.assert_allclose(
        found[0][i], mirrored(found[1][i]), rtol=0, atol=1e-4)
  np.testing.assert_array_equal(found[0][2], found[1][2])
  np.testing.assert_array_equal(found[0][3], found[1][3][..., ::-1])


def test_two_models_are_the_mean_over_the_firsts_proposals(
    tiny_run, other_run, box_run, images):
  """Stage by stage, by hand; the third model has no masks."""
  runs = [tiny_run, other_run, box_run]
  members = [runs_lib.Run.read(run) for run in runs]
  parts = [stages.Stages.from_run(member) for member in members]
  image = images[3]
  (view,) = views_lib.views(
      inference_config.Inference(), image.shape[:2], _rule(members[0]))
  features = [part.features(image, view) for part in parts]
  proposals = parts[0].propose(features[0])
  classified = [part.classify(f, proposals)
                for part, f in zip(parts, features, strict=True)]
  boxes = sum(np.float64(boxes) for boxes, _ in classified) / 3
  scores = sum(np.float64(scores) for _, scores in classified) / 3
  wanted = stages.Suppression(members[0].params.task.model)(
      boxes, np.float32(scores), view)
  masks = sum(np.float64(part.segment(f, wanted.boxes, wanted.labels))
              for part, f in zip(parts[:2], features[:2], strict=False)) / 2
  found = _open([tiny_run, other_run, box_run]).detect(image)
  np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=0, atol=1e-4)
  np.testing.assert_allclose(found.scores, wanted.scores, rtol=0, atol=1e-6)
  np.testing.assert_array_equal(found.labels, wanted.labels)
  np.testing.assert_allclose(
      found.masks.probabilities, masks, rtol=0, atol=1e-5)


def test_masks_of_copies_are_averaged(tiny_run, images):
  """Every copy is asked for the masks of the merged boxes."""
  image = images[1]
  found = _open(tiny_run, flip=True, scales=[1, 1.5]).detect(image)
  run = runs_lib.Run.read(tiny_run)
  part = stages.Stages.from_run(run)
  views = views_lib.views(
      inference_config.Inference(scales=[1, 1.5], flip=True),
      image.shape[:2], _rule(run))
  assert len(views) == 4
  masks = [part.segment(part.features(image, view), found.boxes, found.labels)
           for view in views]
  assert np.ptp(masks, 0).max() > 0.1  # The copies do differ.
  np.testing.assert_allclose(found.masks.probabilities, np.mean(
      np.float64(masks), 0), rtol=0, atol=1e-4)


@pytest.mark.parametrize('options', [
    {'one_model_at_a_time': True}, {'feature_cache_gib': 0.0},
    {'feature_cache_gib': 0.0001}])
def test_saving_memory_changes_nothing(
    tiny_run, box_run, images, options, loads):
  suite = {'flip': True, 'mask_voting': True}
  wanted = _open([tiny_run, box_run], **suite).detect_many(images[:2])
  loads.clear()
  detector = _open([tiny_run, box_run], **suite, **options)
  assert len(loads) == (0 if 'one_model_at_a_time' in options else 2)
  found = detector.detect_many(images[:2])
  # Each for boxes, and the one with masks for those.
  assert len(loads) == (3 if 'one_model_at_a_time' in options else 2)
  for one, other in zip(found, wanted, strict=False):
    assert isinstance(one.masks, mask_windows.MaskWindows)
    _assert_same(one, other)


def test_images_of_several_sizes_are_each_as_alone(tiny_run, images):
  detector = _open(tiny_run, flip=True, box_voting=True)
  for found, image in zip(detector.detect_many(images), images, strict=False):
    _assert_same(found, detector.detect(image))


def _suite_by_hand(run, image):
  """Each copy's detections with masks, and their voters."""
  member = runs_lib.Run.read(run)
  part = stages.Stages.from_run(member)
  config = member.model_config
  sources, voters, masks = [], [], []
  for view in views_lib.views(
      inference_config.Inference(flip=True), image.shape[:2], _rule(member)):
    features = part.features(image, view)
    classified = part.classify(features, part.propose(features))
    threshold = config.detection_generator.pre_nms_score_threshold
    voters.append(merging.candidates(*classified, threshold, view.image_size))
    sources.append(stages.Suppression(config)(*classified, view))
    masks.append(part.segment(
        features, sources[-1].boxes, sources[-1].labels))
  union = detections.Detections.concatenate(sources)
  union.masks = box_masks.BoxMasks(
      np.concatenate(masks), union.boxes, union.image_size)
  return union, detections.Detections.concatenate(voters)


def test_the_whole_suite_step_by_step(tiny_run, images):
  image = images[1]
  options = dict(flip=True, box_voting=True, box_voting_iou=0.6,
                 mask_voting=True, tighten_boxes=True, max_detections=7)
  found = _open(tiny_run, **options).detect(image)
  union, crowd = _suite_by_hand(tiny_run, image)
  kept = voting.non_max_suppression(union, 0.5)[:7]
  best = union[kept]
  voted = voting.box_voting(
      best, crowd, iou_threshold=0.6, scoring='identity', beta=1.0)
  windows = mask_voting.mask_voting(union, kept)
  tight = voting.tighten(dataclasses.replace(
      voted, boxes=np.float32(voted.boxes), masks=windows)).boxes
  assert not np.array_equal(voted.boxes, best.boxes)
  assert not np.array_equal(tight, np.float32(voted.boxes))
  # The best 7 of all are among the best 7 of each copy.
  np.testing.assert_array_equal(found.scores, voted.scores)
  np.testing.assert_array_equal(found.boxes, tight)
  np.testing.assert_array_equal(found.masks.images(), windows.images())


def test_scores_that_voting_changes_are_in_order(tiny_run, images):
  found = _open(tiny_run, flip=True, box_voting=True, box_voting_iou=0.3,
                box_voting_scoring='average').detect(images[0])
  scores = found.scores
  assert np.all(np.diff(scores) <= 0) and len(np.unique(scores)) > 3
  plain = _open(tiny_run, flip=True).detect(images[0])
  assert not np.array_equal(scores, plain.scores)


@pytest.mark.parametrize('method', ['linear', 'gaussian'])
def test_soft_nms_keeps_what_suppression_drops(
    tiny_run, reference, images, method):
  image = images[0]
  hard = reference.detect(image)
  soft = _open(tiny_run, soft_nms=method, max_detections=50).detect(image)
  assert len(soft) > len(hard)
  assert soft.scores[0] == hard.scores[0]
  assert np.all(np.diff(soft.scores) <= 0)


def test_thresholds_are_those_asked_for(tiny_run, reference, images):
  plain = reference.detect(images[0])
  scores = plain.scores
  threshold = float(scores[4])
  for count, options in ((3, {'max_detections': 3}), (4, {}), (4, {
      'scales': [1]})):
    found = _open(tiny_run, score_threshold=threshold, **options).detect(
        images[0])
    # Another number of rows may round the products of the mask head otherwise.
    np.testing.assert_allclose(
        found.masks.probabilities, plain.masks.probabilities[:count],
        rtol=0, atol=1e-5)
    found.masks = plain.masks[:count]
    _assert_same(found, plain[:count])


@pytest.mark.parametrize('options,reason', [
    ({'scales': [20]}, 'task.inference.scales has 20; a scale must be 0.1 to '
     '10'),
    ({'scales': [2000]}, 'scales has 2000;.*long_edge, 1400'),
    ({'scales': ['big']}, "scales has 'big'"),
    ({'soft_nms': 'hard'}, "task.inference.soft_nms is 'hard'; it must be one "
     'of linear, gaussian'),
    ({'box_voting_scoring': 'sum'}, "box_voting_scoring is 'sum'; it must be "
     'one of identity'),
    ({'ensemble_merge': 'max'}, 'ensemble_merge'),
    ({'mask_voting_iou': 1.5}, 'mask_voting_iou is 1.5; it must be 0 to 1'),
    ({'max_detections': 0}, 'max_detections is 0; it must be 1 to'),
    ({'score_threshold': -0.1}, 'score_threshold is -0.1'),
    ({'flips': True}, 'flips'),
    ({'ensemble': [{'backbone': 'resnet50'}]}, r'ensemble\[0\] has no'),
    ({'ensemble': [{'checkpoint': 'a', 'backbone': 'vgg16'}]},
     r"ensemble\[0\].backbone is 'vgg16'; it must be one of resnet18"),
])
def test_an_option_without_meaning_is_one_line(tiny_run, options, reason):
  with pytest.raises(errors.InputError, match=reason) as caught:
    _open(tiny_run, **options)
  assert '\n' not in str(caught.value)


def test_models_that_do_not_go_together_are_refused(
    tiny_run, box_run, tiny_saved_model, tmp_path):
  with pytest.raises(errors.InputError, match='no mask branch'):
    _open(box_run, mask_voting=True)
  with pytest.raises(errors.InputError, match='is an exported model'):
    _open([tiny_run, tiny_saved_model])
  with pytest.raises(errors.InputError, match='no model is named'):
    open_model.open_model([])
  with pytest.raises(errors.InputError, match='must be one of them'):
    _open(tiny_run, ensemble=[{'checkpoint': tiny_run}])
  other = shutil.copytree(tiny_run, tmp_path / 'other')
  info = json.loads((other / 'dataset.json').read_text())
  info['categories'][1]['name'] = 'another'
  (other / 'dataset.json').write_text(json.dumps(info))
  with pytest.raises(errors.InputError, match='other categories than'):
    _open([tiny_run, str(other)])


def test_the_configuration_may_list_the_models(
    tiny_run, other_run, images, tmp_path):
  listed = {'task': {'inference': {
      'flip': True, 'ensemble': [
          {'checkpoint': tiny_run, 'backbone': 'resnet18'},
          {'checkpoint': other_run}]}}}
  path = tmp_path / 'ensemble.yaml'
  path.write_text(yaml.safe_dump(listed))
  detector = open_model.open_model(
        [], overrides_lib.Overrides(config_files=[str(path)]))
  _assert_same(detector.detect(images[0]),
               _open([tiny_run, other_run], flip=True).detect(images[0]))
  listed['task']['inference']['ensemble'][1]['backbone'] = 'resnet50'
  path.write_text(yaml.safe_dump(listed))
  with pytest.raises(errors.InputError, match=(
      r'ensemble\[1\].backbone is resnet50, but .* has resnet18')):
    open_model.open_model(
        [], overrides_lib.Overrides(config_files=[str(path)]))


def test_evaluation_mode_has_the_suite(tiny_run, tmp_path, capsys):
  """`train.py --mode=eval` gives the AP of the detector's results."""
  run = shutil.copytree(tiny_run, tmp_path / 'run')
  shards = tiny.write_shards(tmp_path, num_images=4)
  (run / 'dataset.json').unlink()
  override = {'task': {
      'validation_data': {'input_path': shards},
      'inference': {'flip': True, 'mask_voting': True, 'tighten_boxes': True}}}
  loop.run('panet_coco', 'eval', str(run), [str(run / 'params.yaml')],
               json.dumps(override))
  assert 'evaluation | AP ' in capsys.readouterr().out
  metrics = json.loads((run / 'metrics.json').read_text())
  wanted = predicted_metrics.predicted_metrics(run, override, tmp_path)
  assert metrics['mask_AP50'] == pytest.approx(wanted['mask']['AP50'], abs=1e-6)
  assert metrics['AP'] == pytest.approx(wanted['box']['AP'], abs=1e-6)
  assert list((run / 'validation').iterdir())
