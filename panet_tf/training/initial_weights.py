"""The weights a training starts from, also those of a model of other classes.

Section 4.3 starts on Cityscapes from a model of COCO, "with the same setting"
as Mask R-CNN, whose appendix A says: "we initialize the corresponding 7
categories in Cityscapes from a pre-trained COCO Mask R-CNN model (rider being
randomly initialized)".
"""

from collections.abc import Sequence

from google.protobuf import message
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2
import tf_keras

from panet_tf import errors
from panet_tf.modeling.layers import deformable_conv

_OBJECT_GRAPH = '_CHECKPOINTABLE_OBJECT_GRAPH'  # Objects, and their keys.
_MOST_NAMES = 8


def load(model: tf_keras.Model, checkpoint: str, labels: Sequence[int] = ()):
  """Loads all of a model, and prints what of it and of the file is left over.

  A model of another number of classes keeps its own class-dependent last
  layers, unless `labels` says where their weights come from. Offsets of
  deformable convolutions, which a plain backbone has not, stay as they are.

  Args:
    model: a built `PANetModel`.
    checkpoint: path, as `runs.find` gives it.
    labels: as `configs.panet.PANetTask.init_labels`.

  Raises:
    InputError: the checkpoint or the labels do not fit; nothing has changed.
  """
  values, unused = _read({'model': model}, checkpoint)
  layers = _class_layers(model)
  num_classes = layers[0].units
  num_stored = values[id(layers[0].bias)].size
  _check_labels(labels, num_classes, num_stored, checkpoint)
  by_class = {id(v) for layer in layers for v in (layer.kernel, layer.bias)}
  sources = list(range(num_classes))
  if labels:
    sources = [0, *labels]
  elif num_stored != num_classes:
    sources = []
  _check_shapes(model.variables, values, checkpoint, {
      v: num_stored / num_classes for v in by_class})
  for v in model.variables:
    if id(v) in by_class:
      values[id(v)] = (transfer(v.numpy(), values[id(v)], sources) if sources
                       else v.numpy())
  _assign(model.variables, values, unused, [
      f'initial weights: {checkpoint}',
      *_summary(layers, sources, num_classes, num_stored)])


def load_modules(model: tf_keras.Model, checkpoint: str,
                 modules: Sequence[str]):
  """Loads parts of a model, and prints what of them is left over.

  The checkpoint has them under the names of the model's attributes, too.

  Raises:
    InputError: the checkpoint does not fit; nothing has changed.
  """
  parts = {name: getattr(model, name) for name in modules}
  values, unused = _read(parts, checkpoint)
  variables = _variables(parts)
  _check_shapes(variables, values, checkpoint, {})
  _assign(variables, values, unused,
          [f'initial weights of {", ".join(modules)}: {checkpoint}'])


def _assign(variables, values, unused, lines):
  """Sets what there are values for; prints `lines`, and what is left over."""
  for v in variables:
    if id(v) in values:
      v.assign(values[id(v)])
  new = [v.name for v in variables if id(v) not in values]
  for what, names in (('not loaded, new', new),
                      ('of the checkpoint, not used', unused)):
    if names:
      lines.append(f'  {what}: {_names(names)}')
  print('\n'.join(lines), flush=True)


def transfer(initial: np.ndarray, stored: np.ndarray,
             sources: Sequence[int]) -> np.ndarray:
  """Puts classes of a stored weight in the place of initial ones.

  Args:
    initial: [..., num_classes * n], class-major: n numbers belong together.
    stored: [..., num_stored * n].
    sources: for each class the stored one, 0 to keep the initial numbers. The
      background, class 0, always takes the stored one.
  """
  n = initial.shape[-1] // len(sources)
  result = initial.reshape(*initial.shape[:-1], -1, n).copy()
  stored = stored.reshape(*stored.shape[:-1], -1, n)
  known = [c for c, source in enumerate(sources) if source or not c]
  result[..., known, :] = stored[..., [sources[c] for c in known], :]
  return result.reshape(initial.shape)


