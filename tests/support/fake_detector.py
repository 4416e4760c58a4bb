"""A detector whose answers follow from the pixels, and that notes its calls."""

import cv2
import numpy as np
from PIL import Image

from panet_tf import errors
from panet_tf.inference import detector
from panet_tf.structures import detections


class FakeDetector(detector.Detector):
  """Finds two objects, placed by the image's first pixel.

  Attributes:
    batches: first pixel of each image, of every call.
  """
  categories = [{'label': 1, 'id': 7, 'name': 'thing'},
                {'label': 2, 'id': 3, 'name': 'other'}]

  def __init__(self, at_call=(), sees_batch=False):
    """`at_call`: number of a call -> what to do in it; `sees_batch`: scores
    depend on what else is in the batch, as a model's last digits do."""
    self.batches, self._at_call = [], dict(at_call)
    self._sees_batch = sees_batch

  def _detect_many(self, images):
    values = [int(image[0, 0, 0]) for image in images]
    self.batches.append(values)
    self._at_call.get(len(self.batches), lambda: None)()
    return [self._found(image, sum(values) * self._sees_batch)
            for image in images]

  def _detect(self, image):
    return self._detect_many([image])[0]

  def _found(self, image, batch):
    value = int(image[0, 0, 0])
    if value == 255:
      raise errors.InputError('white as snow')
    y, x = value % 5, value % 3
    return detections.Detections.from_outputs({
        'detection_boxes': np.float32(
            [[y, x, y + 8, x + 9], [2, 1, 9, 11]]) + np.float32(1 / 3),
        'detection_scores': np.float32(
            [0.9 - value / 1000 - batch / 1e5, 0.25]),
        'detection_classes': np.int32([1 + value % 2, 2]),
        'detection_masks': np.stack([
            np.tri(28, 28, value % 28 - 14), np.eye(28)]).astype(np.float32)
    }, image.shape[:2])


def write_images(folder, values, size=(16, 20)):
  """Images 00.png, 01.png, ... of one grey each; their names."""
  folder.mkdir(parents=True, exist_ok=True)
  names = [f'{number:02d}.png' for number in range(len(values))]
  for name, value in zip(names, values, strict=False):
    Image.fromarray(np.full([*size, 3], value, np.uint8)).save(folder / name)
  return names


def write_video(path, num_frames, size=(32, 48), rate=12.5):
  """A video whose frames become lighter."""
  path.parent.mkdir(parents=True, exist_ok=True)
  writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), rate,
                           size[::-1])
  for number in range(num_frames):
    writer.write(np.full([*size, 3], 5 * number, np.uint8))
  writer.release()


def read_video(path):
  """Frames [N, H, W, 3], BGR, and frames per second."""
  capture = cv2.VideoCapture(str(path))
  frames = []
  while (read := capture.read())[0]:
    frames.append(read[1])
  return np.array(frames), capture.get(cv2.CAP_PROP_FPS)
