"""Operators of a kernel's graph -> numbers.

After the learned cost model for TPUs (Kaufman et al., MLSys 2021): lists of varying length are cut
off and followed by their sum and their product.
"""

import re
from collections.abc import Sequence
from math import prod

import numpy as np

from costmodels.features.kernel_graph import OPCODES, Operator
from costmodels.features.schema import OPERATIONS, OPERATOR, OPERATOR_LISTS
from costmodels.kernel import IndexArray, RowArray

_BITS = re.compile(r"\d+")
_OPCODE_NUMBER = {opcode: number for number, opcode in enumerate(OPCODES)}


def opcode_numbers(operators: Sequence[Operator]) -> IndexArray:
    """int64 [operators]; position of each opcode in `costmodels.features.kernel_graph.OPCODES`."""
    return np.array([_OPCODE_NUMBER[each.opcode] for each in operators], np.int64)


def operator_features(operators: Sequence[Operator]) -> RowArray:
    """Describe operators by numbers.

    Parameters
    ----------
    operators : sequence of Operator
        Nodes of a graph.

    Returns
    -------
    numpy.ndarray
        float32 [operators, columns of `costmodels.features.schema.OPERATOR`].
    """
    rows = np.array([_values(each) for each in operators], np.float64)
    rows = rows.reshape(len(operators), len(OPERATOR.columns))
    return np.log2(np.abs(rows) + 1.0).astype(np.float32)  # of a flag: the same flag


def _values(operator: Operator) -> list[float]:
    bits = dtype_bits(operator.dtype)
    values = [
        bits,
        float("float" in operator.dtype),
        float(not operator.dtype.startswith(("uint", "bool"))),
        prod(operator.shape) * bits / 8,
        prod(operator.spatial) * prod(operator.reduction),
    ]
    counts = dict(operator.operations)
    counts["math"] = sum(count for name, count in counts.items() if name.startswith("call."))
    values += [float(counts.get(kind, 0)) for kind in OPERATIONS]
    # The padding of a pad has an entry for each dimension, that of a window only for those padded.
    padding = [each for each in operator.padding if operator.opcode != "pad" or any(each)]
    lists = {
        "shape": operator.shape,
        "spatial": operator.spatial,
        "reduction": operator.reduction,
        "window": operator.window,
        "stride": operator.stride,
        "dilation": operator.dilation,
        "padding_before": [before for before, _ in padding],
        "padding_after": [after for _, after in padding],
    }
    for name, kept, _ in OPERATOR_LISTS:
        entries = list(lists[name])
        cut = entries[:kept]
        values += [len(entries), *cut, *[0.0] * (kept - len(cut)), sum(entries)]
        values.append(prod(entries) if entries else 0.0)
    return values


def dtype_bits(dtype: str) -> int:
    """Bits of an element; 8 for ``bool``, 0 for no type.

    >>> dtype_bits("float16"), dtype_bits("bool")
    (16, 8)
    """
    found = _BITS.search(dtype)
    if found is not None:
        return int(found.group())
    return 8 if dtype == "bool" else 0
