"""PrimFunc -> operator graph, before scheduling."""

from typing import Any

from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph, Operator
from tvm_integration.compat import IRModule
from tvm_integration.tir.blocks import Block, leaf_blocks, shape_of
from tvm_integration.tir.operators import block_operator


def kernel_graph(mod: IRModule) -> KernelGraph:
    """Describe a kernel before scheduling.

    Parameters
    ----------
    mod : IRModule
        One function `main` of blocks under loops.

    Returns
    -------
    KernelGraph
        First the parameters that are read, in their order, then the blocks in program order.

    Raises
    ------
    InputError
        When there is no block: a call of a library, for one.
    """
    function = mod["main"]
    blocks = [Block.of(realize) for realize in leaf_blocks(function.body)]
    if not blocks:
        raise InputError("a kernel must have blocks to be described, got a body without any")
    read = {buffer for block in blocks for buffer in block.reads}
    operators: list[Operator] = []
    position: dict[Any, int] = {}
    for parameter in function.params:
        if parameter in read:
            position[parameter] = len(operators)
            operators.append(Operator("parameter", str(parameter.dtype), shape_of(parameter)))
    paddings: dict[Any, tuple[tuple[int, int], ...]] = {}
    edges: set[tuple[int, int]] = set()
    for block in blocks:
        operator = block_operator(block, paddings)
        if operator.opcode == "pad":
            paddings[block.write] = operator.padding
        number = len(operators)
        edges |= {(position[b], number) for b in block.reads if b in position and b != block.write}
        operators.append(operator)
        for buffer in block.writes:
            position[buffer] = number
    return KernelGraph(tuple(operators), tuple(sorted(edges)))


def operator_kinds(mod: IRModule) -> tuple[str, ...]:
    """Opcodes of a kernel's blocks in order; empty where there is none."""
    try:
        return kernel_graph(mod).kinds
    except InputError:
        return ()
