"""Operators of a kernel -> arithmetic operations and bytes: what analytical models start from."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from costmodels.features.kernel_graph import KernelGraph, Operator
from costmodels.features.operator_features import dtype_bits

NO_ARITHMETIC = frozenset({"compare", "logic", "select", "call.if_then_else", "call.likely"})
"""Operations of an iteration that are not counted: they choose, they do not compute."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an operator or a kernel does, once.

    Parameters
    ----------
    flop : float
        Arithmetic operations of any type; a multiply-add is two.
    read_bytes, written_bytes : float
        From and to memory.
    """

    flop: float
    read_bytes: float
    written_bytes: float

    @property
    def moved_bytes(self) -> float:
        """Read and written together."""
        return self.read_bytes + self.written_bytes


def size_bytes(operator: Operator) -> float:
    """Of an operator's output."""
    return prod(operator.shape) * dtype_bits(operator.dtype) / 8


def iterations(operator: Operator) -> int:
    """How often its innermost statement runs; 0 for a parameter."""
    if operator.opcode == "parameter":
        return 0
    return prod(operator.spatial) * prod(operator.reduction)


def flop(operator: Operator) -> float:
    """Arithmetic operations of an operator."""
    counted = sum(count for kind, count in operator.operations.items() if kind not in NO_ARITHMETIC)
    return float(iterations(operator) * counted)


def operator_costs(graph: KernelGraph) -> tuple[Cost, ...]:
    """Costs of a kernel's operators, each on its own: it reads what it needs, writes all it makes.

    Parameters
    ----------
    graph : KernelGraph
        The kernel.

    Returns
    -------
    tuple of Cost
        One per operator; nothing for a parameter.
    """
    read = [0.0] * len(graph.operators)
    for producer, consumer in graph.edges:
        read[consumer] += _read_bytes(graph, producer, consumer)
    return tuple(
        Cost(0.0, 0.0, 0.0)
        if each.opcode == "parameter"
        else Cost(flop(each), read[number], size_bytes(each))
        for number, each in enumerate(graph.operators)
    )


def kernel_cost(graph: KernelGraph) -> Cost:
    """Cost of a fused kernel: what passes between its operators is neither read nor written.

    Parameters
    ----------
    graph : KernelGraph
        The kernel.
    """
    read: dict[int, float] = {}
    produces = set()
    for producer, consumer in graph.edges:
        produces.add(producer)
        if graph.operators[producer].opcode == "parameter":
            wanted = _read_bytes(graph, producer, consumer)
            read[producer] = max(read.get(producer, 0.0), wanted)
    written = sum(
        size_bytes(each)
        for number, each in enumerate(graph.operators)
        if number not in produces and each.opcode != "parameter"
    )
    return Cost(sum(map(flop, graph.operators)), sum(read.values()), written)


def _read_bytes(graph: KernelGraph, producer: int, consumer: int) -> float:
    """All of a tensor, but at most an element an iteration: of a table a gather reads rows."""
    source = graph.operators[producer]
    most = iterations(graph.operators[consumer]) * dtype_bits(source.dtype) / 8
    return min(size_bytes(source), most)


def split_operators(graph: KernelGraph) -> Iterator[KernelGraph]:
    """Each operator of a kernel as a kernel of its own, as a network has them before fusion."""
    sources: dict[int, list[int]] = {}
    for producer, consumer in graph.edges:
        sources.setdefault(consumer, []).append(producer)
    for number, each in enumerate(graph.operators):
        if each.opcode == "parameter":
            continue
        inputs = [graph.operators[producer] for producer in sources.get(number, [])]
        parameters = [Operator("parameter", source.dtype, source.shape) for source in inputs]
        edges = tuple((place, len(parameters)) for place in range(len(parameters)))
        yield KernelGraph((*parameters, each), edges)
