"""Detections drawn on their image.

Each class has a hue of its own; the instances of a class take shades around it,
so that two touching nuclei can be told apart.
"""

import collections
import colorsys

import cv2
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

_GOLDEN = 0.618034  # multiples of it, modulo 1, stay far apart
# Hue, as a turn away from the class's, and saturation.
_SHADES = ((0, 1), (-0.14, 0.9), (0.12, 0.95), (0, 0.45), (-0.14, 0.45),
           (0.12, 0.45))
_NEAR = 2  # pixels, around a box
_OPACITY = 0.45
# More labels than this hide the objects; a legend counts them instead.
_MAX_LABELS = 25
_MAX_LEGEND_LINES = 12
# Images up to this many pixels are enlarged.
_SMALL = 320


def draw_detections(image, detections, category_names, score_threshold=0.5):
  """Draws masks, boxes and labels.

  An image of at most 320 pixels on its longer side comes back enlarged, two or
  three times, so that the labels can be read. More than 25 objects get one
  legend with counts instead of a label each.

  Args:
    image: [H, W, 3] uint8, RGB.
    detections: dict of arrays: detection_boxes [N, 4] (yxyx, pixels of
      `image`), detection_scores [N], detection_classes [N] and, optionally,
      detection_masks [N, H, W], 0 or 1.
    category_names: dict, label -> name.
    score_threshold: float, the least score that is drawn.

  Returns:
    [H, W, 3] uint8, RGB; [2H, 2W, 3] or [3H, 3W, 3] for a small image.

  Raises:
    ValueError: the image is not RGB uint8, or a mask has another size.
  """
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(f'image is {image.dtype} {image.shape}, expected uint8 '
                     '[height, width, 3]')
  zoom = _zoom(*image.shape[:2])
  objects = _objects(detections, category_names, score_threshold)
  canvas = cv2.resize(image, None, fx=zoom, fy=zoom,
                      interpolation=cv2.INTER_CUBIC)
  for item in sorted(objects, key=_box_area, reverse=True):
    _draw_mask(canvas, item['mask'], image.shape[:2], zoom, item['color'])
  picture = Image.fromarray(canvas)
  pen = ImageDraw.Draw(picture, 'RGBA')
  for item in objects:
    _draw_box(pen, item['box'] * zoom, picture.size, item['color'])
  font = ImageFont.load_default(max(11, round(max(picture.size) / 70)))
  if len(objects) > _MAX_LABELS:
    _draw_legend(pen, objects, font)
  else:
    _draw_labels(pen, objects, zoom, picture.size, font)
  return np.array(picture)


def _zoom(height, width):
  longer = max(height, width)
  return 1 if longer > _SMALL else 2 if longer > 2 * _SMALL // 3 else 3


def _objects(detections, category_names, score_threshold):
  """Detections to draw, best score first, as the drawing needs them."""
  scores = np.asarray(detections['detection_scores'])
  masks = detections.get('detection_masks')
  objects = []
  for index in np.argsort(-scores, kind='stable'):
    if scores[index] < score_threshold:
      break
    label = int(detections['detection_classes'][index])
    objects.append({
        'box': np.asarray(detections['detection_boxes'][index], np.float64),
        'mask': None if masks is None else masks[index],
        'label': label, 'score': float(scores[index]),
        'name': str(category_names.get(label, f'class {label}'))})
  for item, shade in zip(objects, _shades(objects)):
    item['color'] = _color(item['label'], shade)
  return objects


def _shades(objects):
  """Takes the shades in turn, but none that a touching neighbour has."""
  boxes = np.array([item['box'] for item in objects]).reshape(-1, 4)
  low, high = boxes[:, :2] - _NEAR, boxes[:, 2:] + _NEAR
  labels = np.array([item['label'] for item in objects])
  shades = np.zeros(len(objects), int)
  for i in range(len(objects)):
    same = labels[:i] == labels[i]
    near = same & np.all((low[:i] < high[i]) & (low[i] < high[:i]), axis=1)
    turns = (same.sum() + np.arange(len(_SHADES))) % len(_SHADES)
    free = turns[~np.isin(turns, shades[:i][near])]
    shades[i] = free[0] if free.size else turns[0]
  return shades


