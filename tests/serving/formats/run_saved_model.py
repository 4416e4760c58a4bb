"""Runs a SavedModel where there is TensorFlow and nothing of this project.

  python -I run_saved_model.py SAVED_MODEL IMAGES.npz OUTPUTS.npz

IMAGES.npz has images [H, W, 3] uint8. Every signature gets them one by one, and
`image_bytes` all at once, too. OUTPUTS.npz has SIGNATURE/IMAGE/OUTPUT arrays,
SIGNATURE being `batch` for the last. Prints a JSON report.
"""

import importlib.util
import json
import logging
import os
import sys

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry


def encode(image):
  return tf.io.encode_png(image).numpy()


def example(image):
  feature = tf.train.Feature(bytes_list=tf.train.BytesList(
      value=[encode(image)]))
  return tf.train.Example(features=tf.train.Features(
      feature={'image/encoded': feature})).SerializeToString()


PREPARE = {'image_tensor': tf.constant, 'image_bytes': encode,
           'tf_example': example}


def unknown(saved_model):
  """Ops and attributes of ops that this TensorFlow does not know."""
  with open(os.path.join(saved_model, 'saved_model.pb'), 'rb') as f:
    graph = saved_model_pb2.SavedModel.FromString(f.read()).meta_graphs[0]
  library = graph.graph_def.library.function
  known = {function.signature.name for function in library}
  found = set()
  for nodes in (graph.graph_def.node, *(f.node_def for f in library)):
    for node in nodes:
      op = op_def_registry.get(node.op)
      if op is None:
        found |= {node.op} - known
        continue
      names = {attr.name for attr in op.attr}
      found |= {f'{node.op}.{name}' for name in node.attr
                if name not in names and not name.startswith('_')}
  return sorted(found)


def main(saved_model, images_path, outputs_path):
  with np.load(images_path) as archive:
    images = {name: archive[name] for name in archive.files}
  warnings = []
  handler = logging.Handler(logging.WARNING)
  handler.emit = lambda record: warnings.append(record.getMessage())
  for name in ('absl', 'tensorflow'):
    logging.getLogger(name).addHandler(handler)
  model = tf.saved_model.load(saved_model)
  signatures = model.signatures
  outputs = {}
  for signature, prepare in PREPARE.items():
    for name, image in images.items():
      found = signatures[signature](inputs=tf.stack([prepare(image)]))
      for key, value in found.items():
        outputs[f'{signature}/{name}/{key}'] = value.numpy()[0]
  found = signatures['image_bytes'](inputs=tf.stack(
      [encode(image) for image in images.values()]))
  for i, name in enumerate(images):
    for key, value in found.items():
      outputs[f'batch/{name}/{key}'] = value.numpy()[i]
  np.savez(outputs_path, **outputs)
  print(json.dumps({
      'version': tf.__version__, 'unknown': unknown(saved_model),
      'warnings': warnings, 'signatures': sorted(signatures),
      'importable': [name for name in (
          'panet_tf', 'official', 'tf_keras', 'tensorflow_models')
                     if importlib.util.find_spec(name)]}))


if __name__ == '__main__':
  main(*sys.argv[1:])
