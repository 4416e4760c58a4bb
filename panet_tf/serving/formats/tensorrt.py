r"""TF-TRT: a SavedModel of export.py with TensorRT engines in it.

TensorFlow is built without TensorRT after 2.17, so this runs in NVIDIA's
container. It imports TensorFlow and the standard library only: copy this file.

  docker run --gpus all -v "$PWD:/w" -w /w \
    nvcr.io/nvidia/tensorflow:25.02-tf2-py3 \
    python tensorrt.py --saved_model=EXPORT/1 --output_dir=EXPORT_TRT/1 \
    --precision=INT8 --images='val/*.jpg'

With dynamic shapes an engine serves the range of shapes that the images showed
it, and TensorFlow the rest. The number of masks is such a shape: let some
images show few objects and some many.

Never run by this project, for want of a GPU: TensorRT, its calibration and its
engines. Run by its tests, in TensorFlow 2.17.1: all of this file, with
TrtGraphConverterV2 around a pass that replaces nothing.
"""

import argparse
import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import glob as glob_lib
import json
import os
import shutil
import sys
from typing import Any

from google.protobuf import message as message_lib
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

PRECISIONS = ('FP32', 'FP16', 'INT8')
REPORT = 'tensorrt_report.json'
CONTAINER = 'nvcr.io/nvidia/tensorflow:25.02-tf2-py3'
_NEEDED = ("TF-TRT needs a GPU and NVIDIA's container with TensorFlow 2.17, "
           f'{CONTAINER}; this is TensorFlow ')
# What begins a word of a node's name: part of the model.
_PARTS = {name: name for name in (
    'backbone', 'decoder', 'rpn_head', 'detection_head', 'mask_head')} | {
        'map/': 'preprocessing', 'adaptive_feature_pooling': 'pooling'} | {
            name: 'nms' for name in (
                'portable_roi_generator', 'combined_non_max_suppression',
                'decode_boxes', 'clip_boxes')}
# These hold or pass on values and cost no time.
_PLUMBING = {'Const', 'Identity', 'IdentityN', 'NoOp', 'Placeholder',
             'PartitionedCall', 'StatefulPartitionedCall'}


class Error(ValueError):
  """The user's mistake or a TensorFlow without TensorRT, in one line."""


def convert(saved_model: str, output_dir: str, *, precision: str = 'FP16',
            images: str = '', signature: str = 'serving_default',
            min_segment_size: int = 3, batch_sizes: Sequence[int] = (1,),
            dynamic_shapes: bool = True, max_images: int = 100
           ) -> dict[str, Any]:
  """Converts one signature of a SavedModel.

  Args:
    saved_model: folder that export.py wrote, the one with saved_model.pb.
    output_dir: SavedModel to write with that signature, the same assets and
      REPORT; must not exist.
    precision: one of PRECISIONS. INT8 is calibrated on the images.
    images: glob of JPEG, PNG, GIF or BMP files that engines are built for. ''
      leaves building to the first requests; INT8 and dynamic shapes need some.
    signature: its one input is images, uint8 or encoded.
    min_segment_size: least number of nodes an engine replaces.
    batch_sizes: numbers of images at a time that engines are built for.
    dynamic_shapes: one engine for a range of shapes; else one for each shape
      of its inputs, and none where the first dimension changes on the way.
    max_images: of the glob, the first so many by name.

  Returns:
    `report` and the options.

  Raises:
    Error: the SavedModel, an option or the installation is unfit. Nothing is
      written then.
  """
  kind, fixed_batch = _signature(saved_model, signature)
  paths = sorted(filter(os.path.isfile, glob_lib.glob(images)))[:max_images]
  for wrong, message in (
      (precision not in PRECISIONS,
       f'--precision is {precision!r}; it must be one of {PRECISIONS}'),
      (min(min_segment_size, max_images, *batch_sizes) < 1,
       '--min_segment_size, --max_images and --batch_size must be 1 or more'),
      (precision == 'INT8' and len(set(batch_sizes)) > 1,
       '--precision INT8 is calibrated with one --batch_size'),
      (fixed_batch > 0 and set(batch_sizes) != {fixed_batch},
       f'{saved_model} was exported for --batch_size {fixed_batch}'),
      (os.path.lexists(output_dir),
       f'--output_dir {output_dir} exists; it must be a new folder'),
      (not paths and (images or precision == 'INT8' or dynamic_shapes),
       f'--images {images!r} matches no file; --precision INT8 and '
       '--dynamic_shapes need images, to calibrate and build engines with')):
    if wrong:
      raise Error(message)
  batches = input_fn(paths, kind, batch_sizes)

  converter = _converter_class()(
      input_saved_model_dir=saved_model,
      input_saved_model_signature_key=signature,
      use_dynamic_shape=dynamic_shapes,
      dynamic_shape_profile_strategy='Range' if dynamic_shapes else None,
      precision_mode=precision, minimum_segment_size=min_segment_size,
      maximum_cached_engines=len(batch_sizes))
  converter.convert(
      calibration_input_fn=batches if precision == 'INT8' else None)
  if paths:
    converter.build(input_fn=batches)
  with _moved_whole(output_dir) as folder:
    converter.save(folder)
    # The converter drops the description of the model and its labels.
    shutil.copytree(os.path.join(saved_model, 'assets'),
                    os.path.join(folder, 'assets'), dirs_exist_ok=True)
    found = report(folder, signature) | {
        'precision': precision, 'dynamic_shapes': dynamic_shapes,
        'batch_sizes': list(batch_sizes), 'images': len(paths)}
    with open(os.path.join(folder, REPORT), 'w', encoding='utf-8') as f:
      json.dump(found, f, indent=2)
  return found


