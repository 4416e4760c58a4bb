"""What --images means, and how what is written is called."""

import os

import pytest

from panet_tf import errors
from panet_tf.prediction import image_files


@pytest.fixture(name='folder')
def _folder(tmp_path, monkeypatch):
  """Files without pixels; they are not opened here."""
  monkeypatch.chdir(tmp_path)
  for name in ('a/2.png', 'a/10.JPG', 'a/1.mp4', 'a/notes.txt', 'b/3.png',
               'b/4[1].png', 'c/5.MOV', 'c/none.txt'):
    os.makedirs(os.path.dirname(name), exist_ok=True)
    (tmp_path / name).write_bytes(b'')
  return tmp_path


@pytest.mark.parametrize('images,videos,found', [
    ('a', False, ['a/10.JPG', 'a/2.png']),
    ('a', True, ['a/1.mp4', 'a/10.JPG', 'a/2.png']),
    ('*/*.png', True, ['a/2.png', 'b/3.png', 'b/4[1].png']),
    (['b', 'a'], False, ['b/3.png', 'b/4[1].png', 'a/10.JPG', 'a/2.png']),
    (['b/4[1].png', 'c', 'b/3.png'], True,
     ['b/4[1].png', 'c/5.MOV', 'b/3.png']),
    (['b/3.png', './b', 'b/../b/3.png'], False,
     ['b/3.png', './b/4[1].png']),
])
def test_folders_globs_and_files_in_their_order_each_file_once(
    folder, images, videos, found):
  del folder
  assert image_files.image_paths(images, videos=videos) == found


@pytest.mark.parametrize('images', [
    'c', ['a', 'c'], ['a', 'none.png'], 'd/*.png', [''], 'a/*/'])
def test_what_matches_nothing_is_named_even_among_others(folder, images):
  del folder
  last = images if isinstance(images, str) else images[-1]
  with pytest.raises(errors.InputError) as error:
    image_files.image_paths(images, '--of')
  assert str(error.value).startswith(f'--of {last!r} matches no image')
  assert '\n' not in str(error.value)


def test_images_and_videos_are_drawn_under_names_of_their_own(folder):
  paths = ['x/a.png', 'x/a.mp4', 'x/b.mov', 'x/b.mkv', 'x/c.png.jpg',
           'x/c.png', 'x/d.mov', 'x/d.jpg']
  found = image_files.picture_paths(paths, str(folder / 'out'))
  assert {path: os.path.relpath(drawn, folder / 'out')
          for path, drawn in found.items()} == {
              'x/a.png': 'a.png', 'x/a.mp4': 'a.mp4', 'x/b.mov': 'b.mov.mp4',
              'x/b.mkv': 'b.mkv.mp4', 'x/c.png.jpg': 'c.png.jpg.png',
              'x/c.png': 'c.png', 'x/d.mov': 'd.mp4', 'x/d.jpg': 'd.png'}


def test_a_video_is_not_replaced_by_what_is_drawn_of_it(folder):
  del folder
  with pytest.raises(errors.InputError, match='another folder'):
    image_files.picture_paths(['a/1.mp4'], 'a')


def test_frames_of_a_video_have_no_ids_among_annotations(folder):
  del folder
  with pytest.raises(errors.InputError, match=r'a/1.mp4: --annotations x.json'):
    image_files.image_ids(['a/2.png', 'a/1.mp4'], 'x.json')
  assert image_files.image_ids(['a/2.png', 'a/1.mp4']) == {
      'a/2.png': '2.png', 'a/1.mp4': '1.mp4'}
