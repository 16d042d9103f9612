"""What operators of a network are called: ONNX's names."""

from collections.abc import Sequence

import numpy as np

from costmodels.kernel import IndexArray

__all__ = ["INPUT", "OPCODES", "is_known", "opcode_numbers"]

INPUT = "Input"
"""An input of the network."""
_POINTWISE = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
Cast CastLike Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual
HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not
Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum
Swish Tan Tanh ThresholdedRelu Where Xor
"""
_CONTRACTIONS = """
Attention Conv ConvInteger ConvTranspose DeformConv Einsum Gemm GRU LSTM MatMul MatMulInteger RNN
"""
_REDUCTIONS = """
ArgMax ArgMin AveragePool BatchNormalization CumSum GlobalAveragePool GlobalLpPool GlobalMaxPool
GroupNormalization Hardmax InstanceNormalization LRN LayerNormalization LogSoftmax LpNormalization
LpPool MaxPool MaxRoiPool MaxUnpool MeanVarianceNormalization NonMaxSuppression RMSNormalization
ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare RoiAlign Softmax TopK Unique
"""
_MOVES = """
AffineGrid CenterCropPad Col2Im Compress Concat ConstantOfShape DepthToSpace Dropout Expand EyeLike
Flatten Gather GatherElements GatherND GridSample Identity NonZero OneHot Pad Range Reshape Resize
ReverseSequence ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze
TensorScatter Tile Transpose Trilu Unsqueeze Upsample
"""
_QUANTIZED = """
DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul QuantizeLinear
"""
_OTHER = """
Bernoulli BlackmanWindow DFT Det HammingWindow HannWindow MelWeightMatrix Multinomial RandomNormal
RandomNormalLike RandomUniform RandomUniformLike RotaryEmbedding STFT
"""
OPCODES: tuple[str, ...] = (
    INPUT,
    *(_POINTWISE + _CONTRACTIONS + _REDUCTIONS + _MOVES + _QUANTIZED + _OTHER).split(),
)
"""All that the encoder knows. The order is part of its schema: add at the end."""
_NUMBER = {opcode: number for number, opcode in enumerate(OPCODES)}


def is_known(opcode: str) -> bool:
    """Whether it is one of `OPCODES`."""
    return opcode in _NUMBER


def opcode_numbers(opcodes: Sequence[str]) -> IndexArray:
    """int64 [operators]; position of each in `OPCODES`, all of which must be known."""
    return np.array([_NUMBER[each] for each in opcodes], np.int64)
