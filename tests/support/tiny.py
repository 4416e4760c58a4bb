"""A 64-px PANet, one synthetic batch and the shards of a few scenes."""

import io

import numpy as np
from official.vision.configs import maskrcnn
from PIL import Image
import tensorflow as tf

from panet_tf.configs import panet
from panet_tf.data.sources import shapes
from panet_tf.dataloaders import factory as input_factory
from panet_tf.dataloaders import parser as panet_parser
from panet_tf.training import task as task_lib

SIZE = 64
NUM_CLASSES = 5
_INSTANCES = 6


def params(**overrides) -> panet.PANet:
  """The smallest PANet with every part of the paper; fields by keyword.

  Heads of 8 mask RoIs and 16 box RoIs, ResNet-18 with 8 to 64 channels.
  """
  fields = dict(
      num_classes=NUM_CLASSES,
      input_size=[SIZE, SIZE, 3],
      anchor=maskrcnn.Anchor(anchor_size=4.0),
      backbone=panet.Backbone(model_id=18, width_multiplier=0.125),
      decoder=panet.Neck(num_filters=16),
      roi_align=panet.RoIAlign(use_xla=False),
      rpn_head=maskrcnn.RPNHead(num_filters=16),
      detection_head=maskrcnn.DetectionHead(num_filters=16, fc_dims=24),
      mask_head=maskrcnn.MaskHead(num_filters=16),
      roi_generator=maskrcnn.ROIGenerator(
          num_proposals=32, test_num_proposals=24),
      roi_sampler=maskrcnn.ROISampler(num_sampled_rois=16),
      mask_sampler=maskrcnn.MaskSampler(num_sampled_masks=8),
      detection_generator=maskrcnn.DetectionGenerator(
          max_num_detections=10, pre_nms_score_threshold=0.0))
  return panet.PANet(**(fields | overrides))


def group_params(**overrides) -> panet.PANet:
  """The same with channels that 32 groups divide.

  Into 2 channels each, where a map or vector has one place only: a group of
  one number is always 0.
  """
  fields = dict(
      normalization='group',
      backbone=panet.Backbone(model_id=18, width_multiplier=0.5),
      decoder=panet.Neck(num_filters=32),
      rpn_head=maskrcnn.RPNHead(num_filters=64),
      detection_head=maskrcnn.DetectionHead(num_filters=32, fc_dims=64),
      mask_head=maskrcnn.MaskHead(num_filters=64))
  return params(**(fields | overrides))


def data_config(is_training=True, **parser_fields) -> panet.DataConfig:
  """All 1023 anchors take part: no RPN target is a matter of luck."""
  fields = dict(rpn_batch_size_per_im=2046, max_num_instances=_INSTANCES,
                mask_crop_size=28)
  return panet.DataConfig(
      is_training=is_training, global_batch_size=2,
      parser=panet.ParserConfig(**(fields | parser_fields)))


def task(model=None, **fields) -> task_lib.PANetTask:
  """A task for a model configuration, `params()` by default."""
  return task_lib.PANetTask(panet.PANetTask(
      model=model or params(), train_data=data_config(),
      validation_data=data_config(is_training=False), **fields))


def png(mask) -> bytes:
  """A mask [H, W] of 0 and 1, as the shards hold it."""
  out = io.BytesIO()
  Image.fromarray(np.asarray(mask, np.uint8)).save(out, format='PNG')
  return out.getvalue()


def encoded(masks):
  """Masks [N, H, W] as `parser.Decoder` leaves them, whole images each."""
  return {'png': tf.constant([png(mask) for mask in masks], tf.string),
          'corner': tf.zeros([len(masks), 2], tf.int64)}


def example(seed=0, height=48, width=64, num_objects=3, crowd=(),
            ellipses=True):
  """What `parser.Decoder` makes of a record, and the masks [N, H, W] it has.

  Objects are ellipses (or full rectangles) with whole-pixel boxes.
  """
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, [height, width, 3], np.uint8)
  boxes, masks = np.zeros([num_objects, 4], np.float32), []
  for i in range(num_objects):
    h, w = (int(rng.integers(edge // 4, edge // 2)) for edge in (height, width))
    y, x = int(rng.integers(0, height - h)), int(rng.integers(0, width - w))
    boxes[i] = y, x, y + h, x + w
    yy, xx = np.mgrid[0:height, 0:width] + 0.5
    ellipse = ((yy - y - h / 2) / h)**2 + ((xx - x - w / 2) / w)**2 <= 0.25
    masks.append(ellipse if ellipses else
                 (yy > y) & (yy < y + h) & (xx > x) & (xx < x + w))
  masks = np.array(masks).reshape([num_objects, height, width])
  return {
      'source_id': tf.constant(str(seed)),
      'image': tf.constant(image),
      'height': tf.constant(height, tf.int64),
      'width': tf.constant(width, tf.int64),
      'groundtruth_classes': tf.constant(
          rng.integers(1, NUM_CLASSES, [num_objects]), tf.int64),
      'groundtruth_is_crowd': tf.constant(
          [i in crowd for i in range(num_objects)], tf.bool),
      'groundtruth_area': tf.constant(
          masks.sum((1, 2)), tf.float32),
      'groundtruth_boxes': tf.constant(
          boxes / np.array([height, width, height, width], np.float32)),
      'groundtruth_instance_masks': encoded(masks),
      'random_seed': tf.constant([seed, 1], tf.int64),
  }, masks


def cut_slowly(mask, box, size):
  """NumPy twin: bilinear at cell centres; a pixel's centre is at + 0.5."""
  result = np.zeros([size, size])
  for row in range(size):
    for column in range(size):
      y = box[0] + (row + 0.5) * (box[2] - box[0]) / size - 0.5
      x = box[1] + (column + 0.5) * (box[3] - box[1]) / size - 0.5
      for i in (int(np.floor(y)), int(np.floor(y)) + 1):
        for j in (int(np.floor(x)), int(np.floor(x)) + 1):
          pixel = mask[np.clip(i, 0, mask.shape[0] - 1),
                       np.clip(j, 0, mask.shape[1] - 1)]
          result[row, column] += pixel * (1 - abs(y - i)) * (1 - abs(x - j))
  return result


def parser(model=None, is_training=True, **parser_fields
          ) -> panet_parser.Parser:
  """The real parser, with options by keyword."""
  return input_factory.build_parser(
      model or params(), data_config(is_training, **parser_fields))


def batch(model=None, seeds=(1, 2), **example_fields):
  """Images [2, 64, 64, 3] and labels, ready for `train_step`."""
  parse = parser(model).parse_fn(is_training=True)
  parts = [parse(example(seed, **example_fields)[0]) for seed in seeds]
  return tf.nest.map_structure(lambda *x: tf.stack(x), *parts)


def write_shards(folder, num_images=3, seed=0) -> str:
  """Scenes of 64 px (classes 1..4) as shards; returns their glob."""
  shapes.make_shapes(str(folder / 'train'), num_images, seed, image_size=SIZE)
  return str(folder / 'train-*.tfrecord')
