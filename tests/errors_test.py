"""What a mistake says, to people and to those who know where it is."""

import pickle

from panet_tf import errors


def test_a_reason_stands_without_its_place():
  e = errors.InputError.at('image 3: a.jpg', 'not an image: odd')
  assert str(e) == 'image 3: a.jpg: not an image: odd'
  assert e.reason == 'not an image: odd'
  assert errors.InputError('all of it').reason == 'all of it'
  assert errors.InputError('a: b of c', 'b').reason == 'b'


def test_a_reason_passes_from_process_to_process():
  e = pickle.loads(pickle.dumps(errors.InputError.at('a', 'b')))
  assert (str(e), e.reason) == ('a: b', 'b')
