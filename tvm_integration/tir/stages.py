"""Which operators a scheduled program computes in which of its stages, and in which loops.

A stage is what TVM's PerStoreFeature gives a row for: a buffer that is written with more than
constants. Schedules move, split, merge and copy blocks, but a block that survives keeps its
iteration domain; so the blocks of a scheduled program are matched to the operators of the kernel by
their extents and by what they compute, from the last to the first, because inlining keeps the
consumer. What is left over are copies, parts of a split reduction, and operators that were inlined.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, TypeAlias

from costmodels.features.kernel_graph import KernelGraph, Operator, StagedGraph
from costmodels.features.loops import LoopNest
from tvm_integration.compat import IRModule, structural_hash, tvm
from tvm_integration.tir.blocks import (
    Block,
    is_spatial,
    leaf_blocks_under_loops,
    read_by,
    stores_of,
    written_by,
)
from tvm_integration.tir.expressions import variables
from tvm_integration.tir.kernel_graph import kernel_graph
from tvm_integration.tir.loop_nests import BlockAccess, block_accesses, loop_nest
from tvm_integration.tir.operators import block_operator

tirx = tvm.tirx

_IGNORED = "meta_schedule.layout_rewrite_preproc"
"""Annotation of blocks that TVM takes out before it extracts features."""
_MOVES = ("copy", "transpose", "reshape", "slice", "broadcast", "cast", "pad")

BlockTree: TypeAlias = tuple[tuple[int, tuple[int, ...], tuple[int, ...], int], ...]
"""Of each leaf block: its hash, the buffers it reads and writes as numbers, its rows a buffer."""


@dataclass(frozen=True)
class _Leaf:
    """A leaf block of a scheduled program.

    Attributes
    ----------
    realize : SBlockRealize
        The block with the values of its iteration variables.
    reads, writes : tuple of int
        Buffers, numbered in the order in which they occur; parameters first.
    rows : int
        Rows that each buffer it writes has: 2 when a reduction across threads is begun within
        each thread.
    loops : tuple
        Around it, the outermost first.
    """

    realize: Any
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    rows: int
    loops: tuple[Any, ...]


@dataclass(frozen=True)
class _Described:
    """What follows from a leaf block alone: the same for every program that has an equal one.

    Attributes
    ----------
    realize : SBlockRealize
        The first such block that was met. Its buffers are those of its own program: in another they
        are known by their order alone, as `_Leaf` numbers them.
    """

    realize: Any

    @cached_property
    def block(self) -> Block:
        """Its variables, stores and buffers."""
        return Block.of(self.realize)

    @cached_property
    def stores(self) -> list[Any]:
        """Those of its initialization, then those of its body."""
        init = self.realize.block.init
        return [*([] if init is None else stores_of(init)), *self.block.stores]

    @cached_property
    def sets_constants(self) -> bool:
        """Whether its body stores nothing else."""
        return all(_is_constant(store.value) for store in self.block.stores)

    @cached_property
    def operator(self) -> Operator:
        """What it computes."""
        return block_operator(self.block, {})

    @cached_property
    def accesses(self) -> tuple[BlockAccess, ...]:
        """What it stores and loads."""
        return block_accesses(self.realize)


@dataclass(frozen=True)
class _Tree:
    """What follows from the blocks of a program, whatever their loops.

    Attributes
    ----------
    staged : StagedGraph
        The kernel's operators with the rows.
    row_leaf : tuple of int
        Row -> the block whose loops are the stage's, -1 for none.
    accesses : mapping
        Such a block -> what it stores and loads.
    """

    staged: StagedGraph
    row_leaf: tuple[int, ...]
    accesses: Mapping[int, tuple[BlockAccess, ...]]


@dataclass(frozen=True)
class ProgramStages:
    """What the blocks of a scheduled program tell beside its rows.

    Parameters
    ----------
    staged : StagedGraph
        The kernel's operators with the rows that each is computed in.
    nests : tuple of LoopNest or None
        Loops of each row; None where they cannot be told.
    """

    staged: StagedGraph
    nests: tuple[LoopNest | None, ...]


class StageExtractor:
    """Looks at the blocks of the scheduled programs of one kernel.

    Most candidates of a task share a few block trees: what follows from the tree is kept.

    Parameters
    ----------
    mod : IRModule
        The kernel before scheduling.

    Raises
    ------
    InputError
        When it has no block.
    """

    def __init__(self, mod: IRModule) -> None:
        self.graph: KernelGraph = kernel_graph(mod)
        self._parameters = _parameter_nodes(mod)
        self._by_tree: dict[BlockTree, _Tree] = {}
        self._by_block: dict[int, _Described] = {}
        self._distinct: dict[tuple[tuple[tuple[int, int], ...], int], StagedGraph] = {}

    def extract(self, mod: IRModule) -> ProgramStages:
        """Find the stages of a program.

        Parameters
        ----------
        mod : IRModule
            A program scheduled from the kernel.
        """
        leaves = _leaves(mod)
        key = tuple((_hash(each), each.reads, each.writes, each.rows) for each in leaves)
        tree = self._by_tree.get(key)
        if tree is None:
            described = [
                self._by_block.setdefault(block, _Described(leaf.realize))
                for (block, *_), leaf in zip(key, leaves, strict=True)
            ]
            tree = _tree(self.graph, self._parameters, leaves, described)
            self._by_tree[key] = tree
        nests = {
            leaf: loop_nest(leaves[leaf].realize, leaves[leaf].loops, accesses)
            for leaf, accesses in tree.accesses.items()
        }
        staged = self._staged(tree.staged.stages, tree.staged.rows)
        return ProgramStages(staged, tuple(nests.get(leaf) for leaf in tree.row_leaf))

    def checked(self, found: ProgramStages, rows: int) -> ProgramStages:
        """Of a program whose stages cannot be told from its blocks: none, rather than wrong ones.

        Parameters
        ----------
        found : ProgramStages
            From `extract`.
        rows : int
            How many the feature extractor gave for the program.
        """
        if found.staged.rows == rows:
            return found
        return ProgramStages(self._staged((), rows), (None,) * rows)

    def _staged(self, stages: tuple[tuple[int, int], ...], rows: int) -> StagedGraph:
        """Equal ones as one object."""
        return self._distinct.setdefault((stages, rows), StagedGraph(self.graph, stages, rows))


def _hash(leaf: _Leaf) -> int:
    return int(structural_hash(leaf.realize.block, map_free_vars=True))


def _tree(
    graph: KernelGraph,
    parameters: Mapping[int, int],
    leaves: Sequence[_Leaf],
    described: Sequence[_Described],
) -> _Tree:
    rows = _rows(leaves, described)
    staged = staged_graph(graph, parameters, leaves, described, rows)
    row_leaf = [-1] * staged.rows
    for position, leaf in enumerate(leaves):  # of several that write a buffer, the last
        if not _is_init(position, leaves, described):
            for buffer in leaf.writes:
                for row in rows.get(buffer, ()):
                    row_leaf[row] = position
    told = {position for position in row_leaf if position >= 0}
    accesses = {position: described[position].accesses for position in told}
    return _Tree(staged, tuple(row_leaf), accesses)


def _parameter_nodes(mod: IRModule) -> dict[int, int]:
    """Position of a function's parameter -> its node in the kernel's graph."""
    function = mod["main"]
    read = {b for each, _ in leaf_blocks_under_loops(function.body) for b in read_by(each.block)}
    used = [position for position, each in enumerate(function.params) if each in read]
    return {position: node for node, position in enumerate(used)}


def _leaves(mod: IRModule) -> list[_Leaf]:
    """The leaf blocks of a program in order."""
    function = mod["main"]
    number = {hash(buffer): position for position, buffer in enumerate(function.params)}
    found = []
    for realize, loops in leaf_blocks_under_loops(function.body):
        block = realize.block
        if _IGNORED in block.annotations:
            continue
        reads, writes = (
            tuple(number.setdefault(hash(buffer), len(number)) for buffer in buffers)
            for buffers in (read_by(block), written_by(block))
        )
        found.append(_Leaf(realize, reads, writes, _rows_a_buffer(realize, loops), loops))
    return found


def _rows_a_buffer(realize: Any, loops: Sequence[Any]) -> int:
    """2 for a reduction across threads that begins within each thread, otherwise 1.

    It does so when it has loops of its own there, or a condition.
    """
    bound = {each.loop_var for each in loops if each.thread_binding is not None}
    if not bound:
        return 1
    serial = {
        each.loop_var for each in loops if each.thread_binding is None and not _is_one(each.extent)
    }
    used: set[Any] = set()
    for variable, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
        if not is_spatial(variable):
            used |= variables(value)
    begins = bool(used & serial) or not _is_one(realize.predicate)
    return 2 if used & bound and begins else 1


def _is_one(extent: Any) -> bool:
    return isinstance(extent, tirx.IntImm) and int(extent) == 1


# Matching


def staged_graph(
    graph: KernelGraph,
    parameters: Mapping[int, int],
    leaves: Sequence[_Leaf],
    described: Sequence[_Described],
    rows: Mapping[int, Sequence[int]],
) -> StagedGraph:
    """Match the blocks of a program to operators, and operators to rows.

    Parameters
    ----------
    graph : KernelGraph
        Before scheduling.
    parameters : mapping
        Position of a parameter -> its node.
    leaves, described : sequence
        Blocks of the scheduled program.
    rows : mapping
        Buffer -> its rows.
    """
    found = _by_extents(graph, leaves, described)
    _assign_rest(graph, parameters, leaves, described, found)
    pairs = {
        (operator, row)
        for position, operator in found.items()
        for buffer in leaves[position].writes
        for row in rows.get(buffer, ())
    }
    _place_inlined(graph, pairs)
    return StagedGraph(graph, tuple(sorted(pairs)), sum(len(each) for each in rows.values()))


def _rows(leaves: Sequence[_Leaf], described: Sequence[_Described]) -> dict[int, list[int]]:
    """Buffer -> its rows, in the order of the first stores of more than a constant."""
    counts: dict[int, int] = {}
    for leaf, each in zip(leaves, described, strict=True):
        number = dict(zip(each.block.writes, leaf.writes, strict=True))
        for store in each.stores:
            buffer = number.get(store.buffer)
            if buffer is not None and not _is_constant(store.value):
                counts[buffer] = max(counts.get(buffer, 0), leaf.rows)
    rows: dict[int, list[int]] = {}
    start = 0
    for buffer, count in counts.items():
        rows[buffer] = list(range(start, start + count))
        start += count
    return rows


def _is_constant(value: Any) -> bool:
    return isinstance(value, tirx.IntImm | tirx.FloatImm)


def _by_extents(
    graph: KernelGraph, leaves: Sequence[_Leaf], described: Sequence[_Described]
) -> dict[int, int]:
    """Block -> operator with its domain, the last ones first."""
    free = [n for n, each in enumerate(graph.operators) if each.opcode != "parameter"]
    found: dict[int, int] = {}
    for position in reversed(range(len(described))):
        if _is_init(position, leaves, described):
            continue
        own = described[position].operator
        alike = [n for n in free if _same_domain(graph.operators[n], own)]
        if own.opcode in _MOVES:  # schedules add copies, and no other moves
            kept = ("copy",) if own.opcode == "copy" else _MOVES
            alike = [n for n in alike if graph.operators[n].opcode in kept]
        whole = [n for n in alike if _holds(own, graph.operators[n])]
        if alike:
            chosen = (whole or alike)[-1]
            found[position] = chosen
            free.remove(chosen)
    return found


def _is_init(position: int, leaves: Sequence[_Leaf], described: Sequence[_Described]) -> bool:
    """Whether a block only sets constants that a later block adds to."""
    later = leaves[position + 1 :]
    writes = set(leaves[position].writes)
    constants = described[position].sets_constants
    return constants and any(writes & set(each.writes) for each in later)


def _same_domain(operator: Operator, own: Operator) -> bool:
    return operator.spatial == own.spatial and operator.reduction == own.reduction


def _holds(own: Operator, operator: Operator) -> bool:
    """Whether a block does at least what an operator does."""
    return not Counter(operator.operations) - Counter(own.operations)


def _assign_rest(
    graph: KernelGraph,
    parameters: Mapping[int, int],
    leaves: Sequence[_Leaf],
    described: Sequence[_Described],
    found: dict[int, int],
) -> None:
    """Give the blocks without an operator that of what they copy, or are a part of."""
    for position in reversed(range(len(leaves))):
        block = described[position].block
        if position in found or not block.reduction or _is_init(position, leaves, described):
            continue
        part = _split_reduction(graph, leaves, block, position, found)
        if part is not None:
            found[position] = part
    writer: dict[int, int] = dict(parameters)
    for position, leaf in enumerate(leaves):
        if position not in found and not _is_init(position, leaves, described):
            sources = [writer[buffer] for buffer in leaf.reads if buffer in writer]
            if sources:
                found[position] = sources[-1]
        if position in found:
            writer |= dict.fromkeys(leaf.writes, found[position])


def _split_reduction(
    graph: KernelGraph,
    leaves: Sequence[_Leaf],
    block: Block,
    position: int,
    found: Mapping[int, int],
) -> int | None:
    """The operator of a reduction in two steps: both have its opcode, each a part of its domain."""
    size = prod(block.spatial.values()) * prod(block.reduction.values())
    readers = [n for n in found if set(leaves[n].reads) & set(leaves[position].writes)]
    for reader in readers:
        operator = graph.operators[found[reader]]
        if operator.reduction and size == prod(operator.spatial) * prod(operator.reduction):
            return found[reader]
    taken = set(found.values())
    spatial = tuple(block.spatial.values())
    for number, operator in reversed(list(enumerate(graph.operators))):
        if number not in taken and operator.reduction and operator.spatial == spatial:
            return number
    return None


def _place_inlined(graph: KernelGraph, pairs: set[tuple[int, int]]) -> None:
    """Give operators without a row those of their consumers, or of their producers."""
    rows: dict[int, set[int]] = {}
    for operator, row in pairs:
        rows.setdefault(operator, set()).add(row)
    computed = [n for n, each in enumerate(graph.operators) if each.opcode != "parameter"]
    for number in reversed(computed):
        consumers = [consumer for producer, consumer in graph.edges if producer == number]
        _inherit(rows, number, consumers)
    for number in computed:
        producers = [producer for producer, consumer in graph.edges if consumer == number]
        _inherit(rows, number, [each for each in producers if each in computed])
    pairs |= {(operator, row) for operator, each in rows.items() for row in each}


def _inherit(rows: dict[int, set[int]], number: int, neighbors: Sequence[int]) -> None:
    if number not in rows:
        inherited = {row for each in neighbors for row in rows.get(each, ())}
        if inherited:
            rows[number] = inherited