def _class_layers(model) -> list[tf_keras.layers.Layer]:
  """Layers whose last axis is the classes; the first has one unit for each."""
  layers = []
  for head in model.detection_head:
    layers += [head.class_logits, head.box_deltas]
  if model.mask_head is not None:
    layers.append(model.mask_head.classifier)
  return layers


def _misfit(checkpoint, reason):
  """An InputError; a reason that is another error, in one line."""
  if isinstance(reason, Exception):
    reason = ' '.join(str(reason).split())[:160]
  return errors.InputError(
      f'task.init_checkpoint {checkpoint} does not fit this model: {reason}')


def _variables(parts) -> list[tf.Variable]:
  return [v for part in parts.values() for v in part.variables]


def _read(parts, checkpoint) -> tuple[dict[int, np.ndarray], list[str]]:
  """{id of a variable: its value in the checkpoint}, and keys left over.

  Objects are matched as `tf.train.Checkpoint` does it: a key is the shortest
  path of its object, which depends on what else was saved.
  """
  try:
    matched = tf.train.CheckpointView(checkpoint).match(
        tf.train.Checkpoint(**parts))
    reader = tf.train.load_checkpoint(checkpoint)
    nodes = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(_OBJECT_GRAPH)).nodes
  except (ValueError, message.DecodeError, tf.errors.OpError) as e:
    raise _misfit(checkpoint, e) from e
  keys = {id(matched[i]): nodes[i].attributes[0].checkpoint_key
          for i in matched if nodes[i].attributes}
  variables, optional = _variables(parts), _offsets(parts)
  missing = [v.name for v in variables
             if id(v) not in keys and id(v) not in optional]
  if missing:
    raise _misfit(checkpoint, f'it lacks {len(missing)} of '
                  f'{len(variables)} variables: {_names(missing)}')
  try:
    values = {id(v): reader.get_tensor(keys[id(v)])
              for v in variables if id(v) in keys}
  except tf.errors.OpError as e:
    raise _misfit(checkpoint, e) from e
  return values, _unmatched(nodes, matched, parts)


def _offsets(parts) -> set[int]:
  """Variables of the offsets of deformable convolutions, which begin at 0."""
  return {id(v) for part in parts.values() for layer in part.submodules
          if isinstance(layer, deformable_conv.DeformableConv2D)
          for v in layer.offset.variables}


def _check_shapes(variables, values, checkpoint, by_class):
  """Raises InputError unless shapes agree.

  Variables whose last axis is the classes are in `by_class`, under their id:
  how many times as long they are in the checkpoint.
  """
  for v in variables:
    if id(v) in values:
      shape = tuple(v.shape)
      if id(v) in by_class:
        shape = (*shape[:-1], round(shape[-1] * by_class[id(v)]))
      if values[id(v)].shape != shape:
        raise _misfit(checkpoint, f'{v.name} has the shape '
                      f'{values[id(v)].shape} there and should have {shape}')


def _unmatched(nodes, matched, parts) -> list[str]:
  """Keys of variables saved in such parts that these have no place for."""
  seen = set()
  to_visit = [c.node_id for c in nodes[0].children if c.local_name in parts]
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
  if labels and len(labels) != num_classes - 1:
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


def _summary(layers, sources, num_classes, num_stored) -> list[str]:
  """Which classes were loaded, where these are not all in their order."""
  names = ', '.join(layer.name for layer in layers)
  if not sources:
    return [f'  not loaded: {names}: {num_stored - 1} classes there, '
            f'{num_classes - 1} here (task.init_labels can map them)']
  if sources == list(range(num_stored)):
    return []
  taken = [f'{c} from {s}' for c, s in enumerate(sources) if s]
  fresh = [str(c) for c, s in enumerate(sources) if c and not s]
  return [
      f'  labels of {names}: ' + (', '.join(taken) or 'none'),
      f'  not loaded, new weights for labels: {", ".join(fresh) or "none"}']
