"""Whether TF-TRT has a converter for what the network of a SavedModel does."""

import collections

import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from panet_tf.serving.formats import tensorrt

# Ops that TF-TRT with TensorRT 8.2 or later has a converter for: the names that
# REGISTER_DEFAULT_TRT_OP_CONVERTER registers in TensorFlow's
# tensorflow/compiler/tf2tensorrt/convert/convert_nodes.cc and convert/ops/*.cc.
# Read in stored sources of about 2022, not at the tag v2.17.1.
# There is no OneHot, CropAndResize, NonMaxSuppression or control flow.
CONVERTED_BY_TENSORRT = frozenset("""
    Abs Acos Acosh Add AddN AddV2 ArgMax ArgMin Asin Asinh Atan Atanh AvgPool
    AvgPool3D BatchMatMul BatchMatMulV2 BiasAdd Cast Ceil ClipByValue
    CombinedNonMaxSuppression ConcatV2 Const Conv2D Conv2DBackpropInput Conv3D
    Conv3DBackpropInputV2 Cos Cosh DataFormatVecPermute DepthToSpace
    DepthwiseConv2dNative Div Einsum Elu Equal Erf Exp ExpandDims
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars Fill Floor FloorDiv
    FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 FusedConv2DBiasActivation
    GatherV2 Greater GreaterEqual Identity IdentityN LeakyRelu Less LessEqual
    Log LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool MaxPool3D
    Maximum Mean Min Minimum Mul Neg OnesLike Pack Pad Pow Prod
    QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 Range ReadVariableOp RealDiv
    Reciprocal Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor Round
    Rsqrt Select SelectV2 Selu Shape Sigmoid Sign Sin Sinh Slice Snapshot
    Softmax Softplus Softsign SpaceToDepth Split Sqrt Square SquaredDifference
    Squeeze StopGradient StridedSlice Sub Sum Tan Tanh Tile TopKV2 Transpose
    Unpack VariableV2 ZerosLike""".split())
NETWORK = ('backbone', 'decoder', 'rpn_head', 'detection_head', 'mask_head')


def network_ops(saved_model: str, signature: str = 'serving_default'
               ) -> dict[str, dict[str, int]]:
  """How many nodes of each op the parts NETWORK have, {part: {op: number}}.

  The graph is frozen as TF-TRT does it, which drops what no output needs.
  """
  model = tf.saved_model.load(saved_model)  # Owns what a signature refers to.
  frozen = convert_to_constants.convert_variables_to_constants_v2(
      model.signatures[signature])
  ops = {part: collections.Counter() for part in NETWORK}
  for node in frozen.graph.as_graph_def().node:
    part = tensorrt.part_of(node.name)
    if part in ops and tensorrt.computes(node):
      training = 'is_training' in node.attr and node.attr['is_training'].b
      ops[part][f'{node.op} in training' if training else node.op] += 1
  return {part: dict(counts) for part, counts in ops.items() if counts}


def unconvertible(saved_model: str, signature: str = 'serving_default'
                 ) -> dict[str, dict[str, int]]:
  """Ops of `network_ops` that TF-TRT leaves to TensorFlow; {} is good."""
  left = {
      part: {op: count for op, count in ops.items()
             if op not in CONVERTED_BY_TENSORRT}
      for part, ops in network_ops(saved_model, signature).items()}
  return {part: ops for part, ops in left.items() if ops}
