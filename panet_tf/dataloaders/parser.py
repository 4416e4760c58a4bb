"""Decoded example to network input and Model Garden's labels.

Replaces Model Garden's Mask R-CNN parser, for three reasons: the paper's
multi-scale training draws a shorter edge per image (section 4.2); masks and
RPN targets take a fraction of the time (`mask_targets`, `rpn_targets`), which
starves no accelerator; and a mask's target is sampled at the centres of its
cells (theirs is half an image pixel off, which small objects feel). Randomness
is stateless and comes from the example's own seed, so that a seeded run sees
the same examples however many threads read.
"""

import functools
from typing import Any

import numpy as np
from official.vision.dataloaders import parser as official_parser
from official.vision.dataloaders import utils as dataloader_utils
from official.vision.ops import box_ops
from official.vision.ops import preprocess_ops
import tensorflow as tf

from panet_tf.configs import canvases as canvases_lib
from panet_tf.configs import panet as panet_config
from panet_tf.dataloaders import image_scaling
from panet_tf.dataloaders import mask_targets
from panet_tf.dataloaders import placement
from panet_tf.dataloaders import rpn_targets
from panet_tf.model_garden import records


class Decoder(records.Decoder):
  """Model Garden's decoder, but masks stay encoded until they are cropped."""

  def __init__(self, include_mask, regenerate_source_id=False):
    """Takes two of the arguments of Model Garden's."""
    super().__init__(
        regenerate_source_id, mask_targets.FEATURES if include_mask else {},
        mask_targets.encoded_masks if include_mask else None)


