"""COCO results on Cityscapes images: names, masks, what must hold of them."""

import os
import re

from panet_tf import errors
from panet_tf.data import image_bytes
from panet_tf.data import segmentation
from panet_tf.data.sources import cityscapes

_FILE_NAME = re.compile(
    r'(?a)leftImg8bit/([\w-]+/[\w-]+)/([^\W_]+_\d{6}_\d{6})_leftImg8bit\.png')
IMAGES_PER_PROCESS = 25  # Fewer do not make up for its start.


def results_per_image(dataset, results):
  """[(image, [(index in `results`, result), ..])], all images in their order.

  Raises:
    InputError: a result of an unknown image or category, or a dataset whose
      categories, file names or image sizes are not Cityscapes'.
  """
  ids = cityscapes.INSTANCE_CLASSES
  right = ', '.join(f'{label} {name}' for name, label in ids.items())
  for category in dataset['categories']:
    if ids.get(category['name']) != category['id']:
      raise errors.InputError(
          f'category {category["id"]!r} {category["name"]!r} is none of '
          f'Cityscapes: {right}')
  images = {image['id']: (image, []) for image in dataset['images']}
  frames = {}
  for image, _ in images.values():
    _, frame = parsed_name(image)
    other = frames.setdefault(frame, image['id'])
    if other != image['id']:
      raise errors.InputError(
          f'images {other!r} and {image["id"]!r} are both the frame {frame}; '
          'each frame should be there once')
    if not (image.get('height') and image.get('width')):
      raise errors.InputError(f'image {image["id"]!r} ({image["file_name"]}): '
                              'has no height and width, which masks need')
    # Pillow opens no larger image: nobody has masks of one.
    if image['height'] * image['width'] > image_bytes.MOST_PIXELS:
      raise errors.InputError(
          f'image {image["id"]!r} ({image["file_name"]}): its size is '
          f'{image["width"]}x{image["height"]}; it should have at most '
          f'{image_bytes.MOST_PIXELS} pixels')
  for index, result in enumerate(results):
    if result['image_id'] not in images:
      raise errors.InputError(
          f'result {index}: image_id {result["image_id"]!r:.60} is not in the '
          f'annotations, whose ids are like {next(iter(images), None)!r}')
    if result['category_id'] not in ids.values():
      raise errors.InputError(
          f'result {index}: category_id {result["category_id"]!r:.60} is none '
          f'of Cityscapes: {right}')
    images[result['image_id']][1].append((index, result))
  return list(images.values())


def truth_path(root, image):
  """Path of the instance ids of a COCO image."""
  folder, frame = parsed_name(image)
  return os.path.join(root, 'gtFine', folder, f'{frame}_gtFine_instanceIds.png')


def parsed_name(image):
  """('val/aachen', 'aachen_000000_000019') of a COCO image of Cityscapes."""
  match = _FILE_NAME.fullmatch(image['file_name'])
  if not match:
    raise errors.InputError(
        f'image {image["id"]!r}: file_name {image["file_name"]!r} should be '
        'like leftImg8bit/val/aachen/aachen_000000_000019_leftImg8bit.png')
  return match.groups()


def mask_rle(index, result, image):
  """A result's mask as compressed RLE, checked to be of its image's size."""
  where = f'result {index}: image {image["id"]!r} ({image["file_name"]})'
  if not result.get('segmentation'):
    raise errors.InputError(f'{where}: no segmentation; Cityscapes scores '
                            'masks, each an RLE of its image\'s size')
  try:
    return segmentation.checked_rle(
        result['segmentation'], image['height'], image['width'])
  except ValueError as error:
    raise errors.InputError(f'{where}: segmentation {error!s:.150}') from error
