"""What is compared before tuning, and timed after it: alike and on the target's threads."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper
from onnx_graphs import save, value

from costmodels.errors import InputError
from tvm_integration.compat import meta_schedule
from tvm_integration.compile.build import build
from tvm_integration.compile.fusion import fuse
from tvm_integration.frontends.load import load_network
from tvm_integration.targets import parse_target
from tvm_integration.tune import network_timing as tune_measure
from tvm_integration.tune.network_timing import check_outputs, checked_untuned, measure_network
from tvm_integration.tune.state import KernelState, TuneResult


class Reference:
    """Stands in for a framework: gives what it is told to."""

    kind, reason = "onnxruntime", ""

    def __init__(self, *outputs, unoptimized=None, one_thread_s=1e-3):
        self.outputs, self.unoptimized = outputs, unoptimized
        self.threads, self.one_thread_s = None, one_thread_s

    def use_threads(self, count):
        self.threads = count

    def run(self, inputs, *, optimized=True):
        del inputs
        return list(self.outputs) if optimized or self.unoptimized is None else self.unoptimized

    def measure_s(self, *, repeat):
        return [self.one_thread_s if self.threads == 1 else 1e-3] * repeat

    def close(self):
        pass


def load(operator="Relu"):
    node = helper.make_node(operator, ["x"], ["y"])
    save("net.onnx", [node], [value("x", [2, 64])], [value("y", [2, 64])])
    return load_network("net.onnx")


def result_of(kernel_s):
    kernel = KernelState("k", 1, None, selected=True, trials=1, best_s=kernel_s)
    return TuneResult(kernels=(kernel,), trials=1, untunable=(), wall_s=0.0)


class Timing:
    """Stands in for the clock: counts what is timed, on how many threads."""

    def __init__(self, monkeypatch, seconds):
        self.seconds, self.timed, self.threads = seconds, [], []
        real = tune_measure.KernelThread

        def kernel_thread(count):
            self.threads.append(count)
            return real(count)

        monkeypatch.setattr(tune_measure, "KernelThread", kernel_thread)
        monkeypatch.setattr(tune_measure, "measure_s", self.measure)
        monkeypatch.setattr(tune_measure, "_PAUSE_S", 0.0)

    def measure(self, built, inputs, *, repeat):
        del inputs
        self.timed.append(built)
        return [self.seconds] * repeat


def measured(network, target, result):
    fused = fuse(network.module, parse_target(target))
    database = meta_schedule.database.MemoryDatabase()
    return measure_network(result, network, fused, database, build(fused))


@pytest.mark.usefixtures("workplace")
def test_tuned_and_untuned_are_timed_alike(monkeypatch):
    network = load("Identity")  # nothing to tune
    timing = Timing(monkeypatch, 1e-3)
    network = replace(network, reference=Reference(*network.inputs))
    found = measured(network, "llvm -num-cores=1", result_of(1e-3))
    numbers = [sum(each is built for each in timing.timed) for built in timing.timed]
    assert len(set(map(id, timing.timed))) == 2
    assert len(set(numbers)) == 1
    assert found.tuned_s == found.untuned_s == 1e-3
    assert timing.threads == [1]
    assert network.reference.threads == 1


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(("kernel_s", "one_thread_s"), [(0.1, 1.0), (0.9, None)])
def test_a_network_far_above_its_kernels_is_timed_on_one_thread_too(
    monkeypatch, kernel_s, one_thread_s
):
    network = load()
    network = replace(network, reference=Reference(np.maximum(network.inputs[0], 0)))
    timing = Timing(monkeypatch, 1.0)
    found = measured(network, "llvm -num-cores=2", result_of(kernel_s))
    assert found.one_thread_s == one_thread_s
    assert timing.threads == ([2] if one_thread_s is None else [2, 1])
    assert found.outputs_match


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("one_thread_s", "counts", "threads"), [(4e-4, 4e-4, 1), (1e-3, 1e-3, 2), (2e-3, 1e-3, 2)]
)
def test_of_the_framework_the_faster_counts(monkeypatch, one_thread_s, counts, threads):
    network = load()
    right = np.maximum(network.inputs[0], 0)
    network = replace(network, reference=Reference(right, one_thread_s=one_thread_s))
    Timing(monkeypatch, 1e-3)
    found = measured(network, "llvm -num-cores=2", result_of(1e-3))
    assert (found.reference_s, found.reference_threads) == (counts, threads)


@pytest.mark.usefixtures("workplace")
def test_a_wrong_network_is_told_before_tuning():
    network = load()
    right = np.maximum(network.inputs[0], 0)
    fused = fuse(network.module, parse_target("llvm -num-cores=1"))
    assert checked_untuned(replace(network, reference=Reference(right)), fused).untuned
    with pytest.raises(InputError, match="must compute what onnxruntime computes, got output 0"):
        checked_untuned(replace(network, reference=Reference(right + 1)), fused)


@pytest.mark.usefixtures("workplace")
def test_what_only_the_frameworks_optimizations_change_matches():
    """Of quantized networks onnxruntime's are a step off what the file says."""
    network = load()
    right = np.maximum(network.inputs[0], 0)
    by_optimizing = Reference(right + 0.05, unoptimized=[right])
    assert check_outputs([right], replace(network, reference=by_optimizing)).match
    assert not check_outputs([right], replace(network, reference=Reference(right + 0.05))).match
