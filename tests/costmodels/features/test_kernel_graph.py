"""Graphs are checked, kept as JSON, and turned into numbers that the schema names."""

from dataclasses import replace

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.features.kernel_graph import OPCODES, KernelGraph, Operator, StagedGraph
from costmodels.features.kernel_graph_json import graphs_from_json, graphs_to_json
from costmodels.features.operator_features import dtype_bits, opcode_numbers, operator_features
from costmodels.features.schema import OPERATOR
from costmodels.kernel import concatenate
from costmodels.testing.example_data import example_dataset

CONV = Operator(
    "conv",
    "float32",
    (1, 8, 6, 6),
    (1, 8, 6, 6),
    (4, 3, 3),
    window=(3, 3),
    stride=(2, 1),
    dilation=(1, 1),
    padding=((1, 1), (0, 2)),
    operations={"add": 1, "mul": 1, "call.exp": 2},
)
GRAPH = KernelGraph(
    (Operator("parameter", "float32", (1, 4, 8, 8)), CONV, Operator("relu", "int8", (4,), (4,))),
    ((0, 1), (1, 2)),
)
PROGRAM = StagedGraph(GRAPH, ((1, 0), (1, 1), (2, 1)), 2)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="opcode must be one of"):
        replace(CONV, opcode="conv9")
    with pytest.raises(InputError, match="later one of 3"):
        KernelGraph(GRAPH.operators, ((1, 1),))
    with pytest.raises(InputError, match=r"one of 2 rows, got \(2, 2\)"):
        replace(PROGRAM, stages=((2, 2),))


def test_json_gives_the_graphs_back():
    other = StagedGraph(GRAPH, (), 3)
    first, second = graphs_from_json(graphs_to_json([PROGRAM, other]))
    assert (first, second) == (PROGRAM, other)
    assert first.graph is second.graph
    with pytest.raises(InputError, match="graphs must be"):
        graphs_from_json('{"kernels": [], "programs": [{"kernel": 0}]}')


def test_features_are_those_of_the_schema():
    rows = operator_features(GRAPH.operators)
    assert rows.shape == (3, len(OPERATOR.columns))
    assert rows.dtype == np.float32
    values = dict(zip(OPERATOR.names, np.exp2(rows[1].astype(float)) - 1, strict=True))
    wanted = {
        "dtype.bits": 32,
        "dtype.is_float": 1,
        "output.bytes": 288 * 4,
        "iterations": 288 * 36,
        "operations.math": 2,
        "operations.sub": 0,
        "reduction.length": 3,
        "reduction.0": 4,
        "reduction.3": 0,
        "reduction.sum": 10,
        "reduction.product": 36,
        "stride.0": 2,
        "padding_after.1": 2,
    }
    for name, value in wanted.items():
        assert values[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert opcode_numbers(GRAPH.operators).tolist() == [
        OPCODES.index(opcode) for opcode in ("parameter", "conv", "relu")
    ]
    assert operator_features(()).shape == (0, len(OPERATOR.columns))


def test_a_pad_is_described_by_the_dimensions_it_pads():
    pad = Operator("pad", "float32", (4, 9), padding=((0, 0), (1, 2)))
    row = dict(zip(OPERATOR.names, operator_features([pad])[0], strict=True))
    assert row["padding_before.0"] == 1.0
    assert row["padding_after.length"] == 1.0


def test_bits_of_types():
    wanted = {"float16": 16, "int8": 8, "uint4": 4, "bool": 8, "": 0}
    assert {dtype: dtype_bits(dtype) for dtype in wanted} == wanted


def batch_with_graphs():
    batch = example_dataset(np.random.default_rng(0)).batch
    kernel = Operator("relu", "float32", (8,), (8,))
    graphs = tuple(
        StagedGraph(KernelGraph((kernel,), ()), tuple((0, row) for row in range(count)), count)
        for count in range(int(batch.row_counts.max()) + 1)
    )
    return replace(batch, graphs=graphs, graph_index=batch.row_counts.copy())


def test_batches_keep_the_graphs_of_their_kernels():
    batch = batch_with_graphs()
    part = batch.take([5, 2, 5])
    joined = concatenate([part, batch])
    for kernel, origin in ((0, 5), (1, 2), (2, 5), (3, 0), (8, 5)):
        assert joined.graph_index is not None
        assert batch.graph_index is not None
        assert joined.graphs[joined.graph_index[kernel]] is batch.graphs[batch.graph_index[origin]]
    assert len(joined.graphs) <= len(batch.graphs)


def test_batches_with_wrong_graphs_are_refused():
    batch = batch_with_graphs()
    index = batch.graph_index
    assert index is not None
    with pytest.raises(InputError, match="graph_index must have"):
        replace(batch, graph_index=index[1:])
    with pytest.raises(InputError, match="point into"):
        replace(batch, graph_index=index + len(batch.graphs))
    with pytest.raises(InputError, match="must have its"):
        replace(batch, graph_index=np.zeros_like(index) + (index[0] + 1) % len(batch.graphs))
    plain = replace(batch, graphs=(), graph_index=None)
    with pytest.raises(InputError, match="all have graphs or none"):
        concatenate([batch, plain])
