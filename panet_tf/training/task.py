"""PANet as a Model Garden task.

Losses, training step and optimiser are Mask R-CNN's; the model, the input and
the evaluation are ours.
"""

from typing import Any

from official.common import dataset_fn as dataset_fn_lib
from official.core import task_factory
from official.vision.losses import maskrcnn_losses
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
from panet_tf.dataloaders import sampling
from panet_tf.evaluation import all_workers
from panet_tf.evaluation import coco_evaluator
from panet_tf.evaluation import proposal_evaluator
from panet_tf.model_garden import records
from panet_tf.model_garden import training
from panet_tf.training import initial_weights
from panet_tf.training import progress


@task_factory.register_task_cls(panet_config.PANetTask)
class PANetTask(training.MaskRCNNTask):
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
    reader = records.Reader(
        params.replace(input_path=paths), record_fn=balance,
        dataset_fn=dataset_fn, decoder_fn=decode,
        sample_fn=sampling.attach_seeds(seed) if params.is_training else None,
        parser_fn=parser.parse_fn(params.is_training),
        transform_and_batch_fn=transform_and_batch)
    return reader.read(input_context=input_context)

  def rpn_losses(self, outputs, labels):
    """Model Garden's, also of an RPN alone and of maps of unknown size.

    The score loss is divided by the number of RoIs that an image's box branch
    is trained on; of an RPN alone by as many anchors as are sampled. The box
    loss wants to know a map's size, but sums over all its places.
    """
    stages = self.task_config.model.stages
    if stages == 'detector':
      return tf.constant(0.0), tf.constant(0.0)
    divisor = (self.task_config.train_data.parser.rpn_batch_size_per_im
               if stages == 'rpn' else tf.shape(outputs['box_outputs'])[1])
    boxes, targets = (
        {level: tf.reshape(x, [-1, 1, 1, x.shape[-1]])
         for level, x in maps.items()}
        for maps in (outputs['rpn_boxes'], labels['rpn_box_targets']))
    return (
        maskrcnn_losses.RpnScoreLoss(divisor)(
            outputs['rpn_scores'], labels['rpn_score_targets']),
        maskrcnn_losses.RpnBoxLoss(
            self.task_config.losses.rpn_huber_loss_delta)(boxes, targets))

  def box_losses(self, outputs, labels):
    """Model Garden's; none of an RPN alone."""
    if self.task_config.model.stages == 'rpn':
      return tf.constant(0.0), tf.constant(0.0)
    return super().box_losses(outputs, labels)

  def coco_evaluator(self):
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
    self._num_images = len(ground_truth['images'])
    return evaluator(
        ground_truth, include_mask=model.include_mask,
        legacy_masks=model.legacy_boxes,
        max_detections=model.detection_generator.max_num_detections,
        category_ids=category_ids,
        image_ids=info['image_ids'] if info else None,
        per_category=self.task_config.per_category_metrics)

  def validation_step(self, inputs, model: tf_keras.Model, metrics=None):
    """Detections of one batch, for the evaluator."""
    images, labels = inputs
    info = labels['image_info']
    stored = {key: labels[key] for key in ('proposals',) if key in labels}
    predictions = dict(
        model.detect(images, info, **stored),
        source_id=labels['source_id'], image_info=info)
    # Model Garden's aggregation passes a pair (ground truth, predictions).
    return {self.loss: 0, self.coco_metric.name: ({}, predictions)}

  def aggregate_logs(self, state=None, step_outputs=None):
    """Hands a batch to the evaluator, and says how far it is."""
    if not state:
      share = all_workers.share(tf.distribute.get_strategy())
      self._watch = progress.EvaluationProgress(round(share * self._num_images))
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
