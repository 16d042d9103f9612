"""Graphs of scheduled programs <-> JSON; the kernels' own graphs, which they share, once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph, Operator, StagedGraph
from costmodels.json_text import parse_json

_FIELDS = tuple(field.name for field in fields(Operator))


def graphs_to_json(graphs: Sequence[StagedGraph]) -> str:
    """Write graphs as JSON.

    Parameters
    ----------
    graphs : sequence of StagedGraph
        In the order in which `graphs_from_json` gives them back.
    """
    kernels = {id(each.graph): each.graph for each in graphs}
    number = {key: position for position, key in enumerate(kernels)}
    return json.dumps(
        {
            "kernels": [
                {
                    "operators": [
                        {name: getattr(each, name) for name in _FIELDS} for each in graph.operators
                    ],
                    "edges": graph.edges,
                }
                for graph in kernels.values()
            ],
            "programs": [
                {"kernel": number[id(each.graph)], "stages": each.stages, "rows": each.rows}
                for each in graphs
            ],
        },
        separators=(",", ":"),
    )


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
        found = parse_json(text)
        kernels = [
            KernelGraph(
                tuple(_operator(each) for each in kernel["operators"]), _pairs(kernel["edges"])
            )
            for kernel in found["kernels"]
        ]
        return tuple(
            StagedGraph(kernels[each["kernel"]], _pairs(each["stages"]), each["rows"])
            for each in found["programs"]
        )
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"graphs must be as this release writes them, got {error!r}") from None


def _operator(values: Mapping[str, Any]) -> Operator:
    lists = ("shape", "spatial", "reduction", "window", "stride", "dilation")
    return Operator(
        opcode=values["opcode"],
        dtype=values["dtype"],
        padding=_pairs(values["padding"]),
        operations=values["operations"],
        **{name: tuple(values[name]) for name in lists},
    )


def _pairs(values: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((first, second) for first, second in values)
