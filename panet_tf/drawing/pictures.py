"""Detections drawn on their image, alone or beside the ground truth."""

import cv2
import numpy as np
from PIL import Image
from PIL import ImageDraw

from panet_tf.drawing import colors
from panet_tf.drawing import labels as labels_lib
from panet_tf.drawing import masks as masks_lib

# Images up to this many pixels are enlarged.
_SMALL = 480
_GAP = 8  # pixels between two pictures
_DARK = (24, 24, 28)
_WHITE = (255, 255, 255)


def draw_detections(image, detections, category_names, score_threshold=0.5,
                    ground_truth=None):
  """Draws masks, boxes and labels, perhaps beside the ground truth's.

  A class has one hue in all images, see `colors`. An image of at most 480
  pixels on its longer side comes back enlarged, two or three times, so that the
  labels can be read. Where labels would take more than 12 % of the picture,
  one legend with counts stands for them.

  Args:
    image: [H, W, 3] uint8, RGB.
    detections: Detections of the image; crowds are hatched.
    category_names: dict, label -> name.
    score_threshold: float, the least score that is drawn.
    ground_truth: Detections with scores of 1, which are not shown; drawn to the
      left of what was found.

  Returns:
    [zoom * H, zoom * W, 3] uint8, RGB; zoom is 2 or 3 for a small image. With
    ground truth [header + zoom * H, 2 * zoom * W + 8, 3]: each picture is as
    without it, below a header.

  Raises:
    ValueError: the image is not RGB uint8, or detections are of another size.
  """
  found = _objects(image, detections, category_names, score_threshold)
  right = _draw(image, found, with_scores=True)
  if ground_truth is None:
    return np.array(right)
  truth = _objects(image, ground_truth, category_names, score_threshold)
  left = _draw(image, truth, with_scores=False)
  width, height = left.size
  font = labels_lib.font_for(left.size)
  header = sum(font.getmetrics()) + 8
  picture = Image.new('RGB', (2 * width + _GAP, header + height), _DARK)
  pen = ImageDraw.Draw(picture)
  for x, half, title in (
      (0, left, f'Ground truth: {len(truth)}'),
      (width + _GAP, right, f'Detections: {len(found)}')):
    pen.text((x + 6, 4), title, font=font, fill=_WHITE)
    picture.paste(half, (x, header))
  return np.array(picture)


def _objects(image, detections, category_names, score_threshold):
  """What is to be drawn, best score first."""
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(f'image is {image.dtype} {image.shape}, expected uint8 '
                     '[height, width, 3]')
  if detections.image_size != image.shape[:2]:
    raise ValueError(f'detections are of an image of {detections.image_size}, '
                     f'expected the image\'s {image.shape[:2]}')
  order = np.argsort(-detections.scores, kind='stable')
  found = detections[order[detections.scores[order] >= score_threshold]]
  boxes, windows = found.boxes.astype(np.float64), [None] * len(found)
  if found.masks is not None:
    masks = found.masks.windows()
    windows = list(zip(masks.corners, masks.crops, strict=True))
  crowds = [False] * len(found) if found.iscrowd is None else found.iscrowd
  return [
      {'box': box, 'label': int(label), 'score': float(score), 'color': color,
       'name': str(category_names.get(int(label), f'class {label}')),
       'window': window, 'iscrowd': bool(iscrowd)}
      for box, label, score, color, window, iscrowd in zip(
          boxes, found.labels, found.scores,
          colors.instance_colors(boxes, found.labels), windows, crowds,
          strict=True)]


def _draw(image, objects, with_scores):
  """The picture of one image, a PIL image."""
  longer = max(image.shape[:2])
  zoom = 1 if longer > _SMALL else 2 if longer > _SMALL // 2 else 3
  canvas = image.copy() if zoom == 1 else cv2.resize(
      image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
  for item in sorted(objects, reverse=True, key=lambda item: np.prod(
      item['box'][2:] - item['box'][:2])):
    if item['window']:
      corner, crop = item['window']
      masks_lib.draw_mask(canvas, corner, crop, zoom, item['color'],
                          colors.class_color(item['label']), item['iscrowd'])
  picture = Image.fromarray(canvas)
  pen = ImageDraw.Draw(picture, 'RGBA')
  for item in objects:
    _draw_box(pen, item['box'] * zoom, picture.size, item['color'],
              110 if item['window'] else 200)
  labels_lib.draw_labels(pen, [
      dict(item, box=item['box'] * zoom, text=item['name'] + (
          f'  {item["score"]:.2f}' if with_scores else
          ' (crowd)' if item['iscrowd'] else ''))
      for item in objects], picture.size)
  return picture


def _draw_box(pen, box, size, color, opacity):
  """A line of one pixel inside the frame."""
  y1, x1, y2, x2 = np.clip(
      np.round(box), 0, [size[1] - 1, size[0] - 1] * 2).tolist()
  if x2 >= x1 and y2 >= y1:
    pen.rectangle([x1, y1, x2, y2], outline=color + (opacity,))
