"""The loops around the stages of a scheduled program, and how far each moves each access."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from costmodels.features.loops import Access, LoopNest
from costmodels.features.schema import ACCESSES_KEPT, LOOP_KINDS
from tvm_integration.compat import tvm
from tvm_integration.tir.blocks import Block, is_spatial, shape_of
from tvm_integration.tir.expressions import linear, loads, variables

tirx = tvm.tirx

_KINDS = {
    getattr(tirx.ForKind, name): position
    for position, name in enumerate(("PARALLEL", "VECTORIZED", "UNROLLED", "THREAD_BINDING"))
}
"""Kind of a loop in TVM -> position in `costmodels.features.schema.LOOP_KINDS`."""
assert len(_KINDS) == len(LOOP_KINDS)

Spans: TypeAlias = dict[int, int]
"""Loop variable -> how far an expression moves from its first to its last iteration.

By its hash, which is its address: comparing variables of TVM makes an expression each time.
"""


@dataclass(frozen=True, slots=True)
class BlockAccess:
    """Where a block stores or loads, by its own iteration variables.

    Attributes
    ----------
    element_bytes : int
        Of the buffer.
    shape : tuple of int
        Of the buffer, the last dimension first.
    steps : tuple of tuple (dimension, variable, factor)
        How far one step of an iteration variable, by its position, moves it along a dimension.
    """

    element_bytes: int
    shape: tuple[int, ...]
    steps: tuple[tuple[int, int, int], ...]


def block_accesses(realize: Any) -> tuple[BlockAccess, ...]:
    """The store of a block and its loads, those that move most first; some may be left out.

    They follow from the block alone, whatever the loops around it.
    """
    block = Block.of(realize)
    position = {each.var: number for number, each in enumerate(realize.block.iter_vars)}
    stored = [(store.buffer, tuple(store.indices)) for store in block.stores[-1:]]
    loaded = dict.fromkeys(
        (load.source, tuple(load.indices))
        for store in block.stores
        for load in loads(store.value)
        if load.source not in block.writes
    )
    found = [_access(buffer, indices, position) for buffer, indices in (*stored, *loaded)]
    reads = sorted(found[len(stored) :], key=lambda each: (-len(each.steps), each.steps))
    return tuple([*found[: len(stored)], *reads][:ACCESSES_KEPT])


def _access(buffer: Any, indices: Sequence[Any], position: Mapping[Any, int]) -> BlockAccess:
    steps = []
    for dimension, index in enumerate(reversed(indices)):
        form = linear(index)
        # Where an index is not linear, a step is taken to move by one.
        factors = form.coefficients if form is not None else dict.fromkeys(variables(index), 1)
        steps += [
            (dimension, position[variable], abs(factor))
            for variable, factor in factors.items()
            if variable in position
        ]
    element_bytes = max(1, int(tvm.DataType(str(buffer.dtype)).bits) // 8)
    return BlockAccess(element_bytes, shape_of(buffer)[::-1], tuple(sorted(steps)))


def loop_nest(realize: Any, loops: Sequence[Any], accesses: Sequence[BlockAccess]) -> LoopNest:
    """Describe the loops around a block.

    Parameters
    ----------
    realize : SBlockRealize
        A leaf block with the values of its iteration variables.
    loops : sequence of For
        Around it, the outermost first.
    accesses : sequence of BlockAccess
        Of the block.
    """
    extents: dict[int, int] = {}
    kinds = []
    for loop in reversed(loops):
        extent = int(loop.extent) if isinstance(loop.extent, tirx.IntImm) else 1
        if extent > 1:
            extents[hash(loop.loop_var)] = extent
            kinds.append(_KINDS.get(int(loop.kind), -1))
    number = {variable: position for position, variable in enumerate(extents)}
    moved: list[list[tuple[int, int]]] = []
    reductions: set[int] = set()
    for variable, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
        spans = [(number[each], span) for each, span in _spans(value, extents).items() if span]
        moved.append(spans)
        if not is_spatial(variable):
            reductions.update(loop for loop, _ in spans)
    return LoopNest(
        tuple(extents.values()),
        tuple(kinds),
        tuple(position in reductions for position in range(len(extents))),
        tuple(_placed(access, moved) for access in accesses),
    )


def _placed(access: BlockAccess, moved: Sequence[Sequence[tuple[int, int]]]) -> Access:
    spans: dict[tuple[int, int], int] = {}
    for dimension, variable, factor in access.steps:
        for loop, span in moved[variable]:
            place = dimension, loop
            spans[place] = spans.get(place, 0) + factor * span
    placed = tuple((dimension, loop, span) for (dimension, loop), span in spans.items())
    return Access(access.element_bytes, access.shape, placed)


def _spans(value: Any, extents: Mapping[int, int]) -> Spans:
    """How far loops move an index; a fused loop is taken apart by divisions."""
    if isinstance(value, tirx.Var):
        variable = hash(value)
        return {variable: extents[variable] - 1} if variable in extents else {}
    if isinstance(value, tirx.IntImm):
        return {}
    if isinstance(value, tirx.Add | tirx.Sub):
        spans = _spans(value.a, extents)
        for variable, span in _spans(value.b, extents).items():
            spans[variable] = spans.get(variable, 0) + span
        return spans
    if isinstance(value, tirx.Mul | tirx.FloorDiv | tirx.FloorMod):
        factor = value.b
        if isinstance(factor, tirx.IntImm):
            spans = _spans(value.a, extents)
            return {v: _scaled(value, span, abs(int(factor))) for v, span in spans.items()}
    if isinstance(value, tirx.Cast):
        return _spans(value.value, extents)
    reached = {hash(each) for each in variables(value)}
    return {each: extents[each] - 1 for each in reached if each in extents}


def _scaled(operation: Any, span: int, factor: int) -> int:
    if isinstance(operation, tirx.Mul):
        return span * factor
    if isinstance(operation, tirx.FloorDiv):
        return span // factor
    return min(span, factor - 1)
