"""Whether an exported graph can be loaded and converted elsewhere.

A SavedModel may need Python code, XLA or a younger TensorFlow without anyone
noticing here, where all of them are.
"""

import collections

from panet_tf.serving.formats import tensorrt

_PYTHON = ('PyFunc', 'PyFuncStateless', 'EagerPyFunc')


def ops_of(saved_model: str) -> dict[str, int]:
  """How many nodes of each op a SavedModel has, in all its functions.

  `tensorrt.Error` where there is none.
  """
  graph = tensorrt.read(saved_model).graph_def
  return dict(collections.Counter(node.op for node in _all_nodes(graph)))


def check(saved_model: str) -> list[str]:
  """What keeps a SavedModel from running in another TensorFlow: none is good.

  A line for each kind of problem: ops of Python or XLA, functions that XLA must
  compile, gradients that only this program knows (TensorFlow warns of them in
  every process that loads the model).
  """
  graph = tensorrt.read(saved_model).graph_def
  found = collections.defaultdict(list)
  for node in _all_nodes(graph):
    if node.op in _PYTHON or node.op.startswith('Xla'):
      found[f'op {node.op}'].append(node.name)
    if '_gradient_op_type' in node.attr:
      found['custom gradient'].append(node.name)
  for function in graph.library.function:
    if '_XlaMustCompile' in function.attr and (
        function.attr['_XlaMustCompile'].b):
      found['function for XLA only'].append(function.signature.name)
  return [f'{kind}: {len(names)} times, such as {names[0]}'
          for kind, names in found.items()]


def _all_nodes(graph):
  yield from graph.node
  for function in graph.library.function:
    yield from function.node_def
