"""The launches of a network, in order, as values, as JSON and as a graph of networkx."""

import json

import networkx as nx
import pytest

from costmodels.errors import InputError
from costmodels.networks.fused_graph import FusedGraph, Launch

GRAPH = FusedGraph(
    (
        Launch("conv", "kernel", (), 100, 40),
        Launch("conv", "kernel", (0,), 100, 40),
        Launch("cublas", "library", (0,), 0, 8, "a library function"),
        Launch("add", "kernel", (1, 2), 0, 40),
    )
)


def test_launches_are_counted_by_kind():
    assert GRAPH.counts("kernel") == {"conv": 2, "add": 1}
    assert GRAPH.counts("library") == {"cublas": 1}
    assert GRAPH.counts("unsupported") == {}


def test_it_is_a_directed_acyclic_graph():
    found = GRAPH.networkx()
    assert nx.is_directed_acyclic_graph(found)
    assert sorted(found.edges) == [(0, 1), (0, 2), (1, 3), (2, 3)]
    assert found.nodes[0] == {
        "name": "conv",
        "kind": "kernel",
        "constant_bytes": 100,
        "output_bytes": 40,
        "reason": "",
        "tied_bytes": 0,
    }
    json.dumps(nx.node_link_data(found))


def test_json_comes_back():
    assert FusedGraph.from_json(json.loads(json.dumps(GRAPH.as_json()))) == GRAPH


def test_a_launch_reads_from_earlier_ones_only():
    with pytest.raises(InputError, match="launch 0 must read from earlier ones, got \\[0\\]"):
        FusedGraph((Launch("a", "kernel", (0,), 0, 0),))
    with pytest.raises(InputError, match="kind of a launch must be one of"):
        Launch("a", "view", (), 0, 0)
