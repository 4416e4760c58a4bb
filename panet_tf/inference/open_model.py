"""One way to every model: a checkpoint, or an export in its own runtime."""

from collections.abc import Callable, Sequence
import functools
import os

from panet_tf import errors
from panet_tf.configs import overrides as overrides_lib
from panet_tf.inference import detector
from panet_tf.inference.exported import export_files
from panet_tf.inference.exported import runtimes

_FILES = {'.tflite': runtimes.LiteRTPredictor, '.onnx': runtimes.OnnxPredictor}


def open_model(models: str | Sequence[str],
               overrides: overrides_lib.Overrides = overrides_lib.NONE
              ) -> detector.Detector:
  """Opens whatever lies at a path.

  TensorFlow is imported for a SavedModel, Model Garden for a checkpoint.

  Args:
    models: .tflite or .onnx file; SavedModel, or folder of its versions, of
      which the newest is taken; folder that training wrote, or one of its
      checkpoints without .index. Several checkpoints are an ensemble, whose
      first makes the proposals; none, the one that the configuration lists.
    overrides: of the configuration of each checkpoint.

  Raises:
    InputError: there is no model, one that does not open, or options of a
      checkpoint beside an export.
  """
  paths = [models] if isinstance(models, str) else list(models)
  exports = [(path, export) for path in paths if (export := _export(path))]
  if not exports:
    for path in paths:
      _check_checkpoint(path)
    from panet_tf.inference.suite import ensemble
    return ensemble.open_checkpoints(paths, overrides)
  path, export = exports[0]
  if len(paths) > 1:
    raise errors.InputError(
        f'{path} is an exported model; the models of an ensemble must be '
        'checkpoints')
  for option, value in (('experiment', overrides.experiment),
                        ('config_file', overrides.config_files),
                        ('params_override', overrides.params_override)):
    if value:
      raise errors.InputError(
          f'--{option} goes with a checkpoint; {path} is an exported model, '
          'whose configuration is in it')
  return export()


def _export(path: str) -> Callable[[], detector.Detector] | None:
  """Opens an export; None if there is none."""
  if not os.path.isdir(path):
    runtime = _FILES.get(os.path.splitext(path)[1].lower())
    return runtime and functools.partial(runtime, path)
  if not os.path.exists(os.path.join(path, export_files.SAVED_MODEL)):
    versions = export_files.versions(path)
    if not versions:
      return None
    path = os.path.join(path, versions[-1])
  return functools.partial(runtimes.SavedModelPredictor, path)


def _check_checkpoint(path):
  """Raises InputError for a path that is no kind of model."""
  if os.path.isdir(path):
    names = os.listdir(path)
    if not any(name == 'checkpoint' or name.endswith('.index')
               for name in names):
      files = [name for name in names if name.endswith(tuple(_FILES))]
      raise errors.InputError(
          f'{path} holds no checkpoint (ckpt-*.index) and no SavedModel '
          f'({export_files.SAVED_MODEL}, or folders of versions)' + (
              f'; name the file itself: {os.path.join(path, min(files))}'
              if files else ''))
  elif not os.path.exists(path + '.index'):
    raise errors.InputError(
        f'{path} is no model; it must be a checkpoint (the folder of a '
        'training, or the path of one without .index), a SavedModel, or a '
        '.tflite or .onnx file')
