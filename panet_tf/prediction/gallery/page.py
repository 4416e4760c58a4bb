"""index.html of a run: its pictures, to be sorted and looked through.

One file that opens from the disk. Names and ids come from files of others: they
are data in the page (JSON without a `<`), and its script never takes them for
HTML. The page's policy lets no other script run, nor anything be fetched.

The page itself is index.html, style.css and script.js beside this file. What it
shows is also in its address: #sort=errors&dir=desc&class=0&min=2 (&image=5
opens a picture), so that a view can be linked.
"""

import base64
import collections
from collections.abc import Iterable, Mapping
import hashlib
from importlib import resources
import json
import os
import pathlib
from typing import Any
import urllib.parse

from panet_tf import files
from panet_tf.drawing import colors
from panet_tf.evaluation import per_image

PAGE = 'index.html'
# What stands in it for a file beside it and for what differs between pages.
_STYLE = '<link rel="stylesheet" href="style.css">'
_SCRIPT = '<script src="script.js"></script>'
_HASH = 'sha256-HASH'
_DATA = ' id="data">{}<'


def write(output_dir: str, pictures: Mapping[Any, str | None],
          results: Iterable[Mapping[str, Any]], names: Mapping[int, str],
          score_threshold: float, labels: Mapping[int, int],
          ground_truth: dict[str, Any] | None = None):
  """Writes {output_dir}/index.html, whole or not at all.

  The same arguments and pictures give the same bytes. InputError if the file
  cannot be written, or the ground truth does not fit the results.

  Args:
    output_dir: folder of the pictures.
    pictures: image id -> file name in `output_dir`; each image gets an entry,
      without a picture if the name is None or no such file is there.
    results: COCO results; those of other ids, as of the frames of a video, are
      left out.
    names: category id -> name.
    score_threshold: detections below it are not counted.
    labels: category id -> label, for the colours of the pictures.
    ground_truth: COCO instances with all these images; adds AP50 and the errors
      of each image.
  """
  found = {image: [] for image in pictures}
  for result in results:
    if result['image_id'] in found:
      found[result['image_id']].append(result)
  scores = ground_truth and per_image.image_scores(
      _restricted(ground_truth, found),
      [result for each in found.values() for result in each], score_threshold)
  places = {category: place for place, category in enumerate(names)}
  data = {
      'threshold': score_threshold, 'truth': ground_truth is not None,
      'classes': [
          {'name': str(name), 'color': '#{:02x}{:02x}{:02x}'.format(
              *colors.class_color(labels[category]))}
          for category, name in names.items()],
      'images': [
          {**_picture(output_dir, picture, image),
           **_counts(found[image], places, score_threshold),
           **(_errors(scores[image]) if scores else {})}
          for image, picture in pictures.items()]}
  with files.written_whole(os.path.join(output_dir, PAGE)) as temporary:
    with open(temporary, 'w', encoding='utf-8', newline='\n') as f:
      f.write(_page(data))


def _restricted(ground_truth, images):
  return dict(ground_truth, **{
      name: [each for each in ground_truth[name] if each[key] in images]
      for name, key in (('images', 'id'), ('annotations', 'image_id'))})


def _picture(output_dir, picture, image):
  """Name and URL; a file name may be bytes that are no text."""
  url = None
  if picture and os.path.isfile(os.path.join(output_dir, picture)):
    # ./ lest a name be taken for another host or scheme.
    url = './' + urllib.parse.quote(os.fsencode(
        pathlib.PurePath(picture).as_posix()))
  return {'name': str(image) if picture is None else picture, 'url': url}


def _counts(results, places, score_threshold) -> dict[str, Any]:
  shown = [each for each in results if each['score'] >= score_threshold]
  scores = [each['score'] for each in shown]
  counts = collections.Counter(places[each['category_id']] for each in shown)
  return {
      'detections': len(shown),
      'best': round(max(scores), 4) if scores else None,
      'mean': round(sum(scores) / len(scores), 4) if scores else None,
      'counts': sorted(([place, count] for place, count in counts.items()),
                       key=lambda pair: (-pair[1], pair[0]))}


def _errors(score) -> dict[str, Any]:
  """What `per_image` says of an image."""
  return {
      'truths': int(score.truths), 'errors': int(score.errors),
      'ap50': None if score.ap50 is None else round(score.ap50, 4),
      **{name: int(getattr(score, name)) for name in (
          'false_positives', 'missed', 'wrong_class', 'duplicates')}}


def _page(data) -> str:
  # As ASCII without <, > and &, JSON cannot end its element.
  text = json.dumps(data, separators=(',', ':'))
  for character in '<>&':
    text = text.replace(character, f'\\u{ord(character):04x}')
  style, script = f'\n{_read("style.css")}', f'\n{_read("script.js")}'
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  page = _read(PAGE)
  # The data last: names in them may look like any of the others.
  for place, filled in ((_STYLE, f'<style>{style}</style>'),
                        (_HASH, f'sha256-{digest}'),
                        (_SCRIPT, f'<script>{script}</script>'),
                        (_DATA, f' id="data">{text}<')):
    page = page.replace(place, filled, 1)
  return page


def _read(name: str) -> str:
  """A file of the page, in the package."""
  return (resources.files('panet_tf.prediction.gallery') / name).read_text(
      'utf-8')
