"""What lies beside a checkpoint; the rest is in end_to_end_test.py."""

import pytest

from panet_tf import checkpoints
from panet_tf import errors
from panet_tf.inference import predictor


@pytest.mark.parametrize('text', [
    '', '{', '[]', '[' * 100000, '{"categories": 3}',
    '{"categories": [{"id": 1}]}',
    '{"categories": [{"label": 2, "id": 1, "name": "a"}]}',
    '{"categories": [{"label": 1, "id": 1}]}'], ids=range(8))
def test_a_broken_description_is_named_in_one_line(tmp_path, monkeypatch, text):
  (tmp_path / 'dataset.json').write_text(text)
  monkeypatch.setattr(
      checkpoints, 'find', lambda folder: str(tmp_path / 'ckpt-1'))
  with pytest.raises(errors.InputError, match='dataset.json: not a d') as info:
    predictor.Predictor.from_checkpoint(str(tmp_path), 'panet_shapes')
  assert '\n' not in str(info.value)
