"""A kernel as a graph of operators: what is computed, from what, and where a schedule puts it.

After the learned cost model for TPUs (Kaufman et al., MLSys 2021): nodes are operators with their
opcode, element type, shapes and, where they exist, window, strides and padding; edges go from
producer to consumer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from costmodels.errors import InputError

OPCODES = (
    "other",
    "parameter",
    "constant",
    "iota",
    "copy",
    "cast",
    "transpose",
    "reshape",
    "broadcast",
    "slice",
    "pad",
    "concatenate",
    "gather",
    "add",
    "sub",
    "mul",
    "div",
    "mod",
    "max",
    "min",
    "relu",
    "clip",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "pow",
    "tanh",
    "sigmoid",
    "erf",
    "math",
    "round",
    "compare",
    "select",
    "logic",
    "reduce_sum",
    "reduce_max",
    "reduce_min",
    "reduce_mul",
    "reduce_other",
    "scan",
    "pool_sum",
    "pool_max",
    "matmul",
    "batch_matmul",
    "conv",
    "group_conv",
    "depthwise_conv",
    "conv_transpose",
)
"""What an operator does. The order is part of the graph features' schema: add at the end."""

STAGES_VERSION = 2
"""Raised whenever the stages of a program are told in another way; part of the name of caches."""

CONVOLUTIONS = ("conv", "group_conv", "depthwise_conv", "conv_transpose")
CONTRACTIONS = ("matmul", "batch_matmul", *CONVOLUTIONS)


@dataclass(frozen=True, slots=True)
class Operator:
    """A node of a kernel's graph.

    Parameters
    ----------
    opcode : str
        One of `OPCODES`.
    dtype : str
        Element type of the output.
    shape : tuple of int
        Of the output.
    spatial, reduction : tuple of int
        Extents of the loops; a parameter has none.
    window, stride, dilation : tuple of int
        Of convolutions and pooling, one for each windowed dimension.
    padding : tuple of (int, int)
        Before and after, one for each windowed dimension; of a pad, one for each dimension.
    operations : mapping
        Kind of operation -> how often one iteration does it.
    """

    opcode: str
    dtype: str
    shape: tuple[int, ...]
    spatial: tuple[int, ...] = ()
    reduction: tuple[int, ...] = ()
    window: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    operations: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.opcode not in OPCODES:
            raise InputError(f"opcode must be one of {', '.join(OPCODES)}, got {self.opcode!r}")


@dataclass(frozen=True)
class KernelGraph:
    """The operators of a kernel and who reads from whom.

    Parameters
    ----------
    operators : tuple of Operator
        Each after those it reads from.
    edges : tuple of (int, int)
        Producer, consumer; each pair once, in order.

    Raises
    ------
    InputError
        When an edge does not lead from an operator to a later one.
    """

    operators: tuple[Operator, ...]
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        for producer, consumer in self.edges:
            if not 0 <= producer < consumer < len(self.operators):
                raise InputError(
                    f"an edge must lead from an operator to a later one of {len(self.operators)}, "
                    f"got {(producer, consumer)}"
                )

    def __deepcopy__(self, memo: object) -> "KernelGraph":
        """Itself: it never changes, and models are copied with all they remember."""
        del memo
        return self

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Opcodes of what is computed, parameters left out, in order."""
        return tuple(each.opcode for each in self.operators if each.opcode != "parameter")


@dataclass(frozen=True)
class StagedGraph:
    """The operators of a kernel, and in which stages of a scheduled program each is computed.

    Parameters
    ----------
    graph : KernelGraph
        The kernel before scheduling.
    stages : tuple of (int, int)
        Operator, row of the program's features; each pair once, in order. An operator that was
        inlined stands with the rows of its consumers, a copy with the operator whose result it
        copies, so that either may occur several times.
    rows : int
        Rows of the program.

    Raises
    ------
    InputError
        When a pair points outside of operators or rows.
    """

    graph: KernelGraph
    stages: tuple[tuple[int, int], ...]
    rows: int

    def __post_init__(self) -> None:
        count = len(self.graph.operators)
        for operator, row in self.stages:
            if not (0 <= operator < count and 0 <= row < self.rows):
                raise InputError(
                    f"a stage must join one of {count} operators to one of {self.rows} rows, "
                    f"got {(operator, row)}"
                )

    def __deepcopy__(self, memo: object) -> "StagedGraph":
        """Itself, as `KernelGraph`."""
        del memo
        return self
