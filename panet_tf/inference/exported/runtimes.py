"""Exported models as predictors: image in, detections in its pixels out.

Each runtime is imported when its model is opened, so that a .tflite or .onnx
file runs where TensorFlow is not installed.
"""

import abc
from collections.abc import Iterable, Mapping
import importlib
import os
from typing import Any

import numpy as np

from panet_tf import errors
from panet_tf.inference import detector
from panet_tf.inference.exported import export_files
from panet_tf.inference.exported import model_info
from panet_tf.structures import detections

_SIGNATURE = 'image_tensor'  # Of a SavedModel.
_MAX_BATCH_SIZE = 256  # Bounds what a broken file may ask for.
_OUTPUTS = ('detection_boxes', 'detection_scores', 'detection_classes',
            'num_detections')


class _Exported(detector.Detector):
  """Outputs of a graph, see `serving.export_module`, as a Detector's.

  `info` is the model's description.
  """

  def __init__(self, path: str, info: model_info.ModelInfo,
               inputs: Mapping[str, Any], outputs: Iterable[str]):
    """Checks that a graph has the inputs and outputs that `info` describes.

    Of its inputs the shapes are given; None or text is any length. InputError,
    naming `path`, if it has others.
    """
    self.info, self.categories, self._path = info, info.categories, path
    self._labels = {c['id']: c['label'] for c in info.categories}
    self._keys = [*_OUTPUTS[:3], *['detection_masks'] * info.include_mask]
    missing = {*_OUTPUTS, *self._keys}.difference(outputs)
    wanted = self._input_shapes()
    if missing or sorted(inputs) != sorted(wanted):
      raise errors.InputError(
          f'{path}: takes {", ".join(sorted(inputs))} and lacks '
          f'{", ".join(sorted(missing)) or "no output"}; it must be a model '
          'that export.py wrote')
    for name, shape in wanted.items():
      if list(inputs[name][1:]) != shape:
        raise errors.InputError(
            f'{path}: {name} is {list(inputs[name])}, but {model_info.FILE} '
            f'means {shape} for each image; export the model again')
    batch_size = inputs['inputs'][0]
    self._batch_size = batch_size if isinstance(batch_size, int) else 1
    if not 0 < self._batch_size <= _MAX_BATCH_SIZE:
      raise errors.InputError(
          f'{path}: takes {batch_size} images at a time; it must be 1 to '
          f'{_MAX_BATCH_SIZE}')

  def _input_shapes(self) -> dict[str, Any]:
    return {'inputs': [*self.info.preprocessing.canvas, 3],
            'image_info': [4, 2]}

  def _inputs(self, image):
    """Inputs of the graph for one image."""
    inputs, image_info = self.info.preprocessing(image)
    return {'inputs': inputs, 'image_info': image_info}

  @abc.abstractmethod
  def _run(self, inputs) -> dict[str, np.ndarray]:
    """Outputs of the graph, arrays [B, ...]."""

  def _detect(self, image):
    inputs = {name: np.repeat(value, self._batch_size, 0)
              for name, value in self._inputs(image).items()}
    with export_files.failing(self._path, 'does not run'):
      outputs = self._run(inputs)
    count = int(outputs['num_detections'][0])
    for key in (*self._keys, 'num_detections') * (self._batch_size > 1):
      if not np.allclose(outputs[key], outputs[key][:1], 0, 1e-3, True):
        raise errors.InputError(
            f'{self._path}: the same images of one batch have different '
            f'{key}; export the model again')
    found = {key: outputs[key][0][:count] for key in self._keys}
    try:
      found['detection_classes'] = np.array(
          [self._labels[i] for i in found['detection_classes'].tolist()],
          np.int32)
    except KeyError as e:
      raise errors.InputError(
          f'{self._path}: detects category {e}, which {model_info.FILE} does '
          'not have; export the model again') from e
    try:
      return detections.Detections.from_outputs(
          found, image.shape[:2], self.info.legacy_masks)
    except ValueError as e:
      raise errors.InputError(
          f'{self._path}: {e}; export the model again') from e


class LiteRTPredictor(_Exported):
  """A .tflite file in LiteRT, on all cores."""

  def __init__(self, path: str):
    """Opens a file; InputError if it is none of export.py's, or no LiteRT."""
    info = export_files.info_of_tflite(path)
    litert = _import('ai_edge_litert.interpreter', 'ai-edge-litert')
    with export_files.failing(path, 'not a .tflite model'):
      self._runner = litert.Interpreter(
          model_path=path, num_threads=os.cpu_count()).get_signature_runner()
    super().__init__(
        path, info, {name: value['shape'].tolist() for name, value in
                     self._runner.get_input_details().items()},
        self._runner.get_output_details())

  def _run(self, inputs):
    return self._runner(**inputs)


class OnnxPredictor(_Exported):
  """An .onnx file in ONNX Runtime, on the GPU if that is its GPU build."""

  def __init__(self, path: str):
    """Opens a file; InputError if it is none of export.py's, or no runtime."""
    export_files.check_file(path)
    runtime = _import('onnxruntime', '"panet_tf[onnx]"')
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # Errors.
    providers = [name for name in (
        'CUDAExecutionProvider', 'CPUExecutionProvider')
                 if name in runtime.get_available_providers()]
    with export_files.failing(path, 'not an .onnx model'):
      self._session = runtime.InferenceSession(path, options, providers)
    described = self._session.get_modelmeta().custom_metadata_map.get('panet')
    if described is None:
      raise errors.InputError(
          f'{path}: has no metadata `panet`; it must be a model that export.py '
          'wrote')
    self._names = [output.name for output in self._session.get_outputs()]
    super().__init__(
        path, model_info.ModelInfo.from_json(described, path),
        {value.name: value.shape for value in self._session.get_inputs()},
        self._names)

  def _run(self, inputs):
    return dict(zip(
        self._names, self._session.run(self._names, inputs), strict=True))


class SavedModelPredictor(_Exported):
  """A SavedModel in TensorFlow; Model Garden is not needed."""

  def __init__(self, folder: str):
    """Opens a folder; InputError if it is no SavedModel of export.py's.

    TensorFlow runs what it says: open none you mistrust.
    """
    info = export_files.info_of_saved_model(folder)
    tf = _import('tensorflow', 'tensorflow')
    with export_files.failing(folder, 'not a SavedModel'):
      self._model = tf.saved_model.load(folder)  # Keeps the variables alive.
      self._function = self._model.signatures[_SIGNATURE]
    super().__init__(
        folder, info, {name: value.shape.as_list() for name, value in
                       self._function.structured_input_signature[1].items()},
        self._function.structured_outputs)

  def _input_shapes(self):
    return {'inputs': [None, None, 3]}

  def _inputs(self, image):
    return {'inputs': image[np.newaxis]}  # The graph has the preprocessing.

  def _run(self, inputs):
    return {key: value.numpy()
            for key, value in self._function(**inputs).items()}


def _import(module: str, package: str) -> Any:
  """A runtime; InputError if it is not installed."""
  try:
    return importlib.import_module(module)
  except ImportError as e:
    name = module.split('.', maxsplit=1)[0]
    raise errors.InputError(
        f'{name} is not installed: pip install {package}') from e