def input_fn(paths: Sequence[str], kind: str, batch_sizes: Sequence[int]
            ) -> Callable[[], Iterator[dict[str, tf.Tensor]]]:
  """What the converter calls for inputs, as often as it likes.

  Args:
    paths: image files; Error for one that is none.
    kind: 'image' for uint8 [B, H, W, 3], of images of one size; 'file' for
      [B] encoded ones; 'example' for [B] tf.train.Examples.
    batch_sizes: every image is in a batch of each size B; where images are
      too few for the last one, it repeats some.
  """
  groups = collections.defaultdict(list)
  for path in paths:
    shape = tuple(_decoded(path).shape)
    groups[shape if kind == 'image' else None].append(path)
  load = {'image': _decoded, 'file': tf.io.read_file, 'example': _example}[kind]

  def batches():
    for size in batch_sizes:
      for group in groups.values():
        for start in range(0, len(group), size):
          yield {'inputs': tf.stack([
              load(group[(start + i) % len(group)]) for i in range(size)])}

  return batches


def report(saved_model: str, signature: str) -> dict[str, Any]:
  """What became engines and what TensorFlow still runs.

  'engines' has {'name', 'parts'} of each, how many ops of each part of the
  model it runs; 'in_tensorflow' {part: {op: number}} of what costs time.
  """
  functions = {f.signature.name: f.node_def
               for f in read(saved_model).graph_def.library.function}
  engines, stayed = [], collections.defaultdict(collections.Counter)
  for node in nodes(saved_model, signature):
    if node.op == 'TRTEngineOp':
      inside = functions[node.attr['segment_func'].func.name]
      engines.append({'name': node.name, 'parts': dict(collections.Counter(
          part_of(n.name) for n in inside if computes(n)))})
    elif computes(node):
      stayed[part_of(node.name)][node.op] += 1
  return {'signature': signature, 'engines': engines, 'in_tensorflow': {
      part: dict(stayed[part].most_common()) for part in sorted(stayed)}}


def nodes(saved_model: str, signature: str) -> list[Any]:
  """NodeDefs that a signature runs, those inside of engines not included."""
  meta = read(saved_model)
  functions = {
      f.signature.name: f.node_def for f in meta.graph_def.library.function}
  outputs = {info.name.partition(':')[0]
             for info in meta.signature_def[signature].outputs.values()}
  todo = [n for n in meta.graph_def.node if n.name in outputs]
  found = []
  while todo:
    node = todo.pop()
    found.append(node)
    if node.op != 'TRTEngineOp':
      for attr in node.attr.values():
        for function in (attr.func, *attr.list.func):
          todo += functions.pop(function.name, ())
  return found


