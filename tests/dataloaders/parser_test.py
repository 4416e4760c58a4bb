"""Claims about network inputs and labels, some against Model Garden's."""

import functools

import numpy as np
from official.vision.dataloaders import maskrcnn_input
from official.vision.dataloaders import tf_example_decoder
import pytest
import tensorflow as tf

from panet_tf import files
from panet_tf.configs import canvases as canvases_lib
from panet_tf.data import coco_json
from panet_tf.data import tfrecord
from panet_tf.dataloaders import factory as input_factory
from panet_tf.dataloaders import image_scaling
from panet_tf.dataloaders import parser as panet_parser
from tests.support import tiny

SCALES = dict(short_edge=[40, 140], long_edge=140)  # A tenth of section 4.2's.


def parse(example, is_training=True, **options):
  parser = tiny.parser(is_training=is_training, **options)
  image, labels = parser.parse_fn(is_training)(example)
  return image.numpy(), tf.nest.map_structure(lambda x: x.numpy(), labels)


def seeded(example, seed):
  return dict(example, random_seed=tf.constant([seed, 7], tf.int64))


def count(labels):
  return np.count_nonzero(labels['gt_classes'] > 0)


def denormalized(image):
  mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
  return image * std + mean


# Resizing.


@pytest.mark.parametrize('height, width, expected', [
    (480, 640, (750, 1000)),  # The longer edge stops at 1000.
    (640, 480, (1000, 750)),
    (500, 500, (800, 800)),
    (2000, 1900, (842, 800)),
])
def test_evaluation_has_edges_800_and_1000(height, width, expected):
  image, labels = parse(
      tiny.example(height=height, width=width, num_objects=0)[0],
      is_training=False, short_edge=[800, 800], long_edge=1000)
  assert image.shape == (1024, 1024, 3)
  np.testing.assert_array_equal(labels['image_info'][1], expected)
  assert not image[expected[0]:].any() and not image[:, expected[1]:].any()
  assert image[:expected[0], :expected[1]].any(2).mean() > 0.99


@pytest.mark.parametrize('seed', [1, 2])
def test_training_at_the_paper_s_scales(seed):
  """"longer edge to 1400 and the other edge ranges from 400 to 1400"."""
  example = seeded(tiny.example(height=150, width=200)[0], seed)
  image, labels = parse(example, short_edge=[400, 1400], long_edge=1400)
  assert image.shape == (1408, 1408, 3)
  short, long = labels['image_info'][1]
  assert 400 <= short and long <= 1400
  np.testing.assert_allclose(short / long, 150 / 200, atol=2e-3)


@pytest.mark.parametrize('height, width', [(80, 60), (40, 100)])
def test_training_scales_cover_their_range_and_keep_the_shape(height, width):
  example, _ = tiny.example(height=height, width=width)
  parser = tiny.parser(**SCALES)
  sizes = np.array([
      parser.parse_fn(True)(seeded(example, seed))[1]['image_info'][1]
      for seed in range(24)])
  short, long = sizes.min(1), sizes.max(1)
  limit = 140 * min(height, width) / max(height, width)
  assert short.min() >= 40 and long.max() <= 140
  assert short.min() < 40 + 0.25 * (limit - 40)
  assert long.max() == 140
  np.testing.assert_allclose(
      sizes[:, 0] / height, sizes[:, 1] / width, rtol=0.02)


@pytest.mark.parametrize('input_size, canvas', [
    ([64, 64, 3], [64, 64]), ([65, 200, 3], [128, 256])])
def test_canvas_is_a_multiple_of_64(input_size, canvas):
  assert canvases_lib.canvas_size(input_size, 0) == canvas
  assert canvases_lib.canvas_size(input_size, 1400) == [1408, 1408]


@pytest.mark.parametrize('scale', [0.5, 1.5])
def test_fitting_scales_by_the_given_factor(scale):
  example, _ = tiny.example(height=64, width=64)
  _, labels = parse(example, aug_scale_min=scale, aug_scale_max=scale)
  np.testing.assert_allclose(labels['image_info'][2], scale)
  np.testing.assert_allclose(labels['image_info'][1], min(scale, 1) * 64)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_images_have_the_given_dtype(dtype):
  data = tiny.data_config().replace(dtype=dtype)
  parser = input_factory.build_parser(tiny.params(), data)
  image, _ = parser.parse_fn(True)(tiny.example()[0])
  assert image.dtype == dtype


# Where things are.


