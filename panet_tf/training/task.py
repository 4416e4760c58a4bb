"""PANet as a Model Garden task.

Losses, training step and optimiser are Mask R-CNN's; the model, the input and
the evaluation are ours.
"""

from typing import Any

from official.common import dataset_fn as dataset_fn_lib
from official.core import task_factory
from official.vision.tasks import maskrcnn
import tensorflow as tf
import tf_keras

from panet_tf import factory
from panet_tf import runs
from panet_tf.configs import panet as panet_config
from panet_tf.data import coco_json
from panet_tf.data import tfrecord
from panet_tf.dataloaders import batching
from panet_tf.dataloaders import factory as input_factory
from panet_tf.dataloaders import parser as panet_parser
from panet_tf.dataloaders import proposals as proposals_lib
from panet_tf.dataloaders import reader as reader_lib
from panet_tf.dataloaders import sampling
from panet_tf.evaluation import all_workers
from panet_tf.evaluation import coco_evaluator
from panet_tf.evaluation import proposal_evaluator
from panet_tf.training import initial_weights
from panet_tf.training import progress


@task_factory.register_task_cls(panet_config.PANetTask)
class PANetTask(maskrcnn.MaskRCNNTask):
  """Training and evaluation of PANet."""

  def build_model(self) -> tf_keras.Model:
    """Builds the model, its variables created."""
    weight_decay = self.task_config.losses.l2_weight_decay
    # tf.nn.l2_loss halves, Keras does not: the gradient is decay * weight.
    regularizer = (
        tf_keras.regularizers.l2(weight_decay / 2) if weight_decay else None)
    model = factory.build_panet(self.task_config.model, regularizer)
    if self.task_config.freeze_backbone:
      model.backbone.trainable = False
    return model

  def initialize(self, model: tf_keras.Model):
    """Loads `init_checkpoint`; InputError if it is of another model."""
    path = self.task_config.init_checkpoint
    modules = self.task_config.init_checkpoint_modules
    if not path:
      return
    checkpoint = runs.find(path)
    if modules == 'all':
      initial_weights.load(model, checkpoint, self.task_config.init_labels)
      return
    named = [modules] if isinstance(modules, str) else list(modules)
    if 'backbone' in named:
      runs.check_backbone(checkpoint, self.task_config.model.as_dict())
    initial_weights.load_modules(model, checkpoint, named)

  def build_inputs(self, params: panet_config.DataConfig,
                   input_context: tf.distribute.InputContext | None = None,
                   dataset_fn: Any = None) -> tf.data.Dataset:
    """Batches of (image, labels); see `dataloaders.parser`."""
    model = self.task_config.model
    decoder = panet_parser.Decoder(
        include_mask=model.include_mask and params.is_training,
        regenerate_source_id=params.regenerate_source_id)
    parser = input_factory.build_parser(model, params)
    paths = tfrecord.shard_paths(params.input_path)
    decode = decoder.decode
    if params.proposals:
      stored = proposals_lib.read(
          params.proposals, input_factory.num_proposals(model, params))
      decode = stored.joined(decode, proposals_lib.image_ids(paths))
    dataset_fn = dataset_fn or dataset_fn_lib.pick_dataset_fn(params.file_type)
    # As Model Garden's own.
    seed = None if params.enable_tf_data_service else params.seed
    balance = transform_and_batch = None
    if params.class_balanced:
      balance = sampling.class_balanced(
          paths, dataset_fn, model.num_classes, seed)
    if len(params.parser.canvases) > 1:
      transform_and_batch = batching.batches_of_one_canvas(
          params.global_batch_size)
    reader = reader_lib.Reader(
        params.replace(input_path=paths),
        record_fn=balance,
        dataset_fn=dataset_fn,
        decoder_fn=decode,
        sample_fn=reader_lib.attach_seeds(seed) if params.is_training else None,
        parser_fn=parser.parse_fn(params.is_training),
        transform_and_batch_fn=transform_and_batch)
    return reader.read(input_context=input_context)

  def _build_rpn_losses(self, outputs, labels):
    """Model Garden's, also where a map's size is known at run time only.

    Its box loss needs to know it, but sums over all places of a map.
    """
    if self.task_config.model.stages == 'detector':
      return tf.constant(0.0), tf.constant(0.0)
    if self.task_config.model.stages == 'rpn':
      # The score loss is divided by the second axis of this: sampled RoIs,
      # where there are some, as many as an RPN has sampled anchors.
      anchors = self.task_config.train_data.parser.rpn_batch_size_per_im
      outputs = dict(outputs, box_outputs=tf.zeros([1, anchors]))
    boxes, targets = (
        {level: tf.reshape(x, [-1, 1, 1, x.shape[-1]])
         for level, x in maps.items()}
        for maps in (outputs['rpn_boxes'], labels['rpn_box_targets']))
    return super()._build_rpn_losses(
        dict(outputs, rpn_boxes=boxes), dict(labels, rpn_box_targets=targets))

  def _build_frcnn_losses(self, outputs, labels):
    """Model Garden's; none of an RPN alone."""
    if self.task_config.model.stages == 'rpn':
      return tf.constant(0.0), tf.constant(0.0)
    return super()._build_frcnn_losses(outputs, labels)

  def _build_coco_metrics(self):
    """Ground truth is the given file, or the shards; never a left-over."""
    path = self.task_config.validation_data.input_path
    if self.task_config.annotation_file:
      ground_truth = coco_json.read(self.task_config.annotation_file)
    else:
      ground_truth = tfrecord.ground_truth_from_shards(path)
    model = self.task_config.model
    info = tfrecord.read_dataset_info(path)
    if info:
      category_ids = [category['id'] for category in info['categories']]
    else:  # Model Garden's shards: the label is the category id, with gaps.
      category_ids = list(range(1, model.num_classes))
      _complete_categories(ground_truth, category_ids)
    evaluator = (proposal_evaluator.ProposalEvaluator
                 if model.stages == 'rpn' else coco_evaluator.CocoEvaluator)
    self.coco_metric = evaluator(
        ground_truth,
        include_mask=model.include_mask,
        max_detections=model.detection_generator.max_num_detections,
        category_ids=category_ids,
        image_ids=info['image_ids'] if info else None,
        per_category=self.task_config.per_category_metrics)
    self._num_images = len(ground_truth['images'])

  def validation_step(self, inputs, model: tf_keras.Model, metrics=None):
    """Detections of one batch, for the evaluator."""
    images, labels = inputs
    outputs = model(
        images,
        anchor_boxes=labels['anchor_boxes'],
        image_shape=model.im_info(labels['image_info']),
        training=False)
    fields = ['detection_boxes', 'detection_scores', 'detection_classes',
              'num_detections']
    if self.task_config.model.include_mask:
      fields.append('detection_masks')
    predictions = {field: outputs[field] for field in fields}
    info = labels['image_info']
    predictions.update(source_id=labels['source_id'], image_info=info)
    if self.task_config.model.legacy_boxes:
      # The evaluator divides by the scale, and a box's last pixel by it, too.
      predictions['detection_boxes'] = model.image_boxes(
          outputs['detection_boxes'], info) * tf.tile(info[:, 2:3], [1, 1, 2])
    # Model Garden's aggregation passes a pair (ground truth, predictions).
    return {self.loss: 0, self.coco_metric.name: ({}, predictions)}

  def aggregate_logs(self, state=None, step_outputs=None):
    """Hands a batch to the evaluator, and says how far it is."""
    if not state:
      share = all_workers.share(tf.distribute.get_strategy())
      self._watch = progress.EvaluationProgress(
          round(share * self._num_images))
    state = super().aggregate_logs(state, step_outputs)
    self._watch(self.coco_metric.num_images)
    return state

  def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
    """COCO's metrics, under Model Garden's names; the main ones printed."""
    # Every worker saw its own shard.
    all_workers.merge(self.coco_metric, tf.distribute.get_strategy())
    logs = super().reduce_aggregated_logs(aggregated_logs, global_step)
    if self.task_config.model.stages == 'rpn':
      proposal_evaluator.print_metrics(logs)
    else:
      progress.print_metrics(logs)
    return logs


def _complete_categories(ground_truth, category_ids):
  """Names by number the ids that a detection may have and the data has not."""
  known = {category['id'] for category in ground_truth['categories']}
  ground_truth['categories'] += [
      {'id': i, 'name': str(i)} for i in category_ids if i not in known]
