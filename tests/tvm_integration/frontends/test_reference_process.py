"""References run in a process of their own, on as many threads, and say what went wrong there."""

import os
import textwrap
import time

import numpy as np
import onnx
import psutil
import pytest
import torch

from costmodels.cores import usable_cpus
from costmodels.errors import CostModelError, InputError
from tvm_integration.frontends.load import load_network
from tvm_integration.frontends.reference import OnnxruntimeReference, TorchReference
from tvm_integration.frontends.reference_process import ReferenceProcess


def process_of(call, *inputs):
    return ReferenceProcess(TorchReference(call, inputs))


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_it_runs_elsewhere_with_the_weights_it_has_here():
    layer = torch.nn.Linear(8, 4)
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    reference = process_of(lambda tensors: layer(*tensors), x)
    (got,) = reference.run([x])
    np.testing.assert_allclose(got, layer(torch.from_numpy(x)).detach().numpy(), rtol=1e-6)
    assert all(0 < seconds < 1 for seconds in reference.measure_s(2, min_repeat_ms=1))
    reference.close()


def test_tvm_is_not_there_and_all_cores_may_be_used():
    def call(tensors):
        import sys

        return torch.tensor([float("tvm" in sys.modules), len(os.sched_getaffinity(0))])

    reference = process_of(call)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        (found,) = reference.run([])
    finally:
        os.sched_setaffinity(0, before)
    assert found.tolist() == [0.0, len(usable_cpus())]
    reference.close()


@pytest.mark.parametrize("threads", [1, 2])
def test_it_has_as_many_threads_as_it_is_told(threads):
    reference = process_of(lambda _: torch.tensor([torch.get_num_threads()]))
    reference.use_threads(threads)
    assert reference.run([])[0].tolist() == [threads]
    reference.close()


def test_the_process_starts_late_and_ends(monkeypatch):
    before = children()
    reference = process_of(lambda _: torch.zeros(1))
    assert children() == before
    assert reference.kind == "torch"
    assert children() == before, "its kind is known without running it"
    reference.run([])
    (started,) = children() - before
    reference.close()
    assert not psutil.pid_exists(started)
    reference.run([])  # it starts again
    (started,) = children() - before
    del reference
    deadline = time.monotonic() + 10
    while psutil.pid_exists(started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(started), "nobody can ask it any more"


def test_an_error_and_an_end_over_there_are_told():
    def fail(_):
        raise ValueError("no such thing")

    reference = process_of(fail)
    with pytest.raises(InputError, match=r"must run in its own framework, got .*no such thing"):
        reference.run([])
    reference.close()
    reference = process_of(lambda _: os._exit(3))
    with pytest.raises(CostModelError, match="must live, got exit code 3"):
        reference.run([])


def test_a_network_that_cannot_travel_is_told():
    lock = __import__("threading").Lock()
    reference = process_of(lambda _: lock)
    with pytest.raises(InputError, match="must be one that can be pickled"):
        reference.run([])


def test_onnxruntime_without_its_optimizations_and_threads(workplace):
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 3])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, "net.onnx")
    values = np.float32([[-1, 2, 3], [4, -5, 6]])
    reference = ReferenceProcess(OnnxruntimeReference(str(workplace / "net.onnx"), (values,)))
    reference.use_threads(2)
    assert reference.kind == "onnxruntime"
    for optimized in (True, False):
        (got,) = reference.run([values], optimized=optimized)
        np.testing.assert_array_equal(got, np.maximum(values, 0))
    assert len(reference.measure_s(2, min_repeat_ms=1)) == 2
    reference.close()


def test_what_onnxruntime_cannot_open_has_no_kind(workplace):
    (workplace / "net.onnx").write_text("nonsense")
    reference = ReferenceProcess(OnnxruntimeReference(str(workplace / "net.onnx"), ()))
    assert reference.kind is None
    assert "onnxruntime must be able to open" in reference.reason
    reference.close()


CLASSES = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x)

    def net():
        return Net(), (torch.randn(2, 4),)

    def local():
        class Hidden(Net):
            pass

        return Hidden(), (torch.randn(2, 4),)
"""


@pytest.mark.parametrize("function", ["net", "local"])
def test_a_users_network_of_random_weights_is_the_same_over_there(workplace, function):
    (workplace / "users_random.py").write_text(textwrap.dedent(CLASSES))
    network = load_network(f"users_random:{function}")
    first, second = (network.reference.run(network.inputs)[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert np.abs(first).max() > 0
    network.reference.close()
