"""What lies beside a checkpoint; the rest is in end_to_end_test.py."""

import numpy as np
import pytest

from panet_tf import errors
from panet_tf import runs
from panet_tf.configs import overrides
from tests.support import graph_outputs


@pytest.mark.parametrize('text', [
    '', '{', '[]', '[' * 100000, '{"categories": 3}',
    '{"categories": [{"id": 1}]}',
    '{"categories": [{"label": 2, "id": 1, "name": "a"}]}',
    '{"categories": [{"label": 1, "id": 1}]}'], ids=range(8))
def test_a_broken_description_is_named_in_one_line(tmp_path, monkeypatch, text):
  (tmp_path / 'dataset.json').write_text(text)
  monkeypatch.setattr(
      runs, 'find', lambda folder: str(tmp_path / 'ckpt-1'))
  with pytest.raises(errors.InputError, match='dataset.json: not a d') as info:
    runs.Run.read(str(tmp_path), overrides.Overrides('panet_shapes'))
  assert '\n' not in str(info.value)


def test_a_batch_gives_what_each_image_gives_alone(reference, images):
  """The last, smaller batch is filled up, so that nothing is compiled anew."""
  wanted = [reference.detect(image) for image in images]
  batches = reference.detect_many(images[:3]), reference.detect_many(images[2:])
  found = [*batches[0], *batches[1][1:]]
  assert len(batches[1]) == 2 and len(found) == 4
  for one, other in zip(found, wanted, strict=False):
    assert len(other)
    np.testing.assert_array_equal(one.labels, other.labels)
    one, other = graph_outputs.of(one), graph_outputs.of(other)
    for key, value in other.items():
      np.testing.assert_allclose(one[key], value, rtol=0, atol=1e-3)
  again = graph_outputs.of(found[2])
  for key, value in graph_outputs.of(batches[1][0]).items():
    np.testing.assert_array_equal(value, again[key])
