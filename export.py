"""Exports a trained PANet to one serving format, with Model Garden's flags.

  python export.py --checkpoint_path=runs/coco --export_dir=exports/coco \
      --format=saved_model|tflite|onnx|tftrt

The export is run beside the checkpoint on real images, and kept only if both
detect the same.
"""

from absl import app
from absl import flags
from absl import logging

from panet_tf.cli import front_end
from panet_tf.configs import overrides
from panet_tf.serving import export_options
from panet_tf.serving import exporter

flags.DEFINE_string(
    'experiment', '', 'Registered name; default: params.yaml beside the '
    'checkpoint.')
flags.DEFINE_multi_string('config_file', [], 'YAML files, later ones win.')
flags.DEFINE_string('params_override', '', 'YAML text; wins over the files.')
flags.DEFINE_string('checkpoint_path', None,
                    'Folder of a training, or one checkpoint.', required=True)
flags.DEFINE_string('export_dir', None, 'Folder that gets the export.',
                    required=True)
flags.DEFINE_string('format', 'saved_model',
                    f'One of {", ".join(export_options.FORMATS)}.')
flags.DEFINE_string(
    'input_type', '', 'What serving_default of a SavedModel takes: '
    'image_tensor (default), image_bytes, tf_example, or tflite, the '
    "network's own input, which the other formats have.")
flags.DEFINE_integer('batch_size', None, 'Default: any; TFLite has 1.')
flags.DEFINE_string('input_image_size', '', 'HEIGHT,WIDTH that images are '
                    'fitted into. Default: as in evaluation.')
flags.DEFINE_bool('full_image_masks', False,
                  'Boolean masks of the image instead of 28 x 28 in a box.')
flags.DEFINE_string(
    'quant_type', '', 'Of TFLite: fp16, default (int8 weights) or '
    'int8_full_fp32_io (int8 arithmetic, float input and output).')
flags.DEFINE_string('calibration_images', '',
                    'Folder or glob, for int8_full_fp32_io.')
flags.DEFINE_bool('verify', True,
                  'Run the export beside the checkpoint; keep it if both '
                  'detect the same.')
flags.DEFINE_string('verify_images', '', 'Folder or glob; default: the first '
                    'images of the validation shards.')

FLAGS = flags.FLAGS


def main(_):
  """Exports what the flags ask for."""
  logging.set_verbosity(logging.WARNING)
  return front_end.exit_code(_export)


def _export():
  path = exporter.export(
      FLAGS.checkpoint_path, FLAGS.export_dir,
      export_options.Options(**{
          field: FLAGS[field].value
          for field in export_options.Options.__dataclass_fields__}),
      overrides.Overrides(
          FLAGS.experiment, FLAGS.config_file, FLAGS.params_override))
  print(f'written: {path}')


if __name__ == '__main__':
  app.run(main)
