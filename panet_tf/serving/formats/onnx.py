"""ONNX: one file for onnxruntime, and on to TensorRT, OpenVINO and others.

Only ops of ONNX's default domain are in it, of an opset that TensorRT 10 and
OpenVINO read.
"""

import collections
import contextlib
import copy
import gc
import logging
import os
import sys
import tempfile
from typing import Any

import tensorflow as tf

from panet_tf import errors
from panet_tf.inference.exported import model_info
from panet_tf.serving import export_module
from panet_tf.serving.formats import onnx_ops

OPSET = 17  # RoiAlign with half_pixel is there from 16 on.
_MAX_BYTES = 2**31 - 2**24  # Of a protobuf file, less room for the graph.
_DOC = """PANet (CVPR 2018): instance segmentation.
Inputs: images, resized, normalised and padded, and what was done to them:
original size, size of the visible part, scale, offset. Metadata `panet` (JSON)
has the rule. Outputs: boxes yxyx in original pixels and in 0..1 of the image,
scores, category ids, the number of rows that count, masks as probabilities in
the frame of their box."""


def write(module: export_module.ExportModule, info: model_info.ModelInfo,
          path: str, *, batch_size: int | None = None) -> dict[str, int]:
  """Writes a model as ONNX.

  Inputs are `inputs` [B, *canvas, 3] and `image_info` [B, 4, 2], outputs those
  of `ExportModule.network`. Metadata: `panet`, the JSON of `info`, and
  `labels`, a name per line.

  Args:
    module: the model, of the formulation 'saved'.
    info: its description.
    path: file to write.
    batch_size: images in every call; None leaves it to the call.

  Returns:
    `op_counts`.

  Raises:
    InputError: tf2onnx is not installed, or the weights are beyond 2 GB.
  """
  try:
    import onnx
    import tf2onnx
  except ImportError as e:
    raise errors.InputError(
        f'ONNX needs {e.name}: pip install "panet_tf[onnx]"') from e
  size = sum(v.shape.num_elements() * v.dtype.size
             for v in module.model.variables)
  if size > _MAX_BYTES:
    raise errors.InputError(
        f'the weights are {size / 2**30:.1f} GB and an ONNX file holds 2 GB: '
        'export another format')
  network = copy.copy(module)
  network.model = onnx_ops.with_placeholders(module.model)
  shapes = {'inputs': [*info.preprocessing.canvas, 3], 'image_info': [4, 2]}
  signature = [tf.TensorSpec([batch_size, *shape], tf.float32, name)
               for name, shape in shapes.items()]
  function = tf.function(
      network.network, input_signature=signature, autograph=False)
  with _quiet(), _little_garbage():
    model, _ = tf2onnx.convert.from_function(
        function, signature, opset=OPSET, custom_op_handlers=onnx_ops.HANDLERS)
  _describe(model, info)
  onnx.checker.check_model(model, full_check=True)
  onnx.save(model, path)
  return op_counts(model)


def _describe(model, info):
  """Names the batch dimension and adds what the file says about itself."""
  for value in [*model.graph.input, *model.graph.output]:
    dimension = value.type.tensor_type.shape.dim[0]
    if dimension.dim_param:
      dimension.dim_param = 'batch'
  model.graph.name, model.graph.doc_string = 'panet', ''
  model.doc_string = _DOC
  for key, text in (('panet', info.to_json()), ('labels', info.labels_text())):
    model.metadata_props.add(key=key, value=text)


@contextlib.contextmanager
def _quiet():
  """Keeps stderr back, and shows it if something fails.

  TensorFlow's optimizer logs from C++, below whatever Python could set. An
  error that tf2onnx logs, and goes on after, is a RuntimeError.
  """
  failures = []
  handler = logging.Handler(logging.ERROR)
  handler.emit = lambda record: failures.append(handler.format(record))
  logger = logging.getLogger('tf2onnx')
  logger.addHandler(handler)
  sys.stderr.flush()
  stderr = os.dup(2)
  with tempfile.TemporaryFile() as said:
    os.dup2(said.fileno(), 2)
    try:
      yield
      if failures:
        raise RuntimeError(failures[0])
    except BaseException:
      said.seek(0)
      os.write(stderr, said.read())
      raise
    finally:
      sys.stderr.flush()
      os.dup2(stderr, 2)
      os.close(stderr)
      logger.removeHandler(handler)


@contextlib.contextmanager
def _little_garbage():
  """Has Python find garbage soon: tf2onnx leaves all weights after each pass.

  Python looks through everything only when a quarter of it is new. Without what
  was there before, that is often.
  """
  gc.freeze()
  gc.collect()
  try:
    yield
  finally:
    gc.unfreeze()


def op_counts(model: Any) -> dict[str, int]:
  """How often each op occurs in an ONNX model, in subgraphs as well.

  Ops beyond ONNX's default domain are 'domain.type'.
  """
  counts = collections.Counter()
  graphs = [model.graph]
  while graphs:
    for node in graphs.pop().node:
      counts[f'{node.domain}.{node.op_type}'.removeprefix('.')] += 1
      for attribute in node.attribute:
        graphs += [*attribute.graphs, attribute.g]
  return dict(counts)
