"""Runs of `panet predict` with a fake detector, and what they leave."""

import json
import os

import pytest

from panet_tf.inference import open_model
from panet_tf.prediction import predict
from tests.support import fake_detector


class Killed(BaseException):
  """Nothing expects it."""


def die():
  """What `FakeDetector` may do in a call."""
  raise Killed


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Runs `predict` with a detector; returns the detector and the exit code."""

  def call(detector=None, images=None, output='out', **options):
    detector = detector or fake_detector.FakeDetector()
    monkeypatch.setattr(
        open_model, 'open_model', lambda *unused: detector)
    code = predict.predict(
        'none', [str(tmp_path / name) for name in images or ['images']],
        str(tmp_path / output), **options)
    return detector, code
  return call


def files(folder):
  """Bytes of each file."""
  return {name: (folder / name).read_bytes() for name in os.listdir(folder)}


def ids(folder):
  """Image ids in predictions.json, each once, in order."""
  results = json.loads((folder / 'predictions.json').read_text())
  return list(dict.fromkeys(result['image_id'] for result in results))


def chunks_kept(folder):
  """Chunks that a killed run left."""
  lines = (folder / 'predictions.partial.jsonl').read_text().splitlines()[1:]
  return sum(json.loads(line)['last_of_chunk'] for line in lines)
