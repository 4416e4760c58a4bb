"""The page of a run: what is in it, and that names stay data."""

import base64
import hashlib
import html.parser
import json
import os
import re
import urllib.parse

import pytest

from panet_tf import errors
from panet_tf.drawing import colors
from panet_tf.prediction.gallery import page

_NAMES, _LABELS = {3: 'cat', 8: 'dog'}, {3: 1, 8: 2}
_HOSTILE = [
    '<img src=x onerror=alert(1)>.png', '</script><script>alert(1)</script>',
    '<!-- <script>', '"quotes\' & ampersands.png', 'spaces # and ?%41%.png',
    'javascript:alert(1)', ' id="data">{}<', '東京 \u2028é.png',
    'sha256-HASH.png', '//host/a.png']


class _Page(html.parser.HTMLParser):
  """As a browser takes it apart: tags, and what each script holds."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.scripts = [], []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag == 'script':
      self.scripts.append('')

  def handle_endtag(self, tag):
    self.tags.append(('/' + tag, {}))

  def handle_data(self, data):
    if self.tags and self.tags[-1][0] == 'script':
      self.scripts[-1] += data


def _result(image, category=3, score=0.9, box=(10, 10, 20, 20)):
  return {'image_id': image, 'category_id': category, 'score': score,
          'bbox': list(box)}


def _write(folder, pictures, results, **arguments):
  """Makes the pictures, unless there is no such name; returns the page."""
  for name in pictures.values():
    if name and '/' not in name:
      (folder / name).write_bytes(b'')
  arguments = {'names': _NAMES, 'score_threshold': 0.5, 'labels': _LABELS,
               **arguments}
  page.write(str(folder), pictures, results, **arguments)
  return (folder / 'index.html').read_text('utf-8')


def _data(text):
  return json.loads(_Page(text).scripts[0])


def test_the_data_are_counts_and_scores_from_the_threshold_on(tmp_path):
  results = [_result(5, 8, 0.5), _result(5, 8, 0.7), _result(5, 3, 0.9),
             _result(5, 3, 0.49), _result('video.mp4/000001')]
  data = _data(_write(tmp_path, {5: 'a.png', 6: 'b.png'}, results))
  assert data == {
      'threshold': 0.5, 'truth': False,
      'classes': [
          {'name': name, 'color': '#{:02x}{:02x}{:02x}'.format(
              *colors.class_color(label))}
          for name, label in (('cat', 1), ('dog', 2))],
      'images': [
          {'name': 'a.png', 'url': './a.png', 'detections': 3, 'best': 0.9,
           'mean': 0.7, 'counts': [[1, 2], [0, 1]]},
          {'name': 'b.png', 'url': './b.png', 'detections': 0, 'best': None,
           'mean': None, 'counts': []}]}


def test_ground_truth_adds_ap50_and_errors(tmp_path):
  truth = {
      'images': [{'id': i, 'height': 99, 'width': 99} for i in (5, 6, 7)],
      'categories': [{'id': i, 'name': name} for i, name in _NAMES.items()],
      'annotations': [
          {'id': i, 'image_id': i, 'category_id': 3, 'bbox': [10, 10, 20, 20],
           'area': 400} for i in (5, 7)]}
  found, empty = _data(_write(
      tmp_path, {5: 'a.png', 6: 'b.png'}, [
          _result(5), _result(5, 8, 0.8, (50, 50, 9, 9)), _result(6)],
      ground_truth=truth))['images']
  names = ('truths', 'ap50', 'errors', 'false_positives', 'missed',
           'wrong_class', 'duplicates')
  assert [found[name] for name in names] == [1, 1, 1, 1, 0, 0, 0]
  assert [empty[name] for name in names] == [0, None, 1, 1, 0, 0, 0]


def test_an_image_without_its_picture_still_has_an_entry(tmp_path):
  data = _data(_write(tmp_path, {'x.jpg': None, 2: 'gone/b.png'}, []))
  assert [(image['name'], image['url']) for image in data['images']] == [
      ('x.jpg', None), ('gone/b.png', None)]


def test_hostile_names_stay_data(tmp_path):
  pictures = dict(enumerate(_HOSTILE))
  plain = _Page(_write(tmp_path, {0: 'a.png'}, []))
  text = _write(tmp_path, pictures, [_result(0)],
                names=dict(enumerate(_HOSTILE, 3)),
                labels={i: 1 for i in range(3, 3 + len(_HOSTILE))})
  parsed = _Page(text)
  assert parsed.tags == plain.tags
  assert parsed.scripts[1] == plain.scripts[1]
  assert not re.search('[<>&]', parsed.scripts[0])
  data = json.loads(parsed.scripts[0])
  assert [image['name'] for image in data['images']] == _HOSTILE
  assert [each['name'] for each in data['classes']] == _HOSTILE
  for image in data['images']:
    if image['url'] is not None:
      assert re.fullmatch(r'\./[A-Za-z0-9_.~%/-]+', image['url'])
      assert urllib.parse.unquote(image['url'][2:]) == image['name']
  assert sum(image['url'] is not None for image in data['images']) == 8


def test_a_file_name_that_is_no_text_is_found(tmp_path):
  name = os.fsdecode(b'caf\xe9.png')
  image, = _data(_write(tmp_path, {1: name}, []))['images']
  assert image['url'] == './caf%E9.png' and image['name'] == name


def test_only_the_script_of_the_page_may_run_and_nothing_is_fetched(tmp_path):
  text = _write(tmp_path, {1: 'a.png'}, [])
  parsed = _Page(text)
  policy = next(attributes['content'] for tag, attributes in parsed.tags
                if attributes.get('http-equiv') == 'Content-Security-Policy')
  digest = base64.b64encode(
      hashlib.sha256(parsed.scripts[1].encode()).digest()).decode()
  assert policy.split() == [
      "default-src", "'none';", 'img-src', "'self'", 'file:;', 'style-src',
      "'unsafe-inline';", 'script-src', f"'sha256-{digest}'"]
  assert not any({'src', 'href'} & set(attributes)
                 for _, attributes in parsed.tags)
  assert not re.search('https?:|innerHTML|fetch|import', text)


def test_the_same_run_gives_the_same_bytes(tmp_path):
  pages = [_write(tmp_path, {1: 'a.png', 2: 'b.png'},
                  [_result(1), _result(2, 8)]) for _ in range(2)]
  assert pages[0] == pages[1]


def test_a_page_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
  (tmp_path / 'index.html').mkdir()
  with pytest.raises(errors.InputError, match='index.html: '):
    page.write(str(tmp_path), {}, [], _NAMES, 0.5, _LABELS)
  assert os.listdir(tmp_path) == ['index.html']
