"""Generated scenes: a data set that trains in minutes and needs no download.

Circles, squares, triangles and stars of any colour and rotation, shaded and
textured, overlapping one another on textured ground. A mask is what can be
seen of its object; no object is hidden so far that it could not be found.
"""

import os

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from panet_tf import errors
from panet_tf import files
from panet_tf.data import segmentation
from panet_tf.data import tfrecord

SHAPES = ('circle', 'square', 'triangle', 'star')

_MOST_OBJECTS = 8
_RADII = 5 / 128, 40 / 128  # of the image size
_LEAST_VISIBLE = 0.3  # of an object's pixels in the image
_LEAST_PIXELS = 16
_LEAST_CONTRAST = 80  # distance of two colours in RGB
_IMAGES_PER_SHARD = 125
_SUBPIXEL_BITS = 4


def make_shapes(output_prefix, num_images, seed, image_size=128):
  """Writes scenes as PNG files, COCO JSON and TFRecord shards.

  Files: `<output_prefix>_images/000001.png`, ..., `<output_prefix>.json`, and
  what `tfrecord.convert_coco` makes of them. The same arguments give the same
  bytes; another seed gives other scenes.

  Args:
    output_prefix: path and first part of the files' names.
    num_images: number of scenes.
    seed: whole number from 0.
    image_size: height and width, pixels; objects grow with it.

  Raises:
    InputError: naming the argument, or the folder that cannot be written.
  """
  for name, value, least in (('num_images', num_images, 1), ('seed', seed, 0),
                             ('image_size', image_size, 64)):
    if value < least:
      raise errors.InputError(f'{name}: {value}, should be at least {least}')
  tfrecord.check_prefix(output_prefix)
  image_dir = output_prefix + '_images'
  dataset = {'images': [], 'annotations': [],
             'categories': [{'id': label, 'name': name}
                            for label, name in enumerate(SHAPES, 1)]}
  try:
    os.makedirs(image_dir, exist_ok=True)
    for number in range(1, num_images + 1):
      _write_scene(image_dir, dataset, number, seed, image_size)
    files.write_json(output_prefix + '.json', dataset)
  except OSError as e:
    raise errors.InputError(
        f'{output_prefix}: scenes cannot be written: {e.strerror}') from e
  tfrecord.convert_coco(
      image_dir, output_prefix + '.json', output_prefix,
      num_shards=-(-num_images // _IMAGES_PER_SHARD))


def _write_scene(image_dir, dataset, number, seed, image_size):
  """Draws scene `number` and enters it in the COCO dictionary."""
  image, labels, masks = scene(np.random.default_rng([seed, number]),
                               image_size)
  file_name = f'{number:06d}.png'
  with open(os.path.join(image_dir, file_name), 'wb') as f:
    f.write(cv2.imencode('.png', image[..., ::-1])[1].tobytes())
  dataset['images'].append({'id': number, 'file_name': file_name,
                            'height': image_size, 'width': image_size})
  for label, mask in zip(labels, masks, strict=True):
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    dataset['annotations'].append({
        'id': len(dataset['annotations']) + 1, 'image_id': number,
        'category_id': label, 'iscrowd': 0, 'area': int(mask.sum()),
        'bbox': coco_mask.toBbox(rle).tolist(),
        'segmentation': segmentation.as_json(rle)})


def scene(rng, size):
  """Draws one scene of so many pixels in height and width.

  Returns:
    image [size, size, 3] uint8 RGB, list of labels 1..len(SHAPES), and list of
    masks [size, size] bool, the visible pixels, disjoint.
  """
  ground = rng.uniform(40, 215, 3)
  image = _textured(rng, ground, size, amplitude=rng.uniform(8, 28))
  owner = np.full([size, size], -1)
  labels, pixels, colors = [], [], [ground]
  for _ in range(rng.integers(1, _MOST_OBJECTS + 1)):
    label = int(rng.integers(1, len(SHAPES) + 1))
    alpha = _place(rng, SHAPES[label - 1], owner, pixels)
    if alpha is None:
      continue
    inside = alpha >= 0.5
    owner[inside] = len(labels)
    labels.append(label)
    pixels.append(np.count_nonzero(inside))
    colors.append(_contrasting(rng, colors))
    surface = _textured(rng, colors[-1], size, amplitude=rng.uniform(5, 25))
    image += alpha[..., None] * (surface - image)
  image += rng.normal(0, rng.uniform(1, 6), image.shape)
  return (image.clip(0, 255).astype(np.uint8), labels,
          [owner == i for i in range(len(labels))])


def _place(rng, shape, owner, pixels):
  """Coverage of a new object that hides nobody too far, or None.

  It is [size, size] in 0..1, antialiased at the edge; `owner` [size, size] is
  the index of the object seen at each pixel, or -1; `pixels` says how many each
  object has, hidden ones included.
  """
  size = owner.shape[0]
  for _ in range(10):
    radius = size * np.exp(rng.uniform(*np.log(_RADII)))
    center = rng.uniform(0.6 * radius, size - 0.6 * radius, 2)
    alpha = _coverage(_outline(shape, rng.uniform(0, 2 * np.pi)) * radius
                      + center, size)
    left = np.bincount(owner[(alpha < 0.5) & (owner >= 0)],
                       minlength=len(pixels))
    if np.all(left >= np.maximum(_LEAST_VISIBLE * np.array(pixels),
                                 _LEAST_PIXELS)):
      return alpha
  return None


def _outline(shape, angle):
  """Corners [n, 2] of a shape with radius 1 around 0, turned by `angle`."""
  corners = {'circle': 72, 'square': 4, 'triangle': 3, 'star': 10}[shape]
  angles = angle + np.arange(corners) * 2 * np.pi / corners
  radii = np.where(np.arange(corners) % 2, 0.45, 1) if shape == 'star' else 1
  return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=-1)


def _coverage(corners, size):
  """Fills a polygon, corners [n, 2] as x, y in pixels: [size, size], 0..1."""
  canvas = np.zeros([size, size], np.uint8)
  points = np.round(corners * 2**_SUBPIXEL_BITS).astype(np.int32)
  cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
  return canvas / 255


def _contrasting(rng, others):
  """A colour that stands out from the others, as far as there is one."""
  candidates = rng.uniform(0, 255, [32, 3])
  distance = np.linalg.norm(candidates[:, None] - np.array(others),
                            axis=-1).min(axis=1)
  far = np.flatnonzero(distance >= _LEAST_CONTRAST)
  return candidates[far[0] if far.size else distance.argmax()]


def _textured(rng, color, size, amplitude):
  """A colour under uneven light, with a pattern: [size, size, 3], float."""
  pattern = {'plain': _gradient, 'stripes': _stripes, 'clouds': _clouds}[
      rng.choice(['plain', 'stripes', 'clouds'])]
  return color + amplitude * (_gradient(rng, size) + pattern(rng, size))


def _along(rng, size):
  """Position of each pixel along a random direction, in -1..1 or so."""
  angle = rng.uniform(0, 2 * np.pi)
  y, x = np.mgrid[-1:1:size * 1j, -1:1:size * 1j]
  return (np.cos(angle) * x + np.sin(angle) * y)[..., None]


def _gradient(rng, size):
  return _along(rng, size) * rng.uniform(0.3, 1)


def _stripes(rng, size):
  return 0.7 * np.sin(_along(rng, size) * rng.uniform(10, 60))


def _clouds(rng, size):
  cells = int(rng.integers(4, 17))
  return cv2.resize(rng.uniform(-1, 1, [cells, cells, 3]), (size, size),
                    interpolation=cv2.INTER_CUBIC)
