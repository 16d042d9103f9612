"""The leaf blocks of a TIR function: their iteration variables, their stores, what they access."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tvm_integration.compat import tvm

tirx = tvm.tirx


@dataclass(frozen=True)
class Block:
    """What matters of a block that holds no others.

    Attributes
    ----------
    spatial, reduction : mapping
        Variable -> extent; 0 where it is not a number.
    stores : list
        The stores of its body.
    reads, writes : list
        Buffers, each once.
    """

    spatial: Mapping[Any, int]
    reduction: Mapping[Any, int]
    stores: list[Any]
    reads: list[Any]
    writes: list[Any]

    @property
    def write(self) -> Any:
        """The buffer of the last store."""
        return self.writes[-1]

    @classmethod
    def of(cls, realize: Any) -> "Block":
        """Describe the block of a realization."""
        block = realize.block
        kinds = {True: {}, False: {}}  # type: dict[bool, dict[Any, int]]
        for variable in block.iter_vars:
            extent = variable.dom.extent
            size = int(extent) if isinstance(extent, tirx.IntImm) else 0
            kinds[is_spatial(variable)][variable.var] = size
        stores = list(stores_of(block.body))
        return cls(kinds[True], kinds[False], stores, read_by(block), written_by(block))


def is_spatial(variable: Any) -> bool:
    """Whether iterations of a block's variable do not depend on each other."""
    return bool(int(variable.iter_type) == tirx.IterVar.DataPar)


def read_by(block: Any) -> list[Any]:
    """Buffers that a block reads, each once."""
    return list(dict.fromkeys([region.source for region in block.reads]))


def written_by(block: Any) -> list[Any]:
    """Buffers that a block writes, each once."""
    return list(dict.fromkeys([region.source for region in block.writes]))


def leaf_blocks(statement: Any) -> Iterator[Any]:
    """Yield block realizations that hold no others, in program order."""
    for realize, _ in leaf_blocks_under_loops(statement):
        yield realize


def leaf_blocks_under_loops(
    statement: Any, loops: tuple[Any, ...] = ()
) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield them with the loops around each, those around the statement included."""
    if isinstance(statement, tirx.For):
        yield from leaf_blocks_under_loops(statement.body, (*loops, statement))
    elif isinstance(statement, tvm.s_tir.SBlockRealize):
        inner = list(leaf_blocks_under_loops(statement.block.body, loops))
        if inner:
            yield from inner
        elif statement.block.iter_vars or any(True for _ in stores_of(statement.block.body)):
            yield statement, loops
    elif isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            yield from leaf_blocks_under_loops(part, loops)
    elif isinstance(statement, tirx.IfThenElse):
        yield from leaf_blocks_under_loops(statement.then_case, loops)
        if statement.else_case is not None:
            yield from leaf_blocks_under_loops(statement.else_case, loops)
    elif hasattr(statement, "body"):
        yield from leaf_blocks_under_loops(statement.body, loops)


def stores_of(statement: Any) -> Iterator[Any]:
    """Yield the stores in a statement, in program order, those of blocks inside among them."""
    if isinstance(statement, tirx.BufferStore):
        yield statement
    elif isinstance(statement, tvm.s_tir.SBlockRealize):
        if statement.block.init is not None:
            yield from stores_of(statement.block.init)
        yield from stores_of(statement.block.body)
    elif isinstance(statement, tirx.SeqStmt):
        for part in statement.seq:
            yield from stores_of(part)
    elif isinstance(statement, tirx.IfThenElse):
        yield from stores_of(statement.then_case)
        if statement.else_case is not None:
            yield from stores_of(statement.else_case)
    elif getattr(statement, "body", None) is not None:
        yield from stores_of(statement.body)


def shape_of(buffer: Any) -> tuple[int, ...]:
    """Extents of a buffer; 0 where one is not a number."""
    return tuple(int(n) if isinstance(n, tirx.IntImm) else 0 for n in buffer.shape)
