"""The files beside a SavedModel, read with TensorFlow Serving's own protos."""

from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory
from google.protobuf import text_format
from google.protobuf import wrappers_pb2
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from panet_tf.serving.formats import saved_model
from panet_tf.serving.formats import tf_serving

# tensorflow_serving/servables/tensorflow/session_bundle_config.proto, which
# tensorflow-serving-api does not have: names and numbers of its fields.
_INT64 = ('max_batch_size', 'batch_timeout_micros', 'max_enqueued_batches',
          'num_batch_threads')


def _batching_parameters():
  file = descriptor_pb2.FileDescriptorProto(
      name='batching.proto', package='test', syntax='proto3',
      dependency=[wrappers_pb2.DESCRIPTOR.name])
  message = file.message_type.add(name='BatchingParameters')
  field = descriptor_pb2.FieldDescriptorProto
  for number, name in enumerate(_INT64, 1):
    message.field.add(name=name, number=number, label=field.LABEL_OPTIONAL,
                      type=field.TYPE_MESSAGE,
                      type_name='.google.protobuf.Int64Value')
  message.field.add(name='allowed_batch_sizes', number=6,
                    label=field.LABEL_REPEATED, type=field.TYPE_INT64)
  message.field.add(name='pad_variable_length_inputs', number=7,
                    label=field.LABEL_OPTIONAL, type=field.TYPE_BOOL)
  pool = descriptor_pool.DescriptorPool()
  pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
  pool.Add(file)
  return message_factory.GetMessageClass(
      pool.FindMessageTypeByName('test.BatchingParameters'))()


def test_the_warm_up_has_a_predict_request_for_each_signature(
    tmp_path, images):
  """client_test.py sends them to a server."""
  requests = tf_serving.warmup_requests(images[0])
  tf_serving.write_warmup(str(tmp_path), requests)
  path = tmp_path / 'assets.extra' / 'tf_serving_warmup_requests'
  asked = {}
  for record in tf.data.TFRecordDataset(str(path)):
    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
    assert log.WhichOneof('log_type') == 'predict_log'
    spec = log.predict_log.request.model_spec
    assert spec.name == 'panet' and not spec.HasField('version')
    asked[spec.signature_name] = tf.make_ndarray(
        log.predict_log.request.inputs['inputs'])
  assert set(asked) == set(saved_model.INPUT_TYPES)
  np.testing.assert_array_equal(asked['image_tensor'], images[0][np.newaxis])
  np.testing.assert_array_equal(
      tf.io.decode_png(asked['image_bytes'][0]), images[0])
  example = tf.train.Example.FromString(asked['tf_example'][0])
  encoded = example.features.feature['image/encoded'].bytes_list.value[0]
  assert encoded == asked['image_bytes'][0]


@pytest.mark.parametrize('batch_size, rows', [(None, 1), (3, 3)])
def test_warm_up_requests_have_the_batch_size_of_the_export(
    images, batch_size, rows):
  for inputs in tf_serving.warmup_requests(images[0], batch_size).values():
    assert len(inputs) == rows


def test_the_same_warm_up_is_the_same_file(tmp_path):
  image = np.zeros([8, 8, 3], np.uint8)
  written = []
  for name in 'ab':
    tf_serving.write_warmup(
        str(tmp_path / name), tf_serving.warmup_requests(image))
    written.append((tmp_path / name / tf_serving.WARMUP).read_bytes())
  assert written[0] == written[1]


def _read(folder, name, message):
  return text_format.Parse((folder / name).read_text('utf-8'), message)


def test_models_config_names_the_model_and_its_folder(tmp_path):
  tf_serving.write_configs(str(tmp_path))
  config = _read(tmp_path, 'models.config',
                 model_server_config_pb2.ModelServerConfig())
  model, = config.model_config_list.config
  assert (model.name, model.base_path, model.model_platform) == (
      'panet', '/models/panet', 'tensorflow')


def test_batches_are_never_padded(tmp_path):
  tf_serving.write_configs(str(tmp_path))
  found = _read(tmp_path, 'batching_parameters.txt', _batching_parameters())
  assert [getattr(found, name).value for name in _INT64] == [4, 10_000, 64, 1]
  assert not found.allowed_batch_sizes and not found.pad_variable_length_inputs


def test_a_fixed_batch_size_is_the_only_one_allowed(tmp_path):
  """The last of the allowed sizes must be max_batch_size."""
  tf_serving.write_configs(str(tmp_path), batch_size=3)
  found = _read(tmp_path, 'batching_parameters.txt', _batching_parameters())
  assert list(found.allowed_batch_sizes) == [3]
  assert found.max_batch_size.value == 3
