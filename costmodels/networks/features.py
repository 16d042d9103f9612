"""Operators of a network -> numbers, as `costmodels.features.operator_features` of a kernel's.

Lists of varying length are cut off and followed by their sum and their product (Kaufman et al.,
MLSys 2021).
"""

from collections.abc import Sequence
from math import prod, sqrt

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
    rows = np.array(
        [_values(each, graph.input_types(number)) for number, each in enumerate(graph.operators)],
        np.float64,
    ).reshape(len(graph), len(NETWORK_OPERATOR.columns))
    return np.log2(np.abs(rows) + 1.0).astype(np.float32)  # of a flag: the same flag


def operator_flop(operator: NetworkOperator, inputs: Sequence[TensorType]) -> float:
    """Arithmetic operations of an operator, as they are commonly counted.

    Parameters
    ----------
    operator : NetworkOperator
        A multiplication and an addition of a contraction are two; of anything else an element of
        the output is one, or of the input where that is more.
    inputs : sequence of TensorType
        What it reads beside weights.

    Returns
    -------
    float
        Of one run. A recurrent layer counts its matrices once for each step.
    """
    written = sum(each.elements for each in operator.outputs)
    read = sum(each.elements for each in inputs)
    arguments = [*inputs, *operator.weights]
    if operator.opcode in ("Conv", "ConvInteger", "QLinearConv") and operator.weights:
        return 2.0 * written * prod(operator.weights[0].shape[1:])
    if operator.opcode == "ConvTranspose" and operator.weights:
        return 2.0 * read * prod(operator.weights[0].shape[1:])
    if operator.opcode in ("LSTM", "GRU", "RNN") and inputs and inputs[0].shape:
        steps, batch = inputs[0].shape[0], inputs[0].shape[1] if len(inputs[0].shape) > 2 else 1
        return 2.0 * steps * batch * sum(each.elements for each in operator.weights)
    if operator.opcode == "Attention" and len(inputs) > 1 and len(inputs[0].shape) > 1:
        queries, keys = inputs[0], inputs[1]
        return 4.0 * queries.elements * keys.shape[-2]
    matrices = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "Einsum")
    if operator.opcode in matrices and len(arguments) > 1 and arguments[0].shape:
        first, second = arguments[0], arguments[1]
        # What is summed over is in both and not in the output: elements tell of it in any order.
        squared = first.elements * second.elements / max(operator.outputs[0].elements, 1)
        batch = prod(operator.outputs[0].shape[:-2]) if len(second.shape) > 2 else 1
        return 2.0 * written * max(1.0, sqrt(squared / max(batch, 1)))
    return float(max(written, read))


def _values(operator: NetworkOperator, inputs: Sequence[TensorType]) -> list[float]:
    output = operator.outputs[0]
    group = operator.attributes.get("group", 0)
    pads = operator.numbers("pads")
    axis = operator.attributes.get("axis")
    axes = (axis,) if isinstance(axis, int) else operator.numbers("axes")
    values = [
        float(dtype_bits(output.dtype)),
        float("float" in output.dtype),
        operator_flop(operator, inputs),
        sum(map(_bytes, operator.outputs)),
        float(len(inputs)),
        sum(map(_bytes, inputs)),
        sum(map(_bytes, operator.weights)),
        float(dtype_bits(operator.weights[0].dtype)) if operator.weights else 0.0,
        float(group) if isinstance(group, int) else 0.0,
    ]
    lists = {
        "shape": output.shape,
        "kernel_shape": operator.numbers("kernel_shape"),
        "strides": operator.numbers("strides"),
        "dilations": operator.numbers("dilations"),
        "pads_before": pads[: len(pads) // 2],
        "pads_after": pads[len(pads) // 2 :],
        "axes": [each if each >= 0 else each + len(output.shape) for each in axes],
    }
    for name, kept, _ in _LISTS:
        entries = [float(each) for each in lists[name]]
        cut = entries[:kept]
        values += [len(entries), *cut, *[0.0] * (kept - len(cut)), sum(entries)]
        values.append(prod(entries) if entries else 0.0)
    return values


def _bytes(tensor: TensorType) -> float:
    return tensor.elements * dtype_bits(tensor.dtype) / 8
