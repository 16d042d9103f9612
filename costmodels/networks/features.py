"""Operators of a network -> numbers, as `costmodels.features.operator_features` of a kernel's.

Lists of varying length are cut off and followed by their sum and their product (Kaufman et al.,
MLSys 2021).
"""

from collections.abc import Sequence
from math import prod

import numpy as np

from costmodels.features.operator_features import dtype_bits
from costmodels.features.schema import FLAG, Column, FeatureSchema
from costmodels.kernel import RowArray
from costmodels.networks.graph import NetworkGraph, NetworkOperator, TensorType

__all__ = ["NETWORK_OPERATOR", "network_features", "operator_flop"]

_LISTS = (
    ("shape", 6, "element"),
    ("kernel_shape", 3, "element"),
    ("strides", 3, "element"),
    ("dilations", 3, "element"),
    ("pads_before", 3, "element"),
    ("pads_after", 3, "element"),
    ("axes", 4, "dimension"),
)
"""Name, entries kept, unit."""


def _columns() -> tuple[Column, ...]:
    columns = [
        Column("dtype.bits", "bit"),
        Column("dtype.is_float", "", FLAG),
        Column("flop", "flop"),
        Column("output.bytes", "byte"),
        Column("inputs.count", "tensor"),
        Column("inputs.bytes", "byte"),
        Column("weights.bytes", "byte"),
        Column("weights.bits", "bit"),
        Column("group", "group"),
    ]
    for name, kept, unit in _LISTS:
        columns.append(Column(f"{name}.length", "entry"))
        columns += [Column(f"{name}.{entry}", unit) for entry in range(kept)]
        columns += [Column(f"{name}.sum", unit), Column(f"{name}.product", unit)]
    return tuple(columns)


NETWORK_OPERATOR = FeatureSchema(name="network-operator", version=1, columns=_columns())
"""Schema of the nodes of a `NetworkGraph`, beside their opcode."""


def network_features(graph: NetworkGraph) -> RowArray:
    """Describe the operators of a network.

    Parameters
    ----------
    graph : NetworkGraph
        The network.

    Returns
    -------
    numpy.ndarray
        float32 [operators, columns of `NETWORK_OPERATOR`]; log2 of one more than each number.
    """
    rows = np.array([_values(graph, number) for number in range(len(graph))], np.float64).reshape(
        len(graph), len(NETWORK_OPERATOR.columns)
    )
    return np.log2(np.abs(rows) + 1.0).astype(np.float32)  # of a flag: the same flag


_WEIGHT_OF_CONVOLUTION = {"Conv": 1, "ConvInteger": 1, "ConvTranspose": 1, "QLinearConv": 3}
"""Opcode -> which argument its weight is."""
_PRODUCTS = ("MatMul", "MatMulInteger", "QLinearMatMul")


def operator_flop(operator: NetworkOperator, arguments: Sequence[TensorType]) -> float:
    """Arithmetic operations of an operator, as they are commonly counted.

    Parameters
    ----------
    operator : NetworkOperator
        A multiplication and an addition of a contraction are two; of anything else an element of
        the output is one, or of its arguments where that is more.
    arguments : sequence of TensorType
        Of `NetworkGraph.argument_types`.

    Returns
    -------
    float
        Of one run. A recurrent layer counts its matrices once for each step.
    """
    opcode, written = operator.opcode, float(sum(each.elements for each in operator.outputs))
    place = _WEIGHT_OF_CONVOLUTION.get(opcode)
    if place is not None and len(arguments) > place:
        # Of a weight [out, in / group, *window], transposed [in, out / group, *window].
        points = arguments[0].elements if opcode == "ConvTranspose" else written
        return 2.0 * points * prod(arguments[place].shape[1:])
    if opcode == "Gemm" and arguments and arguments[0].shape:
        return 2.0 * written * arguments[0].shape[0 if operator.attributes.get("transA") else -1]
    if opcode in _PRODUCTS and arguments and arguments[0].shape:
        return 2.0 * written * arguments[0].shape[-1]
    if opcode == "Einsum" and len(arguments) > 1:
        return 2.0 * max(_einsum_points(operator, arguments), written)
    if opcode == "Attention" and len(arguments) > 1 and len(arguments[1].shape) > 1:
        return 4.0 * arguments[0].elements * arguments[1].shape[-2]
    if opcode in ("LSTM", "GRU", "RNN") and arguments and arguments[0].shape:
        shape = arguments[0].shape
        runs = prod(shape[:-1])  # steps and batch
        return 2.0 * runs * sum(each.elements for each in arguments[1:] if len(each.shape) > 1)
    return max(written, float(sum(each.elements for each in arguments)))


