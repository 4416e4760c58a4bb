"""Evaluation in several worker processes, each with a part of the images.

When its loop ends they exchange what they detected, once, and then all compute
the same metrics.
"""

import numpy as np
import tensorflow as tf


def merge(metric, strategy):
  """Completes a metric by what the other workers have; all must call it.

  It has `state()`, [S] uint8, and `merge` of such states. Nothing happens where
  all replicas of the strategy are in this process.
  """
  replicas = _local_replicas(strategy)
  if replicas < strategy.num_replicas_in_sync:
    metric.merge(_gather(metric.state(), strategy, replicas))


def share(strategy):
  """About which part of the images this process sees, above 0, at most 1."""
  return _local_replicas(strategy) / strategy.num_replicas_in_sync


def _local_replicas(strategy):
  return len(_run(strategy, lambda: tf.distribute.get_replica_context(
      ).replica_id_in_sync_group))


def _run(strategy, function):
  """What each replica of this process returns."""
  return strategy.experimental_local_results(
      tf.function(lambda: strategy.run(function))())


def _gather(state, strategy, replicas_per_worker):
  """Every worker's state, in order of worker."""
  # Collectives have no uint8: words of eight bytes, the first one the length.
  words = tf.constant(np.concatenate([
      [state.size], np.pad(state, (0, -state.size % 8)).view(np.int64)]))

  def gather():
    context = tf.distribute.get_replica_context()
    # One replica speaks for its worker.
    speaks = context.replica_id_in_sync_group % replicas_per_worker == 0
    return context.all_gather(words if speaks else words[:0], axis=0)

  gathered = _run(strategy, gather)[0].numpy()
  states = []
  while gathered.size:
    length = int(gathered[0])
    end = 1 + -(-length // 8)
    states.append(gathered[1:end].view(np.uint8)[:length])
    gathered = gathered[end:]
  return states
