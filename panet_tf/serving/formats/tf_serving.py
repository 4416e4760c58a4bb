"""What TensorFlow Serving reads beside a SavedModel.

https://www.tensorflow.org/tfx/serving: a warm-up file in each version, so that
the first request of a person need not wait for kernels to be set up; the list
of models; how requests of several clients are put together in a batch.
"""

from collections.abc import Mapping
import io
import os
import pathlib
import string
from typing import Any

import numpy as np
from PIL import Image
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from panet_tf.data import tfrecord_file

MODEL = 'panet'  # Its name in a URL, and of its folder in the container.
WARMUP = os.path.join('assets.extra', 'tf_serving_warmup_requests')


def warmup_requests(image: np.ndarray,
                    batch_size: int | None = None) -> dict[str, Any]:
  """Signature -> its `inputs`, from one image [H, W, 3] uint8.

  They are pixels, or encoded images, of the batch size of the export; None, for
  one that takes any, gives 1.
  """
  number = batch_size or 1
  stream = io.BytesIO()
  Image.fromarray(image).save(stream, 'png')
  example = tfrecord_file.serialize({'image/encoded': [stream.getvalue()]})
  return {'image_tensor': np.stack([image] * number),
          'image_bytes': [stream.getvalue()] * number,
          'tf_example': [example] * number}


def write_warmup(folder: str, requests: Mapping[str, Any]):
  """Writes requests, see `warmup_requests`, into the folder of a version.

  The server runs them one by one when it loads it, and refuses more than 1000.
  """
  path = os.path.join(folder, WARMUP)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, 'wb') as f:
    for signature, inputs in requests.items():
      log = prediction_log_pb2.PredictionLog()  # pyright: ignore[reportAttributeAccessIssue] - the module makes its classes at import
      request = log.predict_log.request
      request.model_spec.name = MODEL
      request.model_spec.signature_name = signature
      request.inputs['inputs'].CopyFrom(tf.make_tensor_proto(inputs))
      f.write(tfrecord_file.frame(log.SerializeToString(deterministic=True)))


def write_configs(folder: str, batch_size: int | None = None):
  """Writes models.config and batching_parameters.txt.

  They are text protos, ModelServerConfig and BatchingParameters, filled in from
  the files of these names beside this one. Where the batch size of the export
  is fixed, the server fills every batch up to it, so that clients may send
  single images; None has up to 4.
  """
  fields = {
      'model': MODEL, 'max_batch_size': batch_size or 4,
      'allowed': f'allowed_batch_sizes: {batch_size}\n' if batch_size else ''}
  for name in ('models.config', 'batching_parameters.txt'):
    text = pathlib.Path(__file__).with_name(name).read_text('utf-8')
    with open(os.path.join(folder, name), 'w', encoding='utf-8') as f:
      f.write(string.Template(text).substitute(fields))
