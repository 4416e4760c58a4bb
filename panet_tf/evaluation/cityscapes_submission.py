"""COCO results as the folder that the Cityscapes benchmark takes.

One text file per image, with a line `mask file, label id, score` per result,
beside a folder of mask PNGs. Zipped, it is a submission; the benchmark's public
program (cityscapesscripts) reads it as it is.
"""

import os

from panet_tf import files
from panet_tf.data import image_bytes
from panet_tf.data import parallel
from panet_tf.evaluation import cityscapes_results

_MASKS = 'masks'


def write_submission(dataset, results, output_dir, num_workers=None):
  """Writes `{city}_{sequence}_{frame}_leftImg8bit.txt` and `masks/` of it.

  Returns their number. A mask has one bit per pixel, of palette entry 0 outside
  and 1 inside (both look black); the benchmark takes any value but 0 as inside.

  Args:
    dataset: dict, COCO instances of the Cityscapes converter; each of its
      images gets a text file, an empty one without results.
    results: of `coco_results.load_results`, with RLE masks.
    output_dir: made if needed; it appears when all is written.
    num_workers: processes; default one per core, where there is work for it.

  Raises:
    InputError: `output_dir` is not empty or cannot be written, or a result is
      not of this dataset.
  """
  tasks = cityscapes_results.results_per_image(dataset, results)
  with files.folder_written_whole(output_dir) as folder:
    os.mkdir(os.path.join(folder, _MASKS))
    for _ in parallel.with_progress(
        _write_image, [(folder, *task) for task in tasks], num_workers,
        least=cityscapes_results.IMAGES_PER_PROCESS):
      pass
  return len(results)


def _write_image(folder, image, results):
  """One image's text file and masks."""
  _, frame = cityscapes_results.parsed_name(image)
  lines = []
  for number, (index, result) in enumerate(results):
    rle = cityscapes_results.mask_rle(index, result, image)
    # Relative to the text file, which the benchmark splits at spaces.
    mask = f'{_MASKS}/{frame}_{number:04}.png'
    with open(os.path.join(folder, mask), 'wb') as f:
      f.write(image_bytes.mask_png(rle))
    # repr reads back as the very same score: a tie stays a tie.
    score = repr(float(result['score']))
    lines.append(f'{mask} {result["category_id"]} {score}\n')
  with open(os.path.join(folder, f'{frame}_leftImg8bit.txt'), 'w',
            encoding='ascii') as f:
    f.writelines(lines)
