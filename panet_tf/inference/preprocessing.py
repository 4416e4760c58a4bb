"""Image to network input without TensorFlow, as evaluation does it.

The twin of `dataloaders.image_scaling` and `parser.eval_image`, for programs
that run a .tflite or .onnx file: resized by its edges, normalised, padded.
Bilinear resizing is spelled out, because OpenCV's is up to 0.02 of a normalised
unit off TensorFlow's on large images, and ends at edges of 32767 pixels.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

_MAX_EDGE = 16384  # Of a canvas; bounds what a broken file may ask for.


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """A rule; call it with an image.

  Attributes:
    canvas: height and width of the network input.
    fit: [height, width] the image is fitted into; None scales by edges.
    short_edge: the shorter edge becomes this,
    long_edge: unless the longer one gets beyond this or the canvas.
    mean: of each channel of the network's input, in 0..255.
    stddev: of each channel; (image - mean) / stddev is the input.
    color_order: 'rgb' or 'bgr', of the network's input.
    exact_scale: images are enlarged by just the scale, as OpenCV does when it
      gets a factor, not by that between the rounded sizes.
    pad_to: a checkpoint's own canvas is the image at multiples of this; see
      `configs.data.ParserConfig`. A call does not look at it.
  """
  canvas: tuple[int, int]
  fit: tuple[int, int] | None
  short_edge: int | None
  long_edge: int | None
  mean: tuple[float, float, float]
  stddev: tuple[float, float, float]
  color_order: str = 'rgb'
  exact_scale: bool = False
  pad_to: int = 0

  @classmethod
  def of_parser(cls, parser: Any) -> 'Preprocessing':
    """The rule of a `dataloaders.parser.Parser`."""
    return dataclasses.replace(
        cls.from_dict(parser.eval_rule()), pad_to=parser.pad_to)

  def scale(self, height: int, width: int) -> np.float32:
    """Network-input pixels per image pixel."""
    size = np.array([height, width], np.float32)
    if self.fit is not None:
      return np.min(np.array(self.fit, np.float32) / size)
    by_edges = np.float32(self.short_edge) / size.min()
    if np.round(by_edges * size.max()) > self.long_edge:
      by_edges = np.float32(self.long_edge) / size.max()
    return np.minimum(by_edges, np.min(
        np.array(self.canvas, np.float32) / size))

  def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prepares one image, [H, W, 3] uint8, RGB, not empty.

    Gives inputs [1, *canvas, 3] float32 and image_info [1, 4, 2] float32:
    original size, size of the visible part, scale, offset (0).
    """
    size = np.array(image.shape[:2], np.float32)
    scale = self.scale(*image.shape[:2])
    scaled = np.maximum(np.round(size * scale), 1)
    height, width = (int(edge) for edge in scaled)
    steps = ([1 / scale] * 2 if self.exact_scale
             else size / scaled.astype(np.float32))
    # TensorFlow's order: rows first would round otherwise.
    pixels = _resize(_resize(image, 1, width, steps[1]), 0, height, steps[0])
    if self.color_order == 'bgr':
      pixels = pixels[..., ::-1]
    inputs = np.zeros([1, *self.canvas, 3], np.float32)
    inputs[0, :height, :width] = (pixels - np.array(self.mean, np.float32)) * (
        1 / np.array(self.stddev, np.float32))
    image_info = np.stack(
        [size, scaled, self.factors(image.shape[:2], scale),
         np.zeros(2, np.float32)])
    return inputs, image_info[np.newaxis]

  def factors(self, size: Sequence[int], scale: np.float32) -> np.ndarray:
    """From an image of a size to its copy at a scale, [2] float32, yx."""
    if self.exact_scale:
      return np.full(2, scale, np.float32)
    edges = np.array(size, np.float32)
    return np.maximum(np.round(edges * scale), 1) / edges

  @classmethod
  def from_dict(cls, fields: dict[str, Any]) -> 'Preprocessing':
    """From JSON; raises ValueError, KeyError or TypeError if it is broken."""
    canvas, fit = _edges('canvas', fields['canvas']), fields['fit']
    by_edges = fit is None
    if not by_edges:
      fit = _edges('fit', fit)
      if fit[0] > canvas[0] or fit[1] > canvas[1]:
        raise ValueError(f'fit {fit} is larger than canvas {canvas}')
    channels: dict[str, Any] = {
        name: tuple(float(x) for x in fields[name])
        for name in ('mean', 'stddev')}
    numbers = np.array(list(channels.values()))
    if (numbers.shape != (2, 3) or not np.isfinite(numbers).all()
        or numbers[1].min() <= 0):
      raise ValueError('mean and stddev must have three numbers, stddev > 0')
    edges: dict[str, Any] = {
        name: _edge(name, fields[name]) if by_edges else None
        for name in ('short_edge', 'long_edge')}
    order = fields.get('color_order', 'rgb')
    if order not in ('rgb', 'bgr'):
      raise ValueError(f'color_order has {order!r:.40}, not rgb or bgr')
    return cls(canvas=canvas, fit=fit, color_order=order, **edges, **channels,
               exact_scale=fields.get('exact_scale') is True)


def _edges(name, values):
  height, width = values
  return _edge(name, height), _edge(name, width)


def _edge(name, value):
  if type(value) is not int or not 0 < value <= _MAX_EDGE:
    raise ValueError(f'{name} has {value!r:.40}, not in 1..{_MAX_EDGE}')
  return value


def _resize(pixels, axis, length, step) -> np.ndarray:
  """Bilinear with half-pixel centres, float for float what TensorFlow does.

  Pixels [H, W, 3] become [length, W, 3] (axis 0) or [H, length, 3] float32;
  from one of these to the next it is a `step`, in pixels of the image.
  """
  size = pixels.shape[axis]
  if length == size and step == 1:
    return pixels.astype(np.float32)
  place = (np.arange(length, dtype=np.float32) + 0.5) * np.float32(step) - 0.5
  before = np.floor(place)
  weight = (place - before).reshape([-1] + [1] * (2 - axis))
  low, high = (
      np.take(pixels, np.clip(cell, 0, size - 1).astype(int), axis).astype(
          np.float32)
      for cell in (before, np.ceil(place)))
  high -= low
  high *= weight
  high += low
  return high
