"""A function over many arguments, in processes, results in order.

Processes are spawned: TensorFlow's threads do not survive a fork.
"""

import collections
from concurrent import futures
import contextlib
import multiprocessing
import os
import sys

import tqdm


def num_cores():
  """Cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def in_order(function, arguments, num_workers):
  """As `with_progress`, of any iterable, without the count."""
  if num_workers <= 1:
    yield from (function(*a) for a in arguments)
    return
  context = multiprocessing.get_context('spawn')
  with _importable_main(), futures.ProcessPoolExecutor(
      num_workers, mp_context=context) as pool:
    yield from ahead(pool, function, arguments, 2 * num_workers)


def ahead(pool, function, arguments, depth):
  """Yields `function(*a)` of all arguments in order, `depth` computed ahead."""
  pending = collections.deque()
  try:
    for a in arguments:
      pending.append(pool.submit(function, *a))
      if len(pending) > depth:
        yield pending.popleft().result()
    while pending:
      yield pending.popleft().result()
  finally:
    for future in pending:
      future.cancel()


def with_progress(function, arguments, num_workers, *, desc='images',
                  least=100, at_a_time=1):
  """Yields `function(*a)` of each of `arguments`, and counts images on stderr.

  Args:
    function: of one image, found by name in a module; that module's imports are
      what each process pays at its start.
    arguments: list of tuples.
    num_workers: processes, up to 1 none but this one; None takes one per core,
      where there is work for it. A few results at most are computed ahead.
    desc: what the count is called.
    least: images that make up for the start of a process.
    at_a_time: images that go to a process together, where each takes little.
  """
  if num_workers is None:
    num_workers = min(num_cores(), len(arguments) // least)
  parts = in_order(_each, [
      (function, arguments[i:i + at_a_time])
      for i in range(0, len(arguments), at_a_time)], num_workers)
  with contextlib.closing(parts), tqdm.tqdm(
      total=len(arguments), desc=desc, unit='image', mininterval=1
      ) as progress:
    for part in parts:
      yield from part
      progress.update(len(part))


def _each(function, arguments):
  return [function(*a) for a in arguments]


@contextlib.contextmanager
def _importable_main():
  """Keeps spawned processes from importing the caller's main program.

  They would run a script without `__main__` guard a second time, and import
  TensorFlow wherever the main program does.
  """
  main = sys.modules['__main__']
  kept = {name: getattr(main, name) for name in ('__spec__', '__file__')
          if hasattr(main, name)}
  try:
    main.__spec__ = None
    main.__dict__.pop('__file__', None)
    yield
  finally:
    vars(main).update(kept)