def _color(label, shade):
  """A class has a hue, and shades of it; shade 0 stands for the class."""
  turn, saturation = _SHADES[shade]
  rgb = colorsys.hsv_to_rgb(
      (0.08 + (label - 1) * _GOLDEN + turn) % 1, saturation, 1)
  return tuple(round(255 * channel) for channel in rgb)


def _box_area(item):
  y1, x1, y2, x2 = item['box']
  return (y2 - y1) * (x2 - x1)


def _draw_mask(canvas, mask, size, zoom, color):
  """Tints the mask's pixels and draws its contour, within its window only."""
  if mask is None:
    return
  mask = np.asarray(mask).astype(np.uint8, copy=False)
  if mask.shape != size:
    raise ValueError(f'mask is {mask.shape}, expected the image\'s {size}')
  x, y, width, height = cv2.boundingRect(mask)
  if not width:
    return
  window = mask[y:y + height, x:x + width]
  if zoom > 1:
    window = cv2.resize(window * 255, None, fx=zoom, fy=zoom,
                        interpolation=cv2.INTER_LINEAR) > 127
  window = np.ascontiguousarray(window, np.uint8)
  target = canvas[y * zoom:(y + height) * zoom, x * zoom:(x + width) * zoom]
  tint = cv2.addWeighted(target, 1 - _OPACITY, np.full_like(target, color),
                         _OPACITY, 0)
  cv2.copyTo(tint, window, target)
  contours, _ = cv2.findContours(
      window, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
  outline = np.zeros_like(window)
  cv2.drawContours(outline, contours, -1, 1)
  target[outline > 0] = color


def _draw_box(pen, box, size, color):
  """A line of one pixel inside the frame."""
  y1, x1, y2, x2 = np.clip(
      np.round(box), 0, [size[1] - 1, size[0] - 1] * 2).tolist()
  if x2 >= x1 and y2 >= y1:
    pen.rectangle([x1, y1, x2, y2], outline=color + (170,))


def _draw_labels(pen, objects, zoom, size, font):
  """Best scores first; each at the first place that is still free."""
  taken = []
  for item in objects:
    text = f'{item["name"]}  {item["score"]:.2f}'
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 5
    y1, x1, y2, x2 = item['box'] * zoom
    places = [_inside(x, y, width, height, size) for x, y in (
        (x1, y1 - height), (x1, y1), (x1, y2), (x2 - width, y2 - height),
        (x2 - width, y1), (x2, y1), (x1 - width, y1), (x1, y1 - 2 * height),
        (x1, y2 + height))]
    place = next((place for place in places
                  if not any(_overlap(place, other) for other in taken)),
                 places[0])
    taken.append(place)
    _draw_text(pen, (place[0] + 3 - left, place[1] + 2 - top), place, text,
               font, item['color'])


def _inside(x, y, width, height, size):
  """The rectangle x1, y1, x2, y2, moved into the frame."""
  x = max(0, min(round(x), size[0] - width))
  y = max(0, min(round(y), size[1] - height))
  return x, y, x + width - 1, y + height - 1


def _overlap(a, b):
  return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _draw_text(pen, origin, place, text, font, color):
  """Black or white on the colour, whichever reads better."""
  luminance = np.dot(color, [0.299, 0.587, 0.114])
  pen.rectangle(place, fill=color + (230,))
  pen.text(origin, text, font=font,
           fill=(0, 0, 0) if luminance > 130 else (255, 255, 255))


def _draw_legend(pen, objects, font):
  """The classes and how many of each, top left."""
  colors = {item['name']: _color(item['label'], 0) for item in objects}
  counts = collections.Counter(item['name'] for item in objects).most_common()
  lines = [(f'{name}: {count}', colors[name]) for name, count in counts]
  if len(lines) > _MAX_LEGEND_LINES:
    rest = lines[_MAX_LEGEND_LINES - 1:]
    lines = lines[:_MAX_LEGEND_LINES - 1]
    lines.append((f'and {len(rest)} more', (255, 255, 255)))
  height = sum(font.getmetrics()) + 2
  width = height + max(pen.textlength(text, font=font) for text, _ in lines)
  pen.rectangle([0, 0, width + 8, height * len(lines) + 4], fill=(0, 0, 0, 190))
  for row, (text, color) in enumerate(lines):
    y = 3 + row * height
    pen.rectangle([4, y + 1, height, y + height - 5], fill=color)
    pen.text((height + 4, y), text, font=font, fill=(255, 255, 255))