def _einsum_points(operator: NetworkOperator, arguments: Sequence[TensorType]) -> float:
    """Product of the extents of all indices; 0 where the equation does not tell."""
    equation = str(operator.attributes.get("equation", "")).replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    extents: dict[str, int] = {}
    for term, argument in zip(terms, arguments, strict=False):
        if len(term) != len(argument.shape):  # an ellipsis
            return 0.0
        for index, extent in zip(term, argument.shape, strict=True):
            extents[index] = max(extent, extents.get(index, 1))
    return float(prod(extents.values()))


def _values(graph: NetworkGraph, number: int) -> list[float]:
    operator = graph.operators[number]
    inputs, arguments = graph.input_types(number), graph.argument_types(number)
    output = operator.outputs[0]
    values = [
        float(dtype_bits(output.dtype)),
        float("float" in output.dtype),
        operator_flop(operator, arguments),
        sum(map(_bytes, operator.outputs)),
        float(len(inputs)),
        sum(map(_bytes, inputs)),
        sum(map(_bytes, operator.weights)),
        float(dtype_bits(operator.weights[0].dtype)) if operator.weights else 0.0,
    ]
    window = _window(operator, arguments)
    group = operator.attributes.get("group", 1 if window and "Conv" in operator.opcode else 0)
    values.append(float(group) if isinstance(group, int) else 0.0)
    lists = {"shape": output.shape, **window, "axes": _axes(operator, arguments)}
    for name, kept, _ in _LISTS:
        entries = [float(each) for each in lists.get(name, ())]
        cut = entries[:kept]
        values += [len(entries), *cut, *[0.0] * (kept - len(cut)), sum(entries)]
        values.append(prod(entries) if entries else 0.0)
    return values


def _window(
    operator: NetworkOperator, arguments: Sequence[TensorType]
) -> dict[str, tuple[int, ...]]:
    """Lists of a windowed operator, what is not given filled in as ONNX does; else nothing."""
    window = operator.numbers("kernel_shape")
    place = _WEIGHT_OF_CONVOLUTION.get(operator.opcode)
    if not window and place is not None and len(arguments) > place:
        window = arguments[place].shape[2:]
    if not window:
        return {}
    ones = (1,) * len(window)
    strides = operator.numbers("strides") or ones
    dilations = operator.numbers("dilations") or ones
    pads = operator.numbers("pads") or (0,) * 2 * len(window)
    if str(operator.attributes.get("auto_pad", "")).startswith("SAME") and arguments:
        count = len(window)
        sizes = zip(arguments[0].shape[-count:], operator.outputs[0].shape[-count:], strict=True)
        total = [
            max(0, (after - 1) * stride + dilation * (extent - 1) + 1 - before)
            for (before, after), extent, stride, dilation in zip(
                sizes, window, strides, dilations, strict=True
            )
        ]
        less, more = [each // 2 for each in total], [each - each // 2 for each in total]
        is_lower = operator.attributes["auto_pad"] == "SAME_LOWER"
        pads = (*more, *less) if is_lower else (*less, *more)
    half = len(pads) // 2
    return {
        "kernel_shape": window,
        "strides": strides,
        "dilations": dilations,
        "pads_before": pads[:half],
        "pads_after": pads[half:],
    }


_MAKES_DIMENSIONS = ("Unsqueeze", "Concat", "OneHot")
"""Their axes are those of what they write."""


def _axes(operator: NetworkOperator, arguments: Sequence[TensorType]) -> tuple[int, ...]:
    """The dimensions that an operator is along, counted from the first."""
    axis = operator.attributes.get("axis")
    axes = (axis,) if isinstance(axis, int) else operator.numbers("axes")
    is_made = operator.opcode in _MAKES_DIMENSIONS or not arguments
    rank = len((operator.outputs[0] if is_made else arguments[0]).shape)
    return tuple(each if each >= 0 else each + rank for each in axes)


def _bytes(tensor: TensorType) -> float:
    return tensor.elements * dtype_bits(tensor.dtype) / 8