def part_of(name: str) -> str:
  """The part of the model that a node belongs to; 'other' is glue."""
  return next((part for begin, part in _PARTS.items()
               if f'/{begin}' in f'/{name}'), 'other')


def computes(node: Any) -> bool:
  """Whether a NodeDef does work; a function's input and output do not."""
  return node.op not in _PLUMBING and not node.op.startswith('_')


def read(saved_model: str) -> Any:
  """The MetaGraphDef of a SavedModel; Error if there is none."""
  path = os.path.join(saved_model, 'saved_model.pb')
  try:
    with open(path, 'rb') as f:
      return saved_model_pb2.SavedModel.FromString(f.read()).meta_graphs[0]
  except (OSError, IndexError, message_lib.DecodeError) as e:
    raise Error(f'--saved_model: {path} is no SavedModel; expected the folder '
                'that export.py wrote one to') from e


def _signature(saved_model, signature):
  """'image', 'file' or 'example', and the batch size, -1 for any."""
  known = read(saved_model).signature_def
  inputs = dict(known[signature].inputs) if signature in known else {}
  images = inputs.pop('inputs', None)
  kind = images and not inputs and {
      tf.uint8: 'image', tf.string: 'file'}.get(tf.as_dtype(images.dtype))
  if not kind:
    raise Error(
        f'{saved_model} has no --signature {signature!r} that takes images; '
        f'there are {", ".join(sorted(k for k in known if k[:2] != "__"))}')
  if kind == 'file' and any(
      n.op.startswith('ParseExample') for n in nodes(saved_model, signature)):
    kind = 'example'
  return kind, images.tensor_shape.dim[0].size


def _converter_class():
  """TrtGraphConverterV2, or Error where it cannot work."""
  try:
    from tensorflow.compiler.tf2tensorrt import _pywrap_py_utils
    from tensorflow.python.compiler.tensorrt import trt_convert
    if not _pywrap_py_utils.is_tensorrt_enabled():
      raise ImportError('TensorFlow is built without it')
  except ImportError as e:
    raise Error(f'{_NEEDED}{tf.__version__} without TensorRT') from e
  if not tf.config.list_physical_devices('GPU'):
    raise Error(f'{_NEEDED}{tf.__version__} without a GPU')
  return trt_convert.TrtGraphConverterV2


def _decoded(path):
  try:
    return tf.io.decode_image(
        tf.io.read_file(path), channels=3, expand_animations=False)
  except tf.errors.OpError as e:
    raise Error(f'{path}: not a JPEG, PNG, GIF or BMP image') from e


def _example(path):
  encoded = tf.train.BytesList(value=[tf.io.read_file(path).numpy()])
  return tf.constant(tf.train.Example(features=tf.train.Features(feature={
      'image/encoded': tf.train.Feature(bytes_list=encoded)
  })).SerializeToString())


@contextlib.contextmanager
def _moved_whole(folder):
  """Yields a temporary folder that becomes `folder` unless something fails."""
  temporary = f'{os.path.normpath(folder)}.{os.getpid()}.tmp'
  try:
    os.makedirs(temporary)
    yield temporary
    os.replace(temporary, folder)
  except OSError as e:
    raise Error(f'--output_dir {folder}: {e.strerror or e}') from e
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def main(argv: Sequence[str]) -> int:
  """The command line; 2 for what `Error` tells."""
  parser = argparse.ArgumentParser(description=str(__doc__).partition('\n')[0])
  add = parser.add_argument
  add('--saved_model', required=True)
  add('--output_dir', required=True)
  add('--precision', default='FP16', help=', '.join(PRECISIONS))
  add('--images', default='', help='quoted glob')
  add('--signature', default='serving_default')
  add('--min_segment_size', type=int, default=3)
  add('--batch_size', type=int, nargs='+', default=[1], dest='batch_sizes')
  add('--dynamic_shapes', action=argparse.BooleanOptionalAction, default=True)
  add('--max_images', type=int, default=100)
  try:
    found = convert(**vars(parser.parse_args(argv)))
  except Error as e:
    print(e, file=sys.stderr)
    return 2
  print(json.dumps(found, indent=2))
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
