"""Configuration to parser: how a model wants its images and labels."""

from panet_tf.configs import panet as panet_config
from panet_tf.dataloaders import image_scaling
from panet_tf.dataloaders import parser as panet_parser


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
  return panet_parser.Parser(
      model, data, pixels_of(model), num_proposals(model, data))


def num_proposals(model: panet_config.PANet,
                  data: panet_config.DataConfig) -> int:
  """Stored proposals that a model takes of an image; 0: it makes its own."""
  if model.stages != 'detector':
    return 0
  generator = model.roi_generator
  return (generator.num_proposals if data.is_training
          else generator.test_num_proposals)
