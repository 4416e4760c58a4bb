"""Times drawing 100 instances on a picture of 1920 x 1080.

Prints a markdown table: `python benchmarks/output/drawing.py`.
"""

import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import numpy as np

from panet_tf.drawing import pictures
from panet_tf.structures import box_masks
from panet_tf.structures import detections
from panet_tf.structures import mask_windows

HEIGHT, WIDTH, COUNT, REPEATS = 1080, 1920, 100, 10


def make_inputs():
  """An image and detections of 8 classes with disks in 28 x 28."""
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
  sizes = rng.integers(20, 250, (COUNT, 2))
  corners = rng.uniform(0, 1, (COUNT, 2)) * ([HEIGHT, WIDTH] - sizes)
  y, x = np.mgrid[:28, :28]
  disk = np.hypot(y - 13.5, x - 13.5) < 13
  boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
  return image, detections.Detections(
      boxes, np.linspace(0.99, 0.5, COUNT, dtype=np.float32),
      rng.integers(1, 9, COUNT, dtype=np.int32), (HEIGHT, WIDTH),
      box_masks.BoxMasks(
          np.array([disk] * COUNT, np.float32), boxes, (HEIGHT, WIDTH)))


def main():
  image, found = make_inputs()
  kinds = {
      'windows': found.masks.windows(),
      'full images, [100, 1080, 1920]': found.masks.images(),
      'of the boxes, [100, 28, 28]': found.masks,
      'none': None}
  # 100 labels of a letter fit; those of usual names do not, and get a legend.
  texts = {'100 labels': '', 'legend': 'motorcycle '}
  print('| masks | text | best, s | median, s |\n|---|---|---|---|')
  for kind, masks in kinds.items():
    for text, name in texts.items():
      names = {label: f'{name}{label}' for label in range(1, 9)}
      seconds = []
      for _ in range(REPEATS):
        start = time.perf_counter()
        found.masks = (mask_windows.of_images(masks)
                       if isinstance(masks, np.ndarray) else masks)
        pictures.draw_detections(image, found, names)
        seconds.append(time.perf_counter() - start)
      print(f'| {kind} | {text} | {min(seconds):.3f} | '
            f'{statistics.median(seconds):.3f} |')


if __name__ == '__main__':
  main()
