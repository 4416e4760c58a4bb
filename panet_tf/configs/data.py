"""The options of what is read: shards, and how their images are scaled."""

import dataclasses
from typing import Any

from official.vision.configs import maskrcnn

from panet_tf import errors
from panet_tf.configs import canvases


@dataclasses.dataclass
class ParserConfig(maskrcnn.Parser):
  """Model Garden's parser options, and image scales by edge.

  Attributes:
    short_edge: range of the shorter edge in pixels, drawn uniformly per image
      while training; its upper end is used for evaluation. Empty: images are
      fitted into `model.input_size` and jittered by aug_scale_min/max.
    short_edge_choices: shorter edges in ascending order, each as likely,
      instead of the range; evaluation uses the last.
    long_edge: the longer edge is at most this; wins over the shorter one.
    canvases: HEIGHTxWIDTH of padded inputs, for images scaled by edges: one for
      all, or several for training. Then each image lies on the smallest with
      room for it, a batch holds images of one canvas, and none is left out.
      Empty: one square canvas of side `long_edge`.
    pad_to: `panet predict`, `panet evaluate` and `train.py --mode=eval` pad an
      image to multiples of this many pixels only, one image at a time, instead
      of to the canvas: GroupNorm sees the padding. Evaluation during a training
      and exports have one canvas. 0: the canvas, always.
    aligned_masks: mask targets sampled at the centres of their cells. False is
      Model Garden's crop, up to half an image pixel off.
  """
  short_edge: list[int] = dataclasses.field(default_factory=list)
  short_edge_choices: list[int] = dataclasses.field(default_factory=list)
  long_edge: int = 0
  canvases: list[str] = dataclasses.field(default_factory=list)
  pad_to: int = 0
  aligned_masks: bool = True

  def check(self, model: Any, is_training: bool):
    """Raises InputError for a value that no image can be prepared with.

    It depends on the `configs.panet.PANet` that sees the images.
    """
    if self.aug_type and self.aug_type.type:
      raise errors.InputError(
          'parser.aug_type is set; AutoAugment and RandAugment are not '
          'supported')
    stride = model.box_convention.pad_multiple
    if self.pad_to < 0 or self.pad_to % stride:
      raise errors.InputError(
          f'parser.pad_to is {self.pad_to}; it must be a multiple of {stride}')
    canvases.parse_canvases(self, is_training)


@dataclasses.dataclass
class DataConfig(maskrcnn.DataConfig):
  """Shards made by `panet data`, or by Model Garden's own converter.

  Of Model Garden's fields:
    cache: keeps records in memory, as stored, after the first epoch. Model
      Garden would keep what the parser made of them: several times the memory,
      and one scale and flip of each image for the whole run.
    enable_tf_data_service, tf_data_service_address, tf_data_service_job_name:
      the service's workers read and parse, each all shards. `seed` then has no
      effect, and `task.seed` must be unset: they would send the same examples.
    shuffle_buffer_size: records, as stored.

  Attributes:
    class_balanced: training reads an image as often as if one drew a class
      first, all that occur being equally likely, and then one of its images;
      see `dataloaders.sampling`. All shards are read once before the start.
      Copies of a record are apart by what `shuffle_buffer_size` gives, which
      should be many times their number.
    proposals: for a model whose `stages` is detector: file, or glob of
      .tfrecord files, with the boxes of every image, as of `panet propose`;
      see `dataloaders.proposals`.
  """
  dtype: str = 'float32'
  parser: ParserConfig = dataclasses.field(default_factory=ParserConfig)
  class_balanced: bool = False
  proposals: str = ''
  shuffle_buffer_size: int = 1000

  @property
  def regenerate_source_id(self) -> bool:
    """Whether records are numbered anew, see Model Garden's decoder."""
    decoder: Any = self.decoder
    return decoder.get().regenerate_source_id

  def check(self, task: Any):
    """Raises InputError for shards that a `PANetTask` cannot read."""
    if self.decoder.type != 'simple_decoder':
      raise errors.InputError(
          f'decoder.type is {self.decoder.type!r}; it must be '
          'simple_decoder: names of categories come with the shards')
    if self.enable_tf_data_service and task.seed is not None:
      raise errors.InputError(
          f'task.seed is {task.seed}, but enable_tf_data_service is set: all '
          'workers of the service would send the same examples; task.seed must '
          'be null')
    if self.class_balanced and not self.is_training:
      raise errors.InputError(
          'task.validation_data.class_balanced is set; evaluation takes every '
          'image once: only task.train_data can be balanced')
    self.parser.check(task.model, self.is_training)
