"""Operations and bytes of kernels, with fusion and without."""

import pytest
from one_kernel import convolution, matmul

from costmodels.features.kernel_graph import KernelGraph, Operator
from costmodels.features.operator_costs import (
    flop,
    kernel_cost,
    operator_costs,
    split_operators,
)


def test_a_matrix_product_reads_both_factors_and_writes_the_product():
    cost = kernel_cost(matmul(64, 32, 128))
    assert cost.flop == 2 * 64 * 32 * 128
    assert cost.read_bytes == 4 * (64 * 128 + 128 * 32)
    assert cost.written_bytes == 4 * 64 * 32
    assert cost.moved_bytes == cost.read_bytes + cost.written_bytes


def test_fusion_saves_what_passes_between_operators():
    graph = matmul(64, 32, 128, then=("relu", "exp"))
    alone = operator_costs(graph)
    fused = kernel_cost(graph)
    assert sum(each.flop for each in alone) == fused.flop == 2 * 64 * 32 * 128 + 2 * 64 * 32
    saved = sum(each.moved_bytes for each in alone) - fused.moved_bytes
    assert saved == 2 * 2 * 4 * 64 * 32  # two results, each written and read again


def test_split_operators_cost_as_much_as_operators_do_alone():
    graph = matmul(64, 32, 128, then=("relu", "exp"))
    alone = [each for each in operator_costs(graph) if each.written_bytes]
    split = [kernel_cost(each) for each in split_operators(graph)]
    assert split == alone
    assert len(split) == 3


def test_of_a_table_only_the_rows_that_are_gathered_are_read():
    operators = (
        Operator("parameter", "float32", (30000, 768)),
        Operator("parameter", "int64", (128,)),
        Operator("gather", "float32", (128, 768), (128, 768)),
    )
    cost = kernel_cost(KernelGraph(operators, ((0, 2), (1, 2))))
    assert cost.read_bytes == 4 * 128 * 768 + 8 * 128
    assert cost.flop == 0


def test_a_parameter_that_two_operators_read_is_read_once():
    parameter = Operator("parameter", "float32", (64,))
    one, other = (
        Operator(opcode, "float32", (64,), (64,), operations={opcode: 1})
        for opcode in ("exp", "log")
    )
    cost = kernel_cost(KernelGraph((parameter, one, other), ((0, 1), (0, 2))))
    assert cost.read_bytes == 256
    assert cost.written_bytes == 512


def test_what_chooses_does_not_count_as_arithmetic():
    operations = {"select": 1, "compare": 2, "call.if_then_else": 1, "call.exp": 1, "mul": 1}
    assert flop(Operator("math", "float32", (8,), (8,), operations=operations)) == 16


def test_a_convolution_counts_multiply_adds_twice():
    graph = convolution(1, 64, 128, 56, 3, padding=1)
    assert kernel_cost(graph).flop == pytest.approx(2 * 56 * 56 * 128 * 64 * 9)
