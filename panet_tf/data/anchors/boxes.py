"""Boxes of a COCO file at the scale at which the network sees them."""

import dataclasses

import numpy as np
import tqdm

from panet_tf import errors
from panet_tf.data import coco_json


@dataclasses.dataclass(frozen=True)
class NetworkInput:
  """How evaluation scales an image (parser.eval_image); defaults section 4.2's.

  Training may draw other scales (`panet_coco`: shorter edge 400 to 1400, whose
  geometric middle is 748), all around this one.

  Attributes:
    input_size: (height, width) images are fitted into where short_edge is 0.
    short_edge: of the scaled image, pixels.
    long_edge: at most this; wins over short_edge.
    canvas: (height, width) that an image scaled by edges must fit into, or ().
  """
  input_size: tuple = (1024, 1024)
  short_edge: int = 800
  long_edge: int = 1000
  canvas: tuple = ()

  def replaced(self, input_size=None, short_edge=None, long_edge=None):
    """The same with what a person asked for, None for what stays.

    A size is text, 'HEIGHT,WIDTH', and excludes the edges, in pixels.
    InputError names the option that is wrong.
    """
    edges = {'short_edge': short_edge, 'long_edge': long_edge}
    edges = {name: edge for name, edge in edges.items() if edge is not None}
    if edges and input_size is not None:
      raise errors.InputError(
          'input_size: images are fitted into it or scaled by edges; it cannot '
          f'go with {" and ".join(edges)}')
    if input_size is not None:
      sides = input_size.split(',')
      if len(sides) != 2 or not all(
          s.isdecimal() and len(s) < 7 and int(s) for s in sides):
        raise errors.InputError(f'input_size: {input_size!r:.60}, should be '
                                'HEIGHT,WIDTH, as in 256,256')
      return NetworkInput(tuple(map(int, sides)), 0, 0)
    result = dataclasses.replace(self, **edges)
    if edges and min(result.short_edge, result.long_edge) < 1:
      raise errors.InputError(f'short_edge {result.short_edge}, long_edge '
                              f'{result.long_edge}: both should be at least 1')
    return result

  def scaled(self, height, width):
    """Height and width of a scaled image, whole pixels."""
    if self.short_edge:
      scale = min(self.short_edge / min(height, width),
                  self.long_edge / max(height, width))
      if self.canvas:
        scale = min(scale, self.canvas[0] / height, self.canvas[1] / width)
    else:
      scale = min(self.input_size[0] / height, self.input_size[1] / width)
    return max(round(height * scale), 1), max(round(width * scale), 1)

  def __str__(self):
    """In words, for the report."""
    if self.short_edge:
      return (f'shorter edge {self.short_edge}, longer edge at most '
              f'{self.long_edge}' + (
                  ', inside {}x{} (height x width)'.format(*self.canvas)
                  if self.canvas else ''))
    return 'fitted into {}x{} (height x width)'.format(*self.input_size)


def read_boxes(annotations, network_input):
  """Boxes of a COCO instances file as the network sees them.

  Returns:
    boxes [4, N] yxyx, network-input pixels; areas [N], original-image pixels,
    by COCO's measure; how many annotations were left out as crowd, and how many
    as outside their image.

  Raises:
    InputError: naming the file and the field or id; also without any box.
  """
  dataset = coco_json.read(annotations)
  images = {image['id']: image for image in dataset['images']}
  boxes, areas, crowds = [], [], 0
  for annotation in tqdm.tqdm(
      dataset['annotations'], desc='boxes', mininterval=1):
    if annotation.get('iscrowd'):
      crowds += 1
      continue
    image = images[annotation['image_id']]
    height, width = image.get('height'), image.get('width')
    if not (height and width):
      raise errors.InputError(
          f'{annotations}: image {image["id"]!r}: `height` and `width` are '
          'missing; anchors cannot do without')
    try:
      rle = None
      if annotation.get('bbox') is None or annotation.get('area') is None:
        rle = coco_json.annotation_mask_rle(annotation, height, width)
      box = coco_json.annotation_box(annotation, rle, height, width)
    except errors.InputError as e:
      raise errors.InputError(f'{annotations}: {e}') from e
    if box is not None:
      scaled = network_input.scaled(height, width)
      y, x = scaled[0] / height, scaled[1] / width
      boxes.append((box[1] * y, box[0] * x,
                    (box[1] + box[3]) * y, (box[0] + box[2]) * x))
      areas.append(coco_json.annotation_area(annotation, rle, box))
  if not boxes:
    raise errors.InputError(
        f'{annotations}: no boxes; anchors are fitted to at least one that is '
        'no crowd and inside its image')
  outside = len(dataset['annotations']) - crowds - len(boxes)
  return np.array(boxes).T, np.array(areas), crowds, outside
