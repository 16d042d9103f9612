"""Graphs of scheduled programs <-> JSON; the kernels' own graphs, which they share, once."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph, StagedGraph
from costmodels.json_text import from_values, parse_json


@dataclass(frozen=True, slots=True)
class _Program:
    """A `StagedGraph` that names its kernel by number."""

    kernel: int
    stages: tuple[tuple[int, int], ...]
    rows: int


@dataclass(frozen=True, slots=True)
class _Document:
    kernels: tuple[KernelGraph, ...]
    programs: tuple[_Program, ...]


def graphs_to_json(graphs: Sequence[StagedGraph]) -> str:
    """Write graphs as JSON.

    Parameters
    ----------
    graphs : sequence of StagedGraph
        In the order in which `graphs_from_json` gives them back.
    """
    kernels = {id(each.graph): each.graph for each in graphs}
    number = {key: position for position, key in enumerate(kernels)}
    programs = (_Program(number[id(each.graph)], each.stages, each.rows) for each in graphs)
    return msgspec.json.encode(_Document(tuple(kernels.values()), tuple(programs))).decode()


def graphs_from_json(text: str) -> tuple[StagedGraph, ...]:
    """Read graphs.

    Parameters
    ----------
    text : str
        From `graphs_to_json`.

    Raises
    ------
    InputError
        When it is something else.
    """
    try:
        found = from_values(_Document, parse_json(text), "graphs")
        return tuple(
            StagedGraph(found.kernels[each.kernel], each.stages, each.rows)
            for each in found.programs
        )
    except (ValueError, IndexError) as error:
        raise InputError(f"graphs must be as this release writes them, got {error!r}") from None
