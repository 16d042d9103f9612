"""A network after fusion: what is launched, in which order, and who needs whose result."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from costmodels.errors import InputError
from costmodels.json_text import from_values

if TYPE_CHECKING:
    import networkx as nx

KINDS = ("kernel", "library", "unsupported")
"""Compiled loops; a function of a library, whose time no model of loops knows; anything else."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch.

    Parameters
    ----------
    name : str
        Of the kernel or function; a network may launch it several times.
    kind : str
        One of `KINDS`.
    inputs : tuple of int
        Launches whose results it reads, each once, in order.
    constant_bytes : int
        Weights that it reads.
    output_bytes : int
        What it writes.
    reason : str
        Why no schedule can change it; empty for a kernel.
    tied_bytes : int
        Of `constant_bytes`, those that an earlier launch reads as well.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    constant_bytes: int
    output_bytes: int
    reason: str = ""
    tied_bytes: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(
                f"kind of a launch must be one of {', '.join(KINDS)}, got {self.kind!r}"
            )


@dataclass(frozen=True)
class FusedGraph:
    """The launches of a network.

    Parameters
    ----------
    launches : tuple of Launch
        In launch order: each after those whose results it reads.

    Raises
    ------
    InputError
        When a launch reads from a later one.
    """

    launches: tuple[Launch, ...]

    def __post_init__(self) -> None:
        for number, launch in enumerate(self.launches):
            if any(not 0 <= source < number for source in launch.inputs):
                raise InputError(
                    f"launch {number} must read from earlier ones, got {list(launch.inputs)}"
                )

    def counts(self, kind: str) -> dict[str, int]:
        """Name -> launches, of one kind, in the order of the first."""
        return dict(Counter(each.name for each in self.launches if each.kind == kind))

    def networkx(self) -> "nx.DiGraph":
        """The same as a directed acyclic graph of networkx.

        Nodes are numbers in launch order with the fields of `Launch` as attributes; an edge goes
        from producer to consumer.
        """
        import networkx as nx

        graph = nx.DiGraph()
        for number, launch in enumerate(self.launches):
            values = asdict(launch)
            graph.add_node(number, **{k: v for k, v in values.items() if k != "inputs"})
            graph.add_edges_from((source, number) for source in launch.inputs)
        return graph

    def as_json(self) -> list[dict[str, Any]]:
        """A list of launches with the fields of `Launch`."""
        return [asdict(launch) for launch in self.launches]

    @classmethod
    def from_json(cls, values: object) -> "FusedGraph":
        """Undo `as_json`."""
        return cls(from_values(tuple[Launch, ...], values, "launches"))
