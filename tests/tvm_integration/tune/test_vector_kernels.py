"""Kernels whose exp, erf, tanh and sigmoid are arithmetic: tuned, built, estimated from records."""

import pytest
from onnx import helper
from onnx_graphs import save, value

from tvm_integration.compat import structural_equal
from tvm_integration.compile.fusion import fuse
from tvm_integration.compile.vector_math import rewrite_module, with_vector_math
from tvm_integration.estimate.estimate import EstimateOptions, estimate_network
from tvm_integration.frontends.load import load_network
from tvm_integration.records.database import WORKLOADS
from tvm_integration.targets import host_target
from tvm_integration.tune.session import tune_network
from tvm_integration.tune.state import TuneOptions


@pytest.fixture
def gated(workplace):
    """x -> softmax(x) * sigmoid(x)."""
    shape = [96, 200]
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"], axis=1),
        helper.make_node("Sigmoid", ["x"], ["g"]),
        helper.make_node("Mul", ["s", "g"], ["y"]),
    ]
    save(workplace / "gated.onnx", nodes, [value("x", shape)], [value("y", shape)])
    return "gated.onnx"


@pytest.mark.parametrize("vector_math", [True, False])
def test_tuned_kernels_are_found_again(gated, tmp_path, vector_math):
    work = tmp_path / "work"
    options = TuneOptions(work, trials=8, trials_per_iter=8, vector_math=vector_math)
    result = tune_network(gated, host_target(), options)
    assert result.outputs_match
    assert all(kernel.best_s for kernel in result.kernels)
    text = (work / WORKLOADS).read_text()
    assert len(text.splitlines()) == 1
    found = estimate_network(
        gated, host_target(), options=EstimateOptions("database", work, overheads="none")
    )
    assert found.unsupported == ()
    assert {kernel.latency.source for kernel in found.kernels} == {"measured"}
    assert found.total.total_s == pytest.approx(result.sum_of_kernels_s)


def test_a_task_is_rewritten_as_its_network_is(gated):
    fused = fuse(load_network(gated).module, host_target())
    for plain, ours in zip(fused.tasks, with_vector_math(fused).tasks, strict=True):
        assert not structural_equal(plain.mod, ours.mod)
        assert structural_equal(rewrite_module(plain.mod), ours.mod)
