"""The images that an export is verified and calibrated on."""

from collections.abc import Iterator
import glob
import itertools

import numpy as np

from panet_tf import errors
from panet_tf.data import image_bytes
from panet_tf.data import shards
from panet_tf.data import tfrecord_file
from panet_tf.prediction import image_files

NUM_VERIFY_IMAGES = 16
NUM_CALIBRATION_IMAGES = 100


def for_calibration(pattern: str) -> Iterator[np.ndarray]:
  """Images [H, W, 3] uint8 of a folder or glob, one at a time; '' has none."""
  paths = image_files.image_paths(
      pattern, '--calibration_images') if pattern else []
  yield from map(image_bytes.read_rgb, paths[:NUM_CALIBRATION_IMAGES])


def for_verification(pattern: str, shards_pattern: str
                    ) -> list[tuple[str, np.ndarray]]:
  """Named images of a folder or glob, '' of shards; InputError if none."""
  if pattern:
    paths = image_files.image_paths(pattern, '--verify_images')
    return [(path, image_bytes.read_rgb(path))
            for path in paths[:NUM_VERIFY_IMAGES]]
  if not shards_pattern or not glob.glob(shards_pattern):
    raise errors.InputError(
        'an export is verified on real images: --verify_images must be a '
        f'folder or glob of some, for there are no validation shards at '
        f'{shards_pattern!r} (--verify=false exports unproven)')
  records = itertools.chain.from_iterable(
      map(tfrecord_file.records, shards.shard_paths(shards_pattern)))
  found = []
  for record in itertools.islice(records, NUM_VERIFY_IMAGES):
    fields = tfrecord_file.parse(record)
    name = fields.get('image/source_id', [b'?'])[0]
    found.append((name.decode(errors='replace'),
                  image_bytes.decode_rgb(fields['image/encoded'][0])))
  if not found:
    raise errors.InputError(
        f'{shards_pattern} has no image to verify an export on; '
        '--verify_images must be a folder or glob of some')
  return found
