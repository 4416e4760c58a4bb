"""A checkpoint to one serving format, proven before it is put in place."""

import contextlib
import dataclasses
import os
import tempfile
from typing import Any

from panet_tf import errors
from panet_tf import runs
from panet_tf.configs import overrides as overrides_lib
from panet_tf.configs import resolve
from panet_tf.inference import open_model
from panet_tf.inference import predictor
from panet_tf.inference import preprocessing
from panet_tf.inference.exported import model_info
from panet_tf.ops import formulations
from panet_tf.serving import export_formats
from panet_tf.serving import export_images
from panet_tf.serving import export_module
from panet_tf.serving import export_options
from panet_tf.serving.verification import report
from panet_tf.serving.verification import verify

REPORT = 'export_report.json'


def export(checkpoint_path: str, export_dir: str,
           options: export_options.Options,
           overrides: overrides_lib.Overrides = overrides_lib.NONE) -> str:
  """Exports a checkpoint, whole and verified, or not at all.

  Args:
    checkpoint_path: folder of a training, or one checkpoint in it.
    export_dir: gets model.tflite, model.onnx, or the next version of a
      SavedModel with models.config and batching_parameters.txt for TensorFlow
      Serving; and export_report.json.
    options: what to export.
    overrides: of the configuration of the checkpoint.

  Returns:
    Path of the model in export_dir.

  Raises:
    InputError: a mistake in an argument, or an export that is not the model.
  """
  options.check()
  if not export_dir or os.path.lexists(export_dir) and (
      not os.path.isdir(export_dir)):
    raise errors.InputError(
        f'--export_dir is {export_dir!r}; it must be a folder, which may exist')
  run = runs.Run.read(checkpoint_path, overrides, 'export')
  if os.path.realpath(export_dir) == os.path.realpath(
      os.path.dirname(run.checkpoint)):
    raise errors.InputError(
        f'--export_dir {export_dir} is the folder of the training; an export '
        'there would hide its checkpoints')
  options.check_model(run.model_config)
  one_canvas = options.format != 'saved_model' and bool(
      run.task.validation_data.parser.pad_to)
  if one_canvas:
    print(f'note: --format={options.format} has one canvas, of task.model.'
          'input_size or --input_image_size; images of another shape are '
          'padded to it, which GroupNorm sees: they are detected as with '
          'parser.pad_to: 0')
  run.params = resolve.exporting(run.params, options.canvas, one_canvas)
  images = export_images.for_verification(
      options.verify_images, run.task.validation_data.input_path
  ) if options.verify else []
  module = export_module.ExportModule(
      run, formulations.BUILTIN if options.format == 'tflite'
      else formulations.SAVED)
  description = model_info.ModelInfo(
      run.categories, preprocessing.Preprocessing.from_dict(
          module.parser.eval_rule()),
      run.model_config.include_mask, options.full_image_masks,
      run.model_config.legacy_boxes)
  with _scratch(os.path.realpath(export_dir)) as folder:
    written = export_formats.write(
        module, description, folder, export_formats.next_version(export_dir),
        options)
    name = os.path.basename(written.path)
    print(f'built: {name}', flush=True)
    if options.verify:
      _verify(run, written, images, folder, overrides.experiment, options)
    _move(folder, export_dir)
  return os.path.join(export_dir, name)


def _verify(run, written, images, folder, experiment, options):
  names, pixels = zip(*images, strict=True)
  reference = predictor.Predictor(run)
  exported: Any = open_model.open_model(written.path)
  tolerance = verify.TOLERANCES[written.kind]
  figures = verify.compare(reference, exported, pixels, tolerance, names=names)
  verify.check(figures, tolerance, written.kind)
  print(report.summary(report.write(
      os.path.join(folder, REPORT), kind=written.kind,
      checkpoint=run.checkpoint, experiment=experiment or 'of params.yaml',
      canvas=exported.info.preprocessing.canvas, figures=figures,
      tolerance=tolerance, sizes=report.file_sizes(folder), ops=written.ops,
      options=dataclasses.asdict(options),
      latency=report.measure_latency(reference, exported, pixels))), flush=True)


@contextlib.contextmanager
def _writing(export_dir):
  """InputError for what the disk refuses."""
  try:
    yield
  except OSError as e:
    raise errors.InputError(
        f'--export_dir {export_dir}: {e.strerror}; expected a folder that can '
        'be written') from e


@contextlib.contextmanager
def _scratch(export_dir):
  """A temporary folder on the same disk, gone in the end."""
  # Inside, if it exists: it may be all of a disk, and servers look at numbers.
  inside = os.path.isdir(export_dir)
  parent = export_dir if inside else os.path.dirname(export_dir)
  with _writing(export_dir):
    os.makedirs(parent, exist_ok=True)
    scratch = tempfile.TemporaryDirectory(
        '.tmp', 'export.', parent, ignore_cleanup_errors=True)
  with scratch as folder:
    os.chmod(folder, 0o755)  # A server runs as another user.
    yield folder


def _move(folder, export_dir):
  """The model first: a server takes up a version as soon as it is there."""
  with _writing(export_dir):
    os.makedirs(export_dir, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
      os.remove(os.path.join(export_dir, REPORT))  # It was of another export.
    names = sorted(os.listdir(folder), key=lambda name: (
        name == REPORT, '.' in name and not name.startswith('model.')))
    for name in names:
      os.rename(os.path.join(folder, name), os.path.join(export_dir, name))