OPTIONS = {
    'fit': {},
    'scales': SCALES,
    'jitter': dict(aug_scale_min=0.5, aug_scale_max=2.0),
    'flips': dict(aug_rand_hflip=True, aug_rand_vflip=True),
    'all': dict(aug_scale_min=0.8, aug_scale_max=1.6, aug_rand_hflip=True,
                aug_rand_vflip=True),
}


def one_white_box(seed):
  """A black image with one white rectangle, the only object."""
  example, masks = tiny.example(seed, num_objects=1, ellipses=False)
  return dict(example, image=tf.constant(
      255 * np.repeat(masks[0][..., None], 3, 2), tf.uint8)), masks[0]


@pytest.mark.parametrize('options', OPTIONS)
def test_boxes_lie_where_the_image_shows_the_object(options):
  for seed in range(6):
    example, _ = one_white_box(seed)
    image, labels = parse(seeded(example, seed), **OPTIONS[options])
    if not count(labels):  # It was cropped away.
      continue
    ys, xs = np.nonzero(denormalized(image)[..., 0].round(3) > 0.5)
    # The padding is the mean colour, below 0.5.
    found = [ys.min(), xs.min(), ys.max() + 1, xs.max() + 1]
    np.testing.assert_allclose(labels['gt_boxes'][0], found, atol=1)


@pytest.mark.parametrize('options', ['fit', 'scales', 'jitter'])
def test_image_info_leads_from_image_pixels_to_the_network_and_back(options):
  example, _ = tiny.example(height=48, width=60)
  for seed in range(6):
    _, labels = parse(seeded(example, seed), **OPTIONS[options])
    size, visible, scale, offset = labels['image_info']
    np.testing.assert_array_equal(size, [48, 60])
    boxes = example['groundtruth_boxes'].numpy() * [48, 60, 48, 60]
    there = boxes * np.tile(scale, 2) - np.tile(offset, 2)
    clipped = np.clip(there, 0, np.tile(visible, 2))
    kept = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(1)
    n = count(labels)
    assert n == kept.sum()
    np.testing.assert_allclose(labels['gt_boxes'][:n], clipped[kept], atol=1e-4)
    whole = kept & (there == clipped).all(1)
    back = (labels['gt_boxes'][:n] + np.tile(offset, 2)) / np.tile(scale, 2)
    np.testing.assert_allclose(back[whole[kept]], boxes[whole], atol=1e-4)


def test_random_crops_cover_the_whole_image():
  example, _ = tiny.example(height=64, width=64)
  offsets = np.array([
      parse(seeded(example, seed), aug_scale_min=2., aug_scale_max=2.)[1][
          'image_info'][3] for seed in range(24)])
  assert offsets.min() >= 0 and offsets.max() <= 64
  assert (offsets.min(0) < 16).all() and (offsets.max(0) > 48).all()


# Flips.


def flipped(example, masks, vertical, horizontal):
  """The example as if its picture had been taken in a mirror."""
  axes = [axis for axis, flip in enumerate((vertical, horizontal)) if flip]
  y1, x1, y2, x2 = example['groundtruth_boxes'].numpy().T
  if vertical:
    y1, y2 = 1 - y2, 1 - y1
  if horizontal:
    x1, x2 = 1 - x2, 1 - x1
  masks = np.flip(masks, [axis + 1 for axis in axes])
  return dict(
      example, image=tf.reverse(example['image'], axes),
      groundtruth_boxes=tf.constant(np.stack([y1, x1, y2, x2], 1)),
      groundtruth_instance_masks=tiny.encoded(masks))


@pytest.mark.parametrize('vertical', [False, True])
@pytest.mark.parametrize('horizontal', [False, True])
def test_flipping_equals_an_example_that_is_flipped(vertical, horizontal):
  example, masks = tiny.example(seed=3)
  crops = dict(aug_scale_min=0.9, aug_scale_max=1.3)
  candidates = [flipped(example, masks, v, h)
                for v in {False, vertical} for h in {False, horizontal}]
  chosen = set()
  for seed in range(8):
    image, labels = parse(
        seeded(example, seed), aug_rand_vflip=vertical,
        aug_rand_hflip=horizontal, **crops)
    matches = []
    for i, candidate in enumerate(candidates):
      other, expected = parse(seeded(candidate, seed), **crops)
      if np.abs(image - other).max() < 1e-4:
        matches.append(i)
        for key in ('gt_boxes', 'gt_classes', 'gt_masks', 'image_info'):
          np.testing.assert_allclose(labels[key], expected[key], atol=1e-3)
    assert len(matches) == 1
    chosen.update(matches)
  assert len(chosen) == len(candidates)


