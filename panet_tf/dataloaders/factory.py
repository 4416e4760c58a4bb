"""Configuration to parser: how a model wants its images and labels."""

from panet_tf.configs import canvases as canvases_lib
from panet_tf.configs import panet as panet_config
from panet_tf.dataloaders import image_scaling
from panet_tf.dataloaders import parser as panet_parser

# Of `configs.data.ParserConfig`, under the same names.
_OPTIONS = (
    'short_edge', 'short_edge_choices', 'long_edge', 'pad_to',
    'rpn_match_threshold', 'rpn_unmatched_threshold', 'rpn_batch_size_per_im',
    'rpn_fg_fraction', 'aug_rand_hflip', 'aug_rand_vflip', 'aug_scale_min',
    'aug_scale_max', 'skip_crowd_during_training', 'max_num_instances',
    'mask_crop_size', 'aligned_masks')


def pixels_of(model: panet_config.PANet) -> image_scaling.Pixels:
  """How a model sees pixels."""
  pixels = model.pixels
  default = image_scaling.DEFAULT_PIXELS
  return image_scaling.Pixels(
      pixels.color_order, tuple(pixels.mean) or default.mean,
      tuple(pixels.stddev) or default.stddev, model.legacy_boxes)


def build_parser(model: panet_config.PANet,
                 data: panet_config.DataConfig) -> panet_parser.Parser:
  """The parser of a data configuration for a model configuration."""
  options = data.parser
  return panet_parser.Parser(
      input_size=model.input_size,
      min_level=model.min_level,
      max_level=model.max_level,
      **model.anchor.as_dict(),
      **{name: getattr(options, name) for name in _OPTIONS},
      canvases=canvases_lib.parse_canvases(options, data.is_training),
      include_mask=model.include_mask and data.is_training,
      dtype=data.dtype,
      pixels=pixels_of(model),
      num_proposals=num_proposals(model, data),
      boxes=model.box_convention)


def num_proposals(model: panet_config.PANet,
                  data: panet_config.DataConfig) -> int:
  """Stored proposals that a model takes of an image; 0: it makes its own."""
  if model.stages != 'detector':
    return 0
  generator = model.roi_generator
  return (generator.num_proposals if data.is_training
          else generator.test_num_proposals)
