"""`panet propose`: the boxes of an RPN, for models that train without one.

Section 4.1: "proposals are from an independently trained RPN".
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
import json
import os
import time
from typing import Any, BinaryIO

import tqdm

from panet_tf import errors
from panet_tf import files
from panet_tf.configs import overrides as overrides_lib
from panet_tf.data import coco_json
from panet_tf.data import proposal_files
from panet_tf.data import tfrecord
from panet_tf.prediction import frames
from panet_tf.prediction import image_files
from panet_tf.structures import detections

_READ_AHEAD = 4  # Images.
_Found = tuple[Any, detections.Detections]  # Image id, and its proposals.


def propose(model: str, output: str, *, images: Sequence[str] = (),
            shards: str = '', annotations: str = '',
            overrides: overrides_lib.Overrides = overrides_lib.NONE,
            num_proposals: int = 2000):
  """Writes one file with the proposals of all images.

  Args:
    model: checkpoint of the experiment panet_rpn, or of a whole model.
    output: .json for COCO results, .tfrecord for one record per image; what
      `dataloaders.proposals` reads.
    images: folders, globs or files.
    shards: instead of `images`, TFRecord shards; ids are theirs.
    annotations: COCO JSON that gives each file of `images` its id.
    overrides: of the configuration of the model.
    num_proposals: of an image, at most.

  Raises:
    InputError: an argument, image or shard that cannot be used; nothing has
      been written.
  """
  writers = {'.json': _write_json, '.tfrecord': _write_records}
  ending = os.path.splitext(output)[1].lower()
  if ending not in writers:
    raise errors.InputError(
        f'--output {output!r} should end in .json or .tfrecord')
  if num_proposals < 1:
    raise errors.InputError(
        f'--num_proposals is {num_proposals}, should be 1 or more')
  if bool(images) == bool(shards):
    raise errors.InputError('--images or --shards: one of them is needed')
  if shards and annotations:
    raise errors.InputError('--annotations goes with --images; shards have ids')
  if shards:
    paths = tfrecord.shard_paths(shards)
    tfrecord.check_shards(paths)
    from panet_tf.dataloaders import shard_images
    total, pixels = None, shard_images.images(paths, _READ_AHEAD)
  else:
    coco = coco_json.read(annotations)['images'] if annotations else ()
    ids = image_files.image_ids(
        image_files.image_paths(images), annotations, coco)
    total, pixels = len(ids), _of_files(ids)
  from panet_tf.inference import proposer
  rpn = proposer.Proposer(model, num_proposals, overrides)
  files.make_folder(os.path.dirname(output) or '.')
  began, numbers = time.monotonic(), {}

  def found(images):
    for image_id, image in images:
      if str(image_id) in numbers:
        raise errors.InputError(f'image {image_id!r} is there twice; its '
                                'proposals could not be told apart')
      one = rpn(image)
      numbers[str(image_id)] = len(one)
      yield image_id, one

  with files.written_whole(output) as temporary:
    with open(temporary, 'wb') as f, tqdm.tqdm(
        pixels, total=total, unit='image', mininterval=1) as progress:
      writers[ending](f, found(progress))
  seconds = max(time.monotonic() - began, 1e-9)
  print(f'{sum(numbers.values())} proposals of {len(numbers)} images: {output} '
        f'({len(numbers) / seconds:.1f} images/s)')


def _of_files(ids: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
  """(image id, image [H, W, 3] uint8) of files."""
  with futures.ThreadPoolExecutor(_READ_AHEAD) as pool:
    for frame in frames.read_images(ids.items(), pool, _READ_AHEAD):
      if frame.error:
        raise errors.InputError(frame.error)
      yield frame.image_id, frame.pixels


def _write_records(f: BinaryIO, found: Iterable[_Found]):
  for image_id, one in found:
    f.write(proposal_files.record(
        image_id, *one.image_size, one.boxes, one.scores))


def _write_json(f: BinaryIO, found: Iterable[_Found]):
  """A list of COCO results; as it grows, for it may be larger than memory."""
  separator = b'['
  for image_id, one in found:
    for result in one.to_coco(image_id, [1]):
      f.write(separator + b'\n' + json.dumps(result).encode())
      separator = b','
  f.write(b'\n]\n' if separator == b',' else b'[]\n')
