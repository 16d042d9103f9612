"""Tensors of any choice of kernels hold their rows, nodes, edges and stages."""

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.kernel import KernelBatch
from costmodels.learning.kernel_tensors import KernelEncoding, KernelInputs
from costmodels.testing.example_data import example_dataset


def test_nodes_edges_and_stages_follow_their_kernels():
    batch = example_dataset(np.random.default_rng(0), tasks=4).batch
    chosen = np.array([70, 3, 3, 40])
    found = KernelEncoding(batch, KernelInputs(graphs=True)).tensors(chosen)
    assert found.kernels == 4
    node, row = 0, 0
    for position, kernel in enumerate(chosen):
        staged = batch.graphs[batch.graph_index[kernel]]
        size, rows = len(staged.graph.operators), int(batch.row_counts[kernel])
        np.testing.assert_array_equal(
            found.rows[row : row + rows, :-9],
            batch.rows[batch.row_offsets[kernel] : batch.row_offsets[kernel + 1]],
        )
        assert found.row_kernel[row : row + rows].tolist() == [position] * rows
        graph = found.graph
        assert graph.node_kernel[node : node + size].tolist() == [position] * size
        inside = (graph.producer >= node) & (graph.producer < node + size)
        edges = zip(graph.producer[inside] - node, graph.consumer[inside] - node, strict=True)
        assert [(int(a), int(b)) for a, b in edges] == list(staged.graph.edges)
        inside = (graph.stage_node >= node) & (graph.stage_node < node + size)
        stages = zip(graph.stage_node[inside] - node, graph.stage_row[inside] - row, strict=True)
        assert [(int(a), int(b)) for a, b in stages] == list(staged.stages)
        node, row = node + size, row + rows
    assert len(found.graph.node_kernel) == node


def test_nodes_of_one_workload_are_encoded_once():
    batch = example_dataset(np.random.default_rng(0), tasks=1, kernels_per_task=50).batch
    found = KernelEncoding(batch, KernelInputs(graphs=True)).tensors(np.arange(50))
    assert len(found.graph.opcode) == len(batch.graphs[0].graph.operators)
    assert len(found.graph.node) == 50 * len(found.graph.opcode)


def test_a_batch_without_graphs_is_refused_where_they_are_wanted():
    batch = example_dataset(np.random.default_rng(0), tasks=1).batch
    bare = KernelBatch(batch.schema, batch.rows, batch.row_offsets, batch.tasks, batch.task_index)
    with pytest.raises(InputError, match="must be given kernels with graphs, got rows alone"):
        KernelEncoding(bare, KernelInputs(graphs=True))
    assert KernelEncoding(bare, KernelInputs()).tensors(np.arange(3)).graph is None
