"""The weights a training starts from, also those of a model of other classes.

Section 4.3 starts on Cityscapes from a model of COCO, "with the same setting"
as Mask R-CNN, whose appendix A says: "we initialize the corresponding 7
categories in Cityscapes from a pre-trained COCO Mask R-CNN model (rider being
randomly initialized)".
"""

from typing import Dict, List, Sequence, Tuple

from google.protobuf import message
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2
import tf_keras

from panet_tf import errors

_OBJECT_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'  # Objects, and their keys.
_MOST_NAMES = 8


def load(model: tf_keras.Model, checkpoint: str, labels: Sequence[int] = ()):
  """Loads all of a model, and prints what of it and of the file is left over.

  Args:
    model: a built `PANetModel`.
    checkpoint: path, as `checkpoints.find` gives it.
    labels: as `config.PANetTask.init_labels`.

  Raises:
    InputError: the checkpoint or the labels do not fit; nothing has changed.
  """
  values, unused = _read(model, checkpoint)
  layers = _class_layers(model)
  num_classes = layers[0].units
  num_stored = values[id(layers[0].bias)].size
  _check_labels(labels, num_classes, num_stored, checkpoint)
  sources = [0, *labels] if labels else list(range(num_classes))
  by_class = {id(v) for layer in layers for v in (layer.kernel, layer.bias)}
  for v in model.variables:
    shape = tuple(v.shape)
    if id(v) in by_class:
      shape = (*shape[:-1], shape[-1] // num_classes * num_stored)
    if values[id(v)].shape != shape:
      raise _misfit(checkpoint, f'{v.name} has the shape '
                    f'{values[id(v)].shape} there and should have {shape}')
  for v in model.variables:
    v.assign(transfer(v.numpy(), values[id(v)], sources)
             if id(v) in by_class else values[id(v)])
  print(_summary(checkpoint, layers, sources, num_stored, unused), flush=True)


def transfer(initial: np.ndarray, stored: np.ndarray,
             sources: Sequence[int]) -> np.ndarray:
  """Puts classes of a stored weight in the place of initial ones.

  Args:
    initial: [..., num_classes * n], class-major: n numbers belong together.
    stored: [..., num_stored * n].
    sources: for each class the stored one, 0 to keep the initial numbers. The
      background, class 0, always takes the stored one.

  Returns:
    An array like `initial`.
  """
  n = initial.shape[-1] // len(sources)
  result = initial.reshape(*initial.shape[:-1], -1, n).copy()
  stored = stored.reshape(*stored.shape[:-1], -1, n)
  known = [c for c, source in enumerate(sources) if source or not c]
  result[..., known, :] = stored[..., [sources[c] for c in known], :]
  return result.reshape(initial.shape)


def _class_layers(model) -> List[tf_keras.layers.Layer]:
  """Layers whose last axis is the classes; the first has one unit for each."""
  layers = []
  for head in model.detection_head:
    layers += [head.class_logits, head.box_deltas]
  if model.mask_head is not None:
    layers.append(model.mask_head.classifier)
  return layers


def _one_line(error):
  return ' '.join(str(error).split())[:160]


def _misfit(checkpoint, reason):
  return errors.InputError(
      f'task.init_checkpoint {checkpoint} does not fit this model: {reason}')


def _read(model, checkpoint) -> Tuple[Dict[int, np.ndarray], List[str]]:
  """{id of a variable: its value in the checkpoint}, and keys left over.

  Objects are matched as `tf.train.Checkpoint` does it: a key is the shortest
  path of its object, which depends on what else was saved.
  """
  try:
    matched = tf.train.CheckpointView(checkpoint).match(
        tf.train.Checkpoint(model=model))
    reader = tf.train.load_checkpoint(checkpoint)
    nodes = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(_OBJECT_GRAPH)).nodes
  except (ValueError, message.DecodeError, tf.errors.OpError) as e:
    raise _misfit(checkpoint, _one_line(e)) from e
  keys = {id(matched[i]): nodes[i].attributes[0].checkpoint_key
          for i in matched if nodes[i].attributes}
  missing = [v.name for v in model.variables if id(v) not in keys]
  if missing:
    raise _misfit(checkpoint, f'it lacks {len(missing)} of '
                  f'{len(model.variables)} variables: {_names(missing)}')
  try:
    values = {id(v): reader.get_tensor(keys[id(v)]) for v in model.variables}
  except tf.errors.OpError as e:
    raise _misfit(checkpoint, _one_line(e)) from e
  return values, _unmatched(nodes, matched)


def _unmatched(nodes, matched) -> List[str]:
  """Keys of the saved model's variables that this model has no place for."""
  seen = set()
  to_visit = [c.node_id for c in nodes[0].children if c.local_name == 'model']
  while to_visit:
    i = to_visit.pop()
    if i not in seen:
      seen.add(i)
      to_visit += [child.node_id for child in nodes[i].children]
  return sorted(
      nodes[i].attributes[0].checkpoint_key.partition('/.ATTRIBUTES')[0]
      for i in seen - set(matched) if nodes[i].attributes)


def _check_labels(labels, num_classes, num_stored, checkpoint):
  """Raises InputError unless each label of the model has a source or 0."""
  if not labels:
    if num_classes != num_stored:
      raise _misfit(
          checkpoint, f'it has {num_stored - 1} classes and this model '
          f'{num_classes - 1} (without background): task.init_labels should '
          'say, for each label of this model, which of the checkpoint it '
          'starts from (0: none)')
    return
  if len(labels) != num_classes - 1:
    raise errors.InputError(
        f'task.init_labels has {len(labels)} entries; it should have '
        f'{num_classes - 1}, one for each label of this model')
  for label, source in enumerate(labels, 1):
    is_label = isinstance(source, int) and not isinstance(source, bool)
    if not (is_label and 0 <= source < num_stored):
      raise errors.InputError(
          f'task.init_labels has {source!r} for label {label}; the checkpoint '
          f'{checkpoint} has the labels 1 to {num_stored - 1} (0: none)')


def _names(names):
  more = f', ... ({len(names) - _MOST_NAMES} more)'
  return ', '.join(names[:_MOST_NAMES]) + more * (len(names) > _MOST_NAMES)


def _summary(checkpoint, layers, sources, num_stored, unused):
  """What was loaded, and what was not."""
  lines = [f'initial weights: {checkpoint}']
  if sources != list(range(num_stored)):
    taken = [f'{c} from {s}' for c, s in enumerate(sources) if s]
    fresh = [str(c) for c, s in enumerate(sources) if c and not s]
    lines += [
        f'  labels of {", ".join(layer.name for layer in layers)}: '
        + (', '.join(taken) or 'none'),
        f'  not loaded, new weights for labels: {", ".join(fresh) or "none"}']
  if unused:
    lines.append(f'  of the checkpoint, not used: {_names(unused)}')
  return '\n'.join(lines)
