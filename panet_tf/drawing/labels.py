"""Labels that keep out of each other's way, the legend, and headers."""

import collections

import numpy as np
from PIL import ImageFont

from panet_tf.drawing import colors

# Labels that would take more of the picture hide the objects.
_MOST_OF_PICTURE = 0.12
_MAX_LEGEND_LINES = 12
_WHITE = (255, 255, 255)


def font_for(size: tuple[int, int]) -> ImageFont.FreeTypeFont:
  """The font that can be read in a picture of this (width, height)."""
  return ImageFont.load_default(max(11, round(max(size) / 95)))  # pyright: ignore[reportReturnType] - scalable, as it is asked for a size


def draw_labels(pen, objects, size):
  """A label for each object, or a legend if that would hide too much.

  Args:
    pen: ImageDraw of a picture whose (width, height) is `size`.
    objects: list of {'text', 'name', 'label', 'color', 'box'}, the box yxyx in
      pixels of the picture; the first ones choose their place first.
    size: of the picture.
  """
  font = font_for(size)
  height = sum(font.getmetrics()) + 2
  widths = [round(pen.textlength(item['text'], font=font)) + 6
            for item in objects]
  if sum(widths) * height > _MOST_OF_PICTURE * size[0] * size[1]:
    _draw_legend(pen, objects, font)
    return
  boxes = np.array([item['box'] for item in objects]).reshape(-1, 4)
  boxes = boxes[:, [1, 0, 3, 2]]
  taken = np.zeros([0, 4])
  for item, width in zip(objects, widths, strict=True):
    places = _places(item['box'], width, height, size)
    # First of all apart from other labels, then off objects; the first wins.
    place = places[np.lexsort([
        np.arange(len(places)), _covered(places, boxes).round(1),
        _covered(places, taken)])[0]]
    taken = np.append(taken, [place], axis=0)
    _draw_text(pen, place.tolist(), item['text'], font, item['color'])


def _places(box, width, height, size):
  """Where a label may go: xyxy [P, 4] inside of the picture, best first."""
  y1, x1, y2, x2 = box
  middle = (x1 + x2 - width) / 2
  corners = [(x1, y1 - height), (x1, y1), (x1, y2), (x2 - width, y1 - height),
             (x2 - width, y2), (x2 - width, y2 - height), (x2 - width, y1),
             (x1, y2 - height), (middle, y1 - height), (middle, y2), (x2, y1),
             (x2, y2 - height), (x1 - width, y1), (x1 - width, y2 - height),
             (x1, y1 - 2 * height), (x1, y2 + height),
             (x1 - width, y1 - height), (x2, y1 - height), (x1 - width, y2),
             (x2, y2)]
  corners = np.clip(np.round(corners), 0, np.maximum(
      np.subtract(size, (width, height)), 0))
  return np.concatenate([corners, corners + (width, height)], axis=1)


def _covered(places, others):
  """Part of each place [P] that others [M, 4] cover, xyxy; summed up."""
  low = np.maximum(places[:, None, :2], others[:, :2])
  high = np.minimum(places[:, None, 2:], others[:, 2:])
  areas = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
  return areas / np.ptp(places.reshape(-1, 2, 2), axis=1).prod(axis=1)


def _draw_text(pen, place, text, font, color):
  x1, y1, x2, y2 = place
  pen.rectangle([x1, y1, x2 - 1, y2 - 1], fill=color + (230,))
  pen.text((x1 + 3, y1 + 1), text, font=font, fill=colors.text_color(color))


def _draw_legend(pen, objects, font):
  """The classes and how many of each, top left."""
  class_colors = {item['name']: colors.class_color(item['label'])
                  for item in objects}
  counts = collections.Counter(item['name'] for item in objects).most_common()
  lines = [(f'{name}: {count}', class_colors[name]) for name, count in counts]
  if len(lines) > _MAX_LEGEND_LINES:
    rest = lines[_MAX_LEGEND_LINES - 1:]
    lines = lines[:_MAX_LEGEND_LINES - 1]
    lines.append((f'and {len(rest)} more', _WHITE))
  height = sum(font.getmetrics()) + 2
  width = height + max(pen.textlength(text, font=font) for text, _ in lines)
  pen.rectangle([0, 0, width + 8, height * len(lines) + 4], fill=(0, 0, 0, 190))
  for row, (text, color) in enumerate(lines):
    y = 3 + row * height
    pen.rectangle([4, y + 1, height, y + height - 5], fill=color)
    pen.text((height + 4, y), text, font=font, fill=_WHITE)