class Parser(official_parser.Parser):
  """Parser for training and evaluation; AutoGraph has nothing to do in it."""

  def __init__(self, model: panet_config.PANet, data: panet_config.DataConfig,
               pixels: image_scaling.Pixels, num_proposals: int):
    """Keeps what to make of an example.

    Args:
      model: whose input and labels they become.
      data: how; masks are for training only.
      pixels: how they are normalised.
      num_proposals: of an example's `proposals`, [n, 4] yxyx edges in pixels of
        the image, that come in the place of anchors and RPN targets; 0 has
        none.
    """
    self._options = options = data.parser
    self._pixels, self._dtype = pixels, data.dtype
    self._edges = [*options.short_edge, *options.short_edge_choices]
    self._input_size = list(model.input_size[:2])
    self._canvases = [
        canvases_lib.canvas_size(canvas, 0) for canvas in
        canvases_lib.parse_canvases(options, data.is_training)]
    if not self._canvases:
      self._canvases = [canvases_lib.canvas_size(
          self._input_size, options.long_edge if self._edges else 0)]
    self._anchor_boxes = functools.partial(
        model.box_convention.anchors, min_level=model.min_level,
        max_level=model.max_level, **model.anchor.as_dict())
    self._num_proposals = num_proposals
    self._place_proposals = functools.partial(
        placement.place_proposals, most=num_proposals,
        convention=model.box_convention)
    self._targets = {}  # Of each canvas.
    self._include_mask = model.include_mask and data.is_training
    self.pad_to = options.pad_to

  @tf.autograph.experimental.do_not_convert
  def eval_image(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """An image [H, W, 3] uint8 as evaluation and prediction see it."""
    return self._on_canvas(image, self._eval_scale(image), self._canvases[0])

  @tf.autograph.experimental.do_not_convert
  def predict_image(self, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The same on as small a canvas as `pad_to` says, if it does."""
    scale, canvas = self._eval_scale(image), self._canvases[0]
    if self.pad_to:
      scaled = tf.round(tf.cast(tf.shape(image)[:2], tf.float32) * scale)
      tight = self.pad_to * tf.cast(
          tf.math.ceil(tf.maximum(scaled, 1.0) / self.pad_to), tf.int32)
      canvas = tf.unstack(tf.minimum(tight, canvas))
    return self._on_canvas(image, scale, canvas)

  def _eval_scale(self, image):
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    if not self._edges:
      return self._fit(size)
    return self._scale_for_edges(size, max(self._edges))

  def _on_canvas(self, image, scale, canvas):
    image, image_info = image_scaling.resize_to_canvas(
        image, scale, canvas, pixels=self._pixels)
    return tf.cast(image, self._dtype), image_info

  def eval_rule(self) -> dict[str, object]:
    """`eval_image` in words: fields of `inference.preprocessing`."""
    return {
        'canvas': [int(edge) for edge in self._canvases[0]],
        'fit': None if self._edges else list(self._input_size),
        'short_edge': max(self._edges) if self._edges else None,
        'long_edge': self._options.long_edge if self._edges else None,
        'color_order': self._pixels.color_order,
        'mean': list(self._pixels.mean),
        'stddev': list(self._pixels.stddev),
        'exact_scale': self._pixels.exact_scale,
    }

  def anchors(self) -> dict[str, tf.Tensor]:
    """Anchors of the (first) canvas, {'2'..'6'}: [h, w, 4 * anchors]."""
    return self._anchor_boxes(image_size=self._canvases[0])

  def _fit(self, image_size):
    return tf.reduce_min(tf.cast(self._input_size, tf.float32) / image_size)

  def _scale_for_edges(self, image_size, short_edge):
    """As the edges say, but no larger than the roomiest canvas."""
    room = tf.reduce_min(self._canvases / image_size, 1)
    scale = image_scaling.scale_for_edges(
        image_size, short_edge, self._options.long_edge)
    return tf.minimum(scale, tf.reduce_max(room))

  def _train_scale(self, image_size, seed):
    options = self._options
    if options.short_edge_choices:
      short_edge = tf.gather(
          tf.constant(options.short_edge_choices, tf.float32),
          tf.random.stateless_uniform(
              [], seed, 0, len(options.short_edge_choices), tf.int32))
      return self._scale_for_edges(image_size, short_edge)
    if options.short_edge:
      least, most = options.short_edge
      short_edge = tf.random.stateless_uniform([], seed, least, most)
      return self._scale_for_edges(image_size, short_edge)
    low, high = options.aug_scale_min, options.aug_scale_max
    return self._fit(image_size) * (
        tf.random.stateless_uniform([], seed, low, high)
        if high > low else low)

  def _rpn_targets(self, canvas):
    if canvas not in self._targets:
      with tf.init_scope():  # Anchors as arrays, also while a graph is built.
        anchors = {level: boxes.numpy() for level, boxes in
                   self._anchor_boxes(image_size=canvas).items()}
      self._targets[canvas] = rpn_targets.RPNTargets(
          anchors, self._options.rpn_match_threshold,
          self._options.rpn_unmatched_threshold,
          self._options.rpn_batch_size_per_im, self._options.rpn_fg_fraction)
    return self._targets[canvas]

  def _objects(self, data):
    """Boxes in 0..1, classes and, for a mask branch, masks to learn from."""
    fields = ['boxes', 'classes'] + ['instance_masks'] * self._include_mask
    fields = [data[f'groundtruth_{field}'] for field in fields]
    if not self._options.skip_crowd_during_training:
      return fields
    keep = tf.logical_not(data['groundtruth_is_crowd'])
    return tf.nest.map_structure(lambda x: tf.boolean_mask(x, keep), fields)

  @tf.autograph.experimental.do_not_convert
  def _parse_train_data(self, data):
    """Image and labels of one training example; see Model Garden's parser.

    With several canvases it lies on the smallest one that has room for it.
    """
    seeds = tf.random.split(data['random_seed'], 4)
    image_size = tf.cast(tf.shape(data['image'])[:2], tf.float32)
    scale = self._train_scale(image_size, seeds[1])
    on_canvas = [functools.partial(
        self._train_example, data, scale, seeds, tuple(canvas))
                 for canvas in sorted(self._canvases, key=np.prod)]
    if len(on_canvas) == 1:
      return on_canvas[0]()
    scaled = tf.round(image_size * scale)
    room = tf.reduce_all(sorted(self._canvases, key=np.prod) >= scaled, 1)
    return tf.switch_case(tf.argmax(room, output_type=tf.int32), on_canvas)

  def _train_example(self, data, scale, seeds, canvas):
    boxes, classes, *masks = self._objects(data)
    image = data['image']
    image_size = tf.cast(tf.shape(image)[:2], tf.float32)
    flips = tf.logical_and(
        tf.random.stateless_uniform([2], seeds[0]) < 0.5,
        (self._options.aug_rand_vflip, self._options.aug_rand_hflip))

    image = placement.flip_pixels(image, flips)
    image, image_info = image_scaling.resize_to_canvas(
        image, scale, list(canvas), tf.random.stateless_uniform([2], seeds[2]),
        self._pixels)
    _, _, scale, offset = tf.unstack(image_info)
    pixels = placement.place_boxes(boxes, flips, image_info)
    present = box_ops.get_non_empty_box_indices(pixels)
    pixels, classes = tf.gather(pixels, present), tf.gather(classes, present)

    labels: dict[str, Any] = {
        'image_info': image_info,
        'gt_boxes': self._pad(pixels),
        'gt_classes': self._pad(classes),
    }
    if self._num_proposals:
      labels['proposals'] = self._place_proposals(
          data['proposals'], flips, image_info)
    else:
      # All objects, also those beyond max_num_instances: an anchor on one of
      # them is no background.
      labels['rpn_score_targets'], labels['rpn_box_targets'] = (
          self._rpn_targets(canvas)(pixels, seeds[3]))
      labels['anchor_boxes'] = self._anchor_boxes(image_size=canvas)
    if self._include_mask:
      most = self._options.max_num_instances
      kept = present[:most]
      back = (pixels[:most] + tf.tile(offset, [2])
             ) / tf.tile(image_size * scale, [2])
      crops = mask_targets.masks_in_boxes(
          {key: tf.gather(value, kept) for key, value in masks[0].items()},
          placement.flip_boxes(back, flips) * tf.tile(image_size, [2]),
          tf.shape(data['image'])[:2], self._options.mask_crop_size,
          self._options.aligned_masks)
      labels['gt_masks'] = self._pad(placement.flip_pixels(crops, flips, 1))
    return tf.cast(image, self._dtype), labels

  def _pad(self, tensor):
    return preprocess_ops.clip_or_pad_to_fixed_size(
        tensor, self._options.max_num_instances, -1)

  @tf.autograph.experimental.do_not_convert
  def _parse_eval_data(self, data):
    """Image and labels of one evaluation example: no ground truth in it."""
    image, image_info = self.eval_image(data['image'])
    labels = {
        'image_info': image_info,
        'source_id': dataloader_utils.process_source_id(data['source_id']),
    }
    if self._num_proposals:
      labels['proposals'] = self._place_proposals(
          data['proposals'], (False, False), image_info)
    return image, labels
