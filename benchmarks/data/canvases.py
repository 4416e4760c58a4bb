"""How much of a multi-scale batch is padding, by the canvases that it may use.

Only the sizes of images are read, and scales drawn as the parser draws them.

  python benchmarks/data/canvases.py --annotations=instances_train2017.json \
      [--canvases=1408x1408,1088x1408,1408x1088]
"""

from absl import app
from absl import flags
import numpy as np

from panet_tf.data import coco_json

FLAGS = flags.FLAGS
flags.DEFINE_multi_string('annotations', None, 'COCO JSON; may be given twice.',
                          required=True)
flags.DEFINE_list('canvases', ['1408x1408'], 'HEIGHTxWIDTH, comma-separated.')
flags.DEFINE_list('short_edge', ['400', '1400'], 'Range of the shorter edge.')
flags.DEFINE_integer('long_edge', 1400, 'Limit of the longer edge.')
flags.DEFINE_integer('draws', 200, 'Scales drawn for each image.')


def main(_):
  images = [image for path in FLAGS.annotations
            for image in coco_json.read(path)['images']]
  sizes = np.repeat([(i['height'], i['width']) for i in images], FLAGS.draws, 0)
  low, high = map(int, FLAGS.short_edge)
  short_edge = np.random.default_rng(0).uniform(low, high, len(sizes))
  scale = np.minimum(short_edge / sizes.min(1), FLAGS.long_edge / sizes.max(1))
  scaled = np.round(sizes * scale[:, np.newaxis])
  canvases = np.array([[int(edge) for edge in canvas.split('x')]
                       for canvas in FLAGS.canvases])
  areas = np.where((canvases >= scaled[:, np.newaxis]).all(2),
                   canvases.prod(1), np.inf).min(1)
  print(f'{len(images)} images, {len(canvases)} canvases: '
        f'padding {1 - scaled.prod(1).sum() / areas.sum():.0%}, '
        f'{areas.mean() / FLAGS.long_edge**2:.2f} of {FLAGS.long_edge} squared')


if __name__ == '__main__':
  app.run(main)
