"""What a .tflite file says of itself: names, normalisation, labels.

The standard of TFLite's tools: a flatbuffer in the model's metadata entry
TFLITE_METADATA, and the files that it names in a zip archive behind the model.
The package that wrote it, tflite-support, ended in 2023. Numbers of fields are
those of its metadata_schema.fbs 1.1.0, in order of declaration from 0; a union
takes two, its type and its value.
"""

import io
import os
from typing import Any
import zipfile

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
import flatbuffers
import numpy as np

from panet_tf import files
from panet_tf.inference.exported import model_info

ENTRY = 'TFLITE_METADATA'
_IDENTIFIER = b'M001'
_DESCRIPTION_FILE = 1  # AssociatedFileType: not looked up by tensor values.
# ContentProperties.
_FEATURE, _IMAGE, _BOXES = 1, 2, 3

_LABELS_FILE = {0: model_info.LABELS, 2: _DESCRIPTION_FILE,
                1: 'Names of the classes, that of label 1 first.'}
_INFO_FILE = {0: model_info.FILE, 2: _DESCRIPTION_FILE,
              1: 'Category ids and names, and the preprocessing, as JSON.'}
_DESCRIPTIONS = files.read_json(  # Of inputs and outputs, by name.
    os.path.join(os.path.dirname(__file__), 'tflite_tensors.json'))


def add_metadata(model: bytes, info: model_info.ModelInfo) -> bytearray:
  """The content of a .tflite file of one signature, with the entry."""
  # Nothing that is optional in any file is missing in a converter's.
  content: Any = flatbuffer_utils.read_model_from_bytearray(model)
  signature = content.signatureDefs[0]
  names = {tensor.tensorIndex: tensor.name.decode()
           for tensor in [*signature.inputs, *signature.outputs]}
  graph = content.subgraphs[signature.subgraphIndex]
  data = _metadata([names[index] for index in graph.inputs],
                   [names[index] for index in graph.outputs], info)
  entry = schema.MetadataT(name=ENTRY, buffer=len(content.buffers))
  content.buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
  content.metadata = [*(content.metadata or []), entry]
  return flatbuffer_utils.convert_object_to_bytearray(content)


def append_files(model: bytes | bytearray, info: model_info.ModelInfo) -> bytes:
  """A model with the files that its metadata names, as any unzip reads them."""
  file = io.BytesIO(model)
  # Stored, not compressed: runtimes read the files in place.
  with zipfile.ZipFile(file, 'a', zipfile.ZIP_STORED) as archive:
    for name, text in ((model_info.LABELS, info.labels_text()),
                       (model_info.FILE, info.to_json())):
      # No time of writing, so that the same model gives the same file.
      archive.writestr(zipfile.ZipInfo(name), text)
  return file.getvalue()


def _metadata(inputs: list[str], outputs: list[str],
              info: model_info.ModelInfo) -> bytes:
  """ModelMetadata of a graph with these names of inputs and outputs."""
  graph = {2: [_tensor(name, info) for name in inputs],
           3: [_tensor(name, info) for name in outputs]}
  model = {0: 'PANet', 1: 'Instance segmentation: boxes, classes and masks.'
           if info.include_mask else 'Object detection: boxes and classes.',
           3: [graph], 6: [_INFO_FILE], 7: '1.0.0'}
  builder = flatbuffers.Builder()
  builder.Finish(_write(builder, model), _IDENTIFIER)
  return bytes(builder.Output())


def _tensor(name: str, info: model_info.ModelInfo) -> dict[int, Any]:
  """TensorMetadata."""
  kind, properties = _FEATURE, dict[int, Any]()
  tensor: dict[int, Any] = {0: name, 1: _DESCRIPTIONS[name]}
  if name == 'inputs':
    kind, properties = _IMAGE, {0: 1}  # RGB.
    rule = info.preprocessing
    mean, stddev = np.array([rule.mean, rule.stddev], np.float32)
    tensor[4] = [{0: 1, 1: {0: mean, 1: stddev}}]
  elif name.startswith('detection_boxes'):
    # Where to find left, top, right and bottom; edges; 0..1 or pixels.
    kind, properties = _BOXES, {
        0: np.array([1, 0, 3, 2], np.uint32), 1: 1,
        2: 0 if name.endswith('normalized') else 1}
  elif name == 'detection_classes':
    # By label, not by the tensor's values: those are category ids.
    tensor[6] = [_LABELS_FILE]
  tensor[3] = {0: kind, 1: properties}
  return tensor


def _write(builder: flatbuffers.Builder, value: Any) -> int:
  """Writes a value and returns its offset.

  It is text, a vector of numbers, a list of tables, or a table {number of the
  field: value}, in which an int is a byte.
  """
  if isinstance(value, str):
    return builder.CreateString(value)
  if isinstance(value, np.ndarray):
    return builder.CreateNumpyVector(value)
  if isinstance(value, list):
    offsets = [_write(builder, item) for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
      builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
  # Children first: a flatbuffer is written from its end.
  fields = {number: field if isinstance(field, int) else _write(builder, field)
            for number, field in value.items()}
  builder.StartObject(max(fields, default=-1) + 1)
  for number, field in fields.items():
    prepend = (builder.PrependInt8Slot if isinstance(value[number], int)
               else builder.PrependUOffsetTRelativeSlot)
    prepend(number, field, 0)
  return builder.EndObject()
