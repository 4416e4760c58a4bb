"""A drawn video has every frame, or is not there."""

import os

import cv2
import numpy as np
from pycocotools import mask as mask_utils
import pytest

from panet_tf import errors
from panet_tf.drawing import pictures
from panet_tf.prediction import annotated_video
from panet_tf.structures import mask_windows
from tests.support import fake_detector

_CATEGORIES = fake_detector.FakeDetector.categories


def _frame(value=40, size=(496, 560)):
  return np.full([*size, 3], value, np.uint8)


def _written(tmp_path, score_threshold=0.5):
  return annotated_video.AnnotatedVideo(
      str(tmp_path / 'a.mp4'), 12.5, _CATEGORIES, score_threshold)


def test_stored_results_are_drawn_as_the_detections_are(tmp_path):
  found = fake_detector.FakeDetector().detect(_frame())
  results = found.to_coco('a', [7, 3])
  with _written(tmp_path, 0.1) as video:
    video.add(_frame(), results)
  found.masks = mask_windows.of_images(np.array([
      mask_utils.decode(result['segmentation']) for result in results], bool))
  wanted = pictures.draw_detections(
      _frame(), found, {1: 'thing', 2: 'other'}, 0.1)
  twin = cv2.VideoWriter(str(tmp_path / 'b.mp4'),
                         cv2.VideoWriter_fourcc(*'mp4v'), 12.5, (560, 496))
  twin.write(wanted[:, :, ::-1].copy())
  twin.release()
  drawn, wanted = (fake_detector.read_video(tmp_path / name)
                   for name in ('a.mp4', 'b.mp4'))
  np.testing.assert_array_equal(drawn[0], wanted[0])
  assert drawn[1] == wanted[1] == 12.5
  assert drawn[0][0, 400, 400].max() < 60 < drawn[0].max()


def test_only_what_reaches_the_threshold_is_drawn(tmp_path):
  with _written(tmp_path) as video:
    video.add(_frame(), [{'category_id': 3, 'score': 0.49,
                          'bbox': [100, 100, 99, 99]}])
  (drawn,), _ = fake_detector.read_video(tmp_path / 'a.mp4')
  np.testing.assert_allclose(drawn, 40, atol=4)


def test_a_lost_frame_is_the_one_before_and_none_follows_the_last(tmp_path):
  with _written(tmp_path) as video:
    video.add(_frame(40), [])
    video.add(None, ())
    video.add(None, ())
    video.add(_frame(120), [])
    video.add(None, ())
  drawn, _ = fake_detector.read_video(tmp_path / 'a.mp4')
  np.testing.assert_allclose(drawn.mean((1, 2, 3)), [40, 40, 40, 120], atol=4)


def test_a_frame_of_another_size_is_not_dropped(tmp_path):
  with _written(tmp_path) as video:
    video.add(_frame(40), [])
    video.add(_frame(40, (700, 500)), [])
  assert fake_detector.read_video(tmp_path / 'a.mp4')[0].shape == (
      2, 496, 560, 3)


def test_a_failure_leaves_the_video_that_was_there(tmp_path):
  (tmp_path / 'a.mp4').write_bytes(b'before')
  with pytest.raises(KeyboardInterrupt):
    with _written(tmp_path) as video:
      video.add(_frame(), [])
      raise KeyboardInterrupt
  assert os.listdir(tmp_path) == ['a.mp4']
  assert (tmp_path / 'a.mp4').read_bytes() == b'before'


def test_nothing_is_written_without_a_frame(tmp_path):
  with _written(tmp_path) as video:
    video.add(None, ())
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('size', [(2, 70000), (496, 560)])
def test_a_video_that_cannot_be_written_is_named(tmp_path, size):
  folder = tmp_path if size[1] > 560 else tmp_path / 'none'
  with pytest.raises(errors.InputError, match='a.mp4.* cannot be written'):
    with _written(folder) as video:
      video.add(_frame(1, size), [])
  assert not os.listdir(tmp_path)


def test_a_video_that_lacks_frames_on_the_disk_is_no_video(
    tmp_path, monkeypatch):
  monkeypatch.setattr(annotated_video.frames, 'num_announced', lambda path: 1)
  with pytest.raises(errors.InputError, match='1 of 2 frames could be written'):
    with _written(tmp_path) as video:
      video.add(_frame(), [])
      video.add(_frame(), [])
  assert not os.listdir(tmp_path)


def test_a_mask_of_another_size_is_named(tmp_path):
  results = [{'category_id': 7, 'score': 1.0, 'bbox': [0, 0, 1, 1],
              'segmentation': {'size': [9, 9], 'counts': '1'}}]
  with pytest.raises(errors.InputError, match=r'earlier run .*size \[9, 9\]'):
    with _written(tmp_path) as video:
      video.add(_frame(), results)
