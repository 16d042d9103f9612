"""A kernel before scheduling as one row of numbers: what there is to compute and to move, and how.

Models of what tuning will reach start from it: the schedule is what they do not know.
"""

import math
from collections.abc import Iterable

import numpy as np

from costmodels.device import Device
from costmodels.features.kernel_graph import CONTRACTIONS, CONVOLUTIONS, KernelGraph, Operator
from costmodels.features.operator_costs import flop, iterations, kernel_cost, size_bytes
from costmodels.features.operator_features import dtype_bits
from costmodels.features.schema import DEVICE, Column, FeatureSchema
from costmodels.kernel import RowArray

KINDS = {
    "matmul": ("matmul",),
    "batch_matmul": ("batch_matmul",),
    "conv": ("conv", "conv_transpose"),
    "depthwise": ("group_conv", "depthwise_conv"),
    "pool": ("pool_sum", "pool_max"),
    "reduce": ("reduce_sum", "reduce_max", "reduce_min", "reduce_mul", "reduce_other", "scan"),
    "move": ("copy", "cast", "transpose", "reshape", "broadcast", "slice", "pad", "concatenate"),
    "gather": ("gather",),
}
"""Group of opcodes -> its members; what is in none is arithmetic on elements."""
LOOPS = 4
"""Innermost loops of the main operator that are told one by one."""

KERNEL_SUMMARY = FeatureSchema(
    "unscheduled kernel on a device",
    1,
    (
        Column("work.flop", "flop"),
        Column("work.moved", "byte"),
        Column("work.largest", "byte"),
        Column("work.operators", "1"),
        *(Column(f"iterations.{kind}", "1") for kind in (*KINDS, "elements")),
        Column("main.spatial", "1"),
        Column("main.reduction", "1"),
        *(Column(f"main.loop{number}", "1") for number in range(LOOPS)),
        *(Column(f"main.reduced{number}", "1") for number in range(LOOPS)),
        Column("main.power_of_two", "1"),
        Column("main.window", "1"),
        Column("main.stride", "1"),
        Column("main.bits", "bit"),
        Column("bound.compute", "ns"),
        Column("bound.memory", "ns"),
        *DEVICE.columns,
    ),
)
"""One row a kernel; counts, sizes and times as log2(x + 1)."""


def main_operator(graph: KernelGraph) -> Operator:
    """The contraction with most operations; without one what has most iterations."""
    computed = [each for each in graph.operators if each.opcode != "parameter"]
    contractions = [each for each in computed if each.opcode in CONTRACTIONS]
    return max(contractions or computed, key=lambda each: (flop(each), iterations(each)))


def kernel_summary(graph: KernelGraph, device: Device) -> RowArray:
    """Describe a kernel.

    Parameters
    ----------
    graph : KernelGraph
        With at least one operator that computes.
    device : Device
        What it runs on.

    Returns
    -------
    numpy.ndarray
        float32 [columns of `KERNEL_SUMMARY`].
    """
    cost, main = kernel_cost(graph), main_operator(graph)
    computed = [each for each in graph.operators if each.opcode != "parameter"]
    group = {opcode: kind for kind, members in KINDS.items() for opcode in members}
    work = dict.fromkeys((*KINDS, "elements"), 0)
    for each in computed:
        work[group.get(each.opcode, "elements")] += iterations(each)
    window = main.window if main.opcode in CONVOLUTIONS or main.opcode in KINDS["pool"] else ()
    counts = [
        cost.flop,
        cost.moved_bytes,
        max(map(size_bytes, graph.operators)),
        len(computed),
        *work.values(),
        math.prod(main.spatial),
        math.prod(main.reduction),
        *_innermost(main.spatial),
        *_innermost(main.reduction),
        _power_of_two(main.spatial),
        math.prod(window),
        max(main.stride, default=1),
        dtype_bits(main.dtype),
        1e9 * cost.flop / device.peak_flop_per_s,
        1e9 * cost.moved_bytes / device.bandwidth_byte_per_s,
    ]
    return np.concatenate([np.log2(np.add(counts, 1.0)), device.features()]).astype(np.float32)


def _innermost(extents: Iterable[int]) -> list[int]:
    """The last loops that iterate at all, the innermost first; 1 where there are fewer."""
    found = [extent for extent in extents if extent > 1][::-1][:LOOPS]
    return found + [1] * (LOOPS - len(found))


def _power_of_two(extents: Iterable[int]) -> int:
    """The largest by which the innermost loop can be split without a rest: vectors are such."""
    innermost = _innermost(extents)[0]
    return innermost & -innermost