# Masks.


@pytest.mark.parametrize('options', OPTIONS)
def test_masks_agree_with_transforming_the_mask_and_then_cutting(options):
  """The mask travels with the image as a colour; its crop must be gt_masks."""
  errors = []
  for seed in range(5):
    example, masks = tiny.example(seed, num_objects=1, height=64)
    example = dict(example, image=tf.constant(
        255 * np.repeat(masks[0][..., None], 3, 2), tf.uint8))
    image, labels = parse(seeded(example, seed), **OPTIONS[options])
    if not count(labels):
      continue
    visible = labels['image_info'][1]
    shown = denormalized(image)[:int(visible[0]), :int(visible[1]), 0]
    box = labels['gt_boxes'][0]
    expected = tiny.cut_slowly(shown, box, 28)
    errors.append(np.abs(labels['gt_masks'][0] - expected).mean())
  assert len(errors) > 2
  assert np.mean(errors) < 0.025


# Odd examples.


ODD = {
    'no objects': dict(num_objects=0),
    'only crowds': dict(num_objects=2, crowd=(0, 1)),
}


@pytest.mark.parametrize('kind', ODD)
@pytest.mark.parametrize('include_mask', [True, False])
def test_images_without_objects_have_valid_labels(kind, include_mask):
  example, _ = tiny.example(**ODD[kind])
  model = tiny.params(include_mask=include_mask)
  image, labels = tiny.parser(model).parse_fn(True)(example)
  for tensor in tf.nest.flatten([image, labels]):
    assert np.isfinite(np.asarray(tensor, np.float32)).all()
  assert (labels['gt_classes'].numpy() == -1).all()
  assert (labels['gt_boxes'].numpy() == -1).all()
  for scores in labels['rpn_score_targets'].values():
    assert set(scores.numpy().ravel()) <= {-1, 0}
  for boxes in labels['rpn_box_targets'].values():
    assert not boxes.numpy().any()
  assert ('gt_masks' in labels) == include_mask


@pytest.mark.parametrize('skip', [True, False])
def test_crowds_are_skipped_on_demand(skip):
  example, _ = tiny.example(num_objects=3, crowd=(1,))
  _, labels = parse(example, skip_crowd_during_training=skip)
  expected = example['groundtruth_classes'].numpy()
  np.testing.assert_array_equal(
      labels['gt_classes'][:count(labels)],
      expected[[0, 2]] if skip else expected)


@pytest.mark.parametrize('limit', [2, 6])
def test_at_most_max_num_instances_are_kept(limit):
  example, _ = tiny.example(num_objects=9)
  _, labels = parse(example, max_num_instances=limit)
  assert labels['gt_boxes'].shape == (limit, 4)
  assert labels['gt_masks'].shape == (limit, 28, 28)
  np.testing.assert_array_equal(
      labels['gt_classes'], example['groundtruth_classes'][:limit])


def test_an_anchor_on_an_object_beyond_the_limit_is_no_background():
  example, _ = tiny.example(num_objects=9)
  _, all_labels = parse(example, max_num_instances=9)
  _, labels = parse(example, max_num_instances=2)
  for level, targets in all_labels['rpn_score_targets'].items():
    np.testing.assert_array_equal(labels['rpn_score_targets'][level], targets)


def test_one_example_s_shapes_are_static_in_a_data_set(tmp_path):
  task = tiny.task()
  for is_training, keys in (
      (True, {'anchor_boxes', 'image_info', 'rpn_score_targets', 'gt_masks',
              'rpn_box_targets', 'gt_boxes', 'gt_classes'}),
      (False, {'image_info', 'source_id'})):
    data = tiny.data_config(is_training).replace(
        input_path=tiny.write_shards(tmp_path), seed=1)
    images, labels = next(iter(task.build_inputs(data)))
    assert images.shape == (2, 64, 64, 3)
    assert set(labels) == keys
    if not is_training:
      np.testing.assert_array_equal(labels['source_id'], [1, 2])


# Repeatability.


