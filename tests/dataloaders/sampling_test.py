"""Claims about class-balanced reading, against a slow twin."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from panet_tf import errors
from panet_tf.data import tfrecord_file
from panet_tf.dataloaders import sampling
from tests.support import tiny

# (labels, which are crowds) of each image: class 3 is on one of 20 images, 4
# only a crowd, and the last image has nothing.
IMAGES = ([([1, 1], [0, 0])] * 11 + [([1, 2], [0, 0])] * 4
          + [([2], [0])] + [([3, 1], [0, 0])] + [([1, 4], [0, 1])] * 2
          + [([], [])])
NUM_CLASSES = 6


def write(folder, images, name, start=0):
  path = str(folder / name)
  with open(path, 'wb') as f:
    for i, (labels, crowd) in enumerate(images, start):
      f.write(tfrecord_file.frame(tfrecord_file.serialize({
          'image/source_id': [str(i).encode()],
          'image/object/class/label': labels,
          'image/object/is_crowd': crowd})))
  return path


@pytest.fixture
def paths(tmp_path):
  return [write(tmp_path, IMAGES[:12], 'a'),
          write(tmp_path, IMAGES[12:], 'b', 12)]


def weights_slowly():
  """Twin of the docstring's formula."""
  present = [{c for c, crowd in zip(*image, strict=True) if not crowd}
             for image in IMAGES]
  n = collections.Counter(c for classes in present for c in classes)
  total = sum(bool(classes) for classes in present)
  return present, np.array([
      total / len(n) * sum(1 / n[c] for c in classes) for classes in present])


def passes(paths, all_paths=None, seed=1, epochs=1, threads=0):
  """How often each record passes, and the records' numbers in their order."""
  balance = sampling.class_balanced(
      all_paths or paths, tf.data.TFRecordDataset, NUM_CLASSES, seed)
  dataset = balance(tf.data.TFRecordDataset(paths).repeat(epochs))
  if threads:
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    dataset = dataset.with_options(options)
  order = [int(tfrecord_file.parse(record)['image/source_id'][0])
           for record in dataset.as_numpy_iterator()]
  return np.bincount(order, minlength=len(IMAGES)), order


EPOCHS = 300


def test_images_pass_by_their_weight(paths):
  _, weights = weights_slowly()
  counts, _ = passes(paths, epochs=EPOCHS)
  fraction = weights % 1
  bound = 5 * np.sqrt(fraction * (1 - fraction) * EPOCHS) + 1e-6
  assert (np.abs(counts - weights * EPOCHS) <= bound).all()
  assert counts[-1] == 0  # No object at all.
  np.testing.assert_allclose(weights.sum(), 19)


def test_classes_are_drawn_equally_often(paths):
  """A pass is one draw, shared among the classes of the image."""
  present, weights = weights_slowly()
  n = collections.Counter(c for classes in present for c in classes)
  counts, _ = passes(paths, epochs=EPOCHS)
  draws = {c: sum(counts[i] * 19 / 3 / n[c] / weights[i]
                  for i, classes in enumerate(present) if c in classes)
           for c in n}
  assert set(draws) == {1, 2, 3}
  np.testing.assert_allclose(list(draws.values()), 19 * EPOCHS / 3, rtol=0.04)


def test_a_seed_fixes_the_sequence_with_any_number_of_threads(paths):
  _, one = passes(paths, epochs=3, threads=1)
  _, many = passes(paths, epochs=3, threads=4)
  _, other = passes(paths, seed=2, epochs=3)
  assert one == many and one != other


def test_epochs_draw_anew(paths):
  rounds = {tuple(passes(paths, seed=seed)[0]) for seed in range(4)}
  assert len(rounds) > 1
  first, _ = passes(paths, epochs=1)
  both, _ = passes(paths, epochs=2)
  assert (both - first != first).any()


def test_a_worker_s_shard_is_weighted_by_all_shards(paths):
  _, weights = weights_slowly()
  counts, _ = passes(paths[1:], all_paths=paths, epochs=EPOCHS)
  assert not counts[:12].any()
  np.testing.assert_allclose(
      counts[12:], weights[12:] * EPOCHS, atol=3 * np.sqrt(EPOCHS))


def test_records_without_the_crowd_feature_have_no_crowds(tmp_path):
  record = tfrecord_file.serialize({'image/object/class/label': [2, 2, 4]})
  present = sampling.present_classes(tf.constant(record), 5).numpy()
  np.testing.assert_array_equal(present, [False, False, True, False, True])


@pytest.mark.parametrize('images, message', [
    ([([1, 6], [0, 0])], 'one of 1 to 5'),
    ([([0], [0])], 'one of 1 to 5'),
    ([([1], [1]), ([], [])], 'no object'),
])
def test_shards_that_cannot_be_balanced_are_refused(tmp_path, images, message):
  with pytest.raises(errors.InputError, match=message):
    passes([write(tmp_path, images, 'a')])


# Through the task.


@pytest.fixture
def shards(coco):
  """Five images of class 1; one of them has class 2 as well."""
  for i in range(3):
    coco.add_image(20 + i)
    coco.add(20 + i, [[1, 1, 9, 1, 9, 7, 1, 7]])
  coco.add(9, [[1, 1, 9, 1, 9, 7, 1, 7]])
  coco.convert(num_shards=1)
  return coco.prefix + '-*.tfrecord'


def data_config(shards, **fields):
  return tiny.data_config(aug_scale_min=1.0, aug_scale_max=1.5).replace(**(
      dict(input_path=shards, seed=1, shuffle_buffer_size=1,
           global_batch_size=1) | fields))


def labels_of(data, number):
  return [labels for _, labels in tiny.task().build_inputs(data).take(number)]


def test_training_reads_rare_classes_more_often(shards):
  def share(**fields):
    return np.mean([(labels['gt_classes'].numpy() == 2).any() for labels in
                    labels_of(data_config(shards, **fields), 100)])

  assert share() == pytest.approx(1 / 5)
  # 1/2 by class 2 and a fifth of the other half by class 1.
  assert share(class_balanced=True) == pytest.approx(0.6, abs=0.03)


def test_copies_of_a_record_are_augmented_each_by_itself(shards):
  scales = [float(labels['image_info'][0, 2, 0]) for labels in
            labels_of(data_config(shards, class_balanced=True), 30)]
  assert len(set(scales)) > 10  # Of 5 images.


def test_evaluation_is_not_balanced(shards):
  data = tiny.data_config(is_training=False).replace(
      input_path=shards, class_balanced=True)
  with pytest.raises(errors.InputError, match='task.validation_data.class_bal'):
    data.check(tiny.task().task_config)