@functools.cache
def first_batches(parallel, seed=1, **options):
  """Three epochs of two examples, parsed by some threads."""
  tf.random.set_seed(seed)
  examples = [tiny.example(i)[0] for i in range(2)]
  keys = [key for key in examples[0] if key != 'random_seed']
  rows = tf.nest.map_structure(
      lambda *x: tf.stack(x),
      *[{key: example[key] for key in keys} for example in examples])
  seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
  data = tf.data.Dataset.from_tensor_slices(rows).repeat(3)
  data = tf.data.Dataset.zip(data, seeds.batch(2)).map(
      lambda row, pair: dict(row, random_seed=pair))
  parse_fn = tiny.parser(
      aug_rand_hflip=True, aug_scale_min=0.7, aug_scale_max=1.4,
      **options).parse_fn(True)
  return list(data.map(parse_fn, num_parallel_calls=parallel,
                       deterministic=True))


def difference(a, b, *keys):
  parts = [([x[0]] if not keys else [x[1][key] for key in keys]) for x in a]
  others = [([x[0]] if not keys else [x[1][key] for key in keys]) for x in b]
  return max(np.abs(np.asarray(x, np.float32) - np.asarray(y)).max()
             for x, y in zip(tf.nest.flatten(parts), tf.nest.flatten(others),
                             strict=True))


GROUND_TRUTH = ('gt_boxes', 'gt_classes', 'gt_masks', 'image_info')


def test_a_seed_gives_the_same_examples_with_any_number_of_threads():
  one, four = first_batches(1), first_batches(4)
  assert difference(one, four) == 0
  assert difference(one, four, *GROUND_TRUTH) == 0
  # All anchors take part here, so that these are exact, too.
  assert difference(one, four, 'rpn_score_targets', 'rpn_box_targets') == 0


def test_another_seed_and_another_epoch_give_other_examples():
  one, other = first_batches(1), first_batches(1, seed=2)
  assert difference(one, other) > 0.1
  assert difference(one[:2], one[2:4]) > 0.1


def test_threads_do_not_change_which_anchors_are_drawn():
  one = first_batches(1, rpn_batch_size_per_im=64)
  four = first_batches(4, rpn_batch_size_per_im=64)
  assert difference(one, four, *GROUND_TRUTH) == 0
  assert difference(one, four, 'rpn_score_targets', 'rpn_box_targets') == 0


# Against Model Garden.


def check_image_info(labels, expected):
  """Row 1 is the visible part here; theirs is the canvas, with the padding."""
  ours, theirs = labels['image_info'], expected['image_info'].numpy()
  np.testing.assert_allclose(ours[[0, 2, 3]], theirs[[0, 2, 3]])
  np.testing.assert_array_equal(theirs[1], [64, 64])
  np.testing.assert_allclose(ours[1], np.round(ours[0] * theirs[2]))


@pytest.mark.parametrize('height, width', [(48, 64), (64, 64), (90, 33)])
def test_labels_equal_model_garden_s_without_augmentation(height, width):
  example, masks = tiny.example(seed=5, height=height, width=width)
  anchor = tiny.params().anchor
  theirs = maskrcnn_input.Parser(
      output_size=[64, 64], min_level=2, max_level=6,
      num_scales=anchor.num_scales, aspect_ratios=anchor.aspect_ratios,
      anchor_size=anchor.anchor_size, rpn_batch_size_per_im=2046,
      max_num_instances=6, include_mask=True, mask_crop_size=28)
  other, expected = theirs.parse_fn(True)(dict(
      example, groundtruth_instance_masks=tf.constant(masks, tf.float32)))
  image, labels = parse(example)
  np.testing.assert_allclose(image, other, atol=1e-4)
  for key in ('gt_boxes', 'gt_classes'):
    np.testing.assert_allclose(labels[key], expected[key], atol=1e-4)
  for key in ('anchor_boxes', 'rpn_score_targets', 'rpn_box_targets'):
    for level in '23456':
      np.testing.assert_allclose(
          labels[key][level], expected[key][level], atol=1e-4)
  check_image_info(labels, expected)
  n = count(labels)
  # Theirs lie half an image pixel off, unless told to.
  assert np.abs(labels['gt_masks'][:n] - expected['gt_masks'][:n]).mean() < 0.06
  _, labels = parse(example, aligned_masks=False)
  np.testing.assert_allclose(
      labels['gt_masks'], expected['gt_masks'], atol=1e-4)


def test_evaluation_shows_what_model_garden_shows():
  example, _ = tiny.example(height=50, width=40)
  theirs = maskrcnn_input.Parser([64, 64], 2, 6, 1, [0.5, 1., 2.], 4.)
  other, expected = theirs.parse_fn(False)(example)
  image, labels = parse(example, is_training=False)
  np.testing.assert_allclose(image, other, atol=1e-4)
  check_image_info(labels, expected)


# Real images, converted and read.


def real_examples(shared_dir, tmp_path, name, split, annotations, count):
  """The first examples of a real data set, as both decoders give them."""
  folder = shared_dir / 'data' / name
  dataset = coco_json.read(folder / 'annotations' / annotations)
  images = dataset['images'][:count]
  known = {image['id'] for image in images}
  files.write_json(str(tmp_path / 'a.json'), dict(
      dataset, images=images, annotations=[
          a for a in dataset['annotations'] if a['image_id'] in known]))
  tfrecord.convert_coco(str(folder / split), str(tmp_path / 'a.json'),
                        str(tmp_path / 'a'), num_shards=1, num_workers=0)
  records = list(tf.data.TFRecordDataset(
      tfrecord.shard_paths(str(tmp_path / 'a-*'))))
  assert len(records) == count
  for record in records:
    yield tuple(decoder(include_mask=True).decode(record) for decoder in (
        panet_parser.Decoder, tf_example_decoder.TfExampleDecoder))


@pytest.mark.parametrize('scale', [0.75, 1.25])
@pytest.mark.parametrize('name, split, annotations, count', [
    ('coco_tiny', 'val2017', 'instances_val2017.json', 12),
    ('nuclei', 'val', 'instances_val.json', 6)])
def test_labels_of_real_images_equal_model_garden_s(
    shared_dir, tmp_path, monkeypatch, name, split, annotations, count, scale):
  """Mask targets too, where they are asked to be sampled as there."""
  options = dict(max_num_instances=400, mask_crop_size=112, aug_scale_min=scale,
                 aug_scale_max=scale, rpn_batch_size_per_im=10**6)
  ours = tiny.parser(tiny.params(input_size=[256, 256, 3]),
                     aligned_masks=False, **options).parse_fn(True)
  anchor = tiny.params().anchor
  theirs = maskrcnn_input.Parser(
      output_size=[256, 256], min_level=2, max_level=6,
      num_scales=anchor.num_scales, aspect_ratios=anchor.aspect_ratios,
      anchor_size=anchor.anchor_size, include_mask=True,
      **options).parse_fn(True)
  resize, num_objects = image_scaling.resize_to_canvas, 0
  for own, other in real_examples(
      shared_dir, tmp_path, name, split, annotations, count):
    reference, expected = theirs(other)
    size, _, factor, offset = expected['image_info'].numpy()
    spare = np.maximum(np.round(size * factor) - 256, 1)
    monkeypatch.setattr(  # The crop that theirs has drawn.
        image_scaling, 'resize_to_canvas',
        lambda image, scale, canvas, *_, place=(offset + 0.5) / spare: (
            resize(image, scale, canvas, place)))
    image, labels = ours(dict(own, random_seed=tf.constant([1, 2], tf.int64)))
    np.testing.assert_array_equal(labels['image_info'][2:], [factor, offset])
    np.testing.assert_allclose(image, reference, atol=1e-4)
    for key in ('gt_boxes', 'gt_classes'):
      np.testing.assert_allclose(labels[key], expected[key], atol=1e-4)
    for key in ('anchor_boxes', 'rpn_score_targets', 'rpn_box_targets'):
      for level in '23456':
        np.testing.assert_allclose(
            labels[key][level], expected[key][level], atol=1e-4)
    difference = np.abs(labels['gt_masks'] - expected['gt_masks'])
    assert np.mean(difference, (1, 2)).max() < 1e-3
    num_objects += np.sum(labels['gt_classes'] > 0)
  assert num_objects > 50


def test_records_of_model_garden_s_converter_give_the_same_labels(tmp_path):
  """They hold whole masks only."""
  for record in tf.data.TFRecordDataset(
      tfrecord.shard_paths(tiny.write_shards(tmp_path))):
    example = tf.train.Example.FromString(record.numpy())
    for key in ('crop', 'crop_top', 'crop_left'):
      del example.features.feature[f'image/object/mask/{key}']
    labels, expected = (
        parse(seeded(panet_parser.Decoder(include_mask=True).decode(x), 3),
              aug_rand_hflip=True, aug_scale_min=0.8, aug_scale_max=1.3)[1]
        for x in (example.SerializeToString(), record))
    assert np.any(expected['gt_masks'] > 0.5)
    tf.nest.map_structure(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4),
        labels, expected)
