"""What is said of a kernel before it is tuned: order, intervals, bad input, and what is kept."""

from dataclasses import replace

import numpy as np
import pytest

from costmodels.device import read_device
from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph, Operator
from costmodels.features.kernel_summary import KERNEL_SUMMARY, kernel_summary, main_operator
from costmodels.tuned_latency import TunedKernel, TunedLatency, bound_s

ZEN4, XEON = read_device("amd-epyc-zen4-2-cores"), read_device("intel-xeon-2-cores")


def matmul(m: int, n: int, k: int) -> KernelGraph:
    """With a ReLU after it."""
    return KernelGraph(
        (
            Operator("parameter", "float32", (m, k)),
            Operator("parameter", "float32", (k, n)),
            Operator(
                "matmul", "float32", (m, n), spatial=(m, n), reduction=(k,),
                operations={"add": 1, "mul": 1},
            ),
            Operator("relu", "float32", (m, n), spatial=(m, n), operations={"max": 1}),
        ),
        ((0, 2), (1, 2), (2, 3)),
    )  # fmt: skip


def tuned(graph: KernelGraph, group: str, rng: np.random.Generator, device=ZEN4) -> TunedKernel:
    """Twice its bound at best; the first programs are far worse."""
    best = 2 * bound_s(graph, device) * np.exp(rng.normal(0, 0.1))
    run_s = best * (1 + rng.exponential(2.0, 64))
    run_s[rng.integers(8, 64)] = best
    return TunedKernel(graph, device, tuple(run_s.tolist()), group)


@pytest.fixture(scope="module")
def kernels():
    rng = np.random.default_rng(0)
    sizes = 2 ** rng.integers(4, 11, (120, 3))
    return [
        tuned(matmul(*map(int, size)), f"network {number % 12}", rng)
        for number, size in enumerate(sizes)
    ]


@pytest.fixture(scope="module")
def model(kernels):
    return TunedLatency(rng=np.random.default_rng(0)).fit(kernels)


def test_new_kernels_are_predicted_within_their_intervals(model):
    rng = np.random.default_rng(1)
    new = [tuned(matmul(*map(int, size)), "new", rng) for size in 2 ** rng.integers(4, 11, (60, 3))]
    found = model.predict([each.graph for each in new], ZEN4, 64)
    best = np.array([min(each.run_s) for each in new])
    error = np.abs(np.log([each.latency_s for each in found] / best))
    assert np.median(error) < 0.2
    held = [each.low_s <= s <= each.high_s for each, s in zip(found, best, strict=True)]
    assert np.mean(held) > 0.8
    assert np.median([each.high_s / each.low_s for each in found]) < 3


def test_more_trials_are_never_slower_and_count_up_to_what_was_learned(model):
    graph = matmul(128, 128, 128)
    seconds = [model.predict([graph], ZEN4, trials)[0].latency_s for trials in (1, 4, 16, 64)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 1.2 * seconds[-1]
    assert model.most_trials == 64
    assert model.predict([graph], ZEN4, 5000) == model.predict([graph], ZEN4, 64)


def test_a_checkpoint_says_the_same(model, tmp_path):
    model.save(tmp_path / "model.ckpt")
    again = TunedLatency.load(tmp_path / "model.ckpt")
    graphs = [matmul(64, 96, 128), matmul(512, 8, 8)]
    assert again.predict(graphs, XEON, 16) == model.predict(graphs, XEON, 16)
    assert again.predict([], XEON, 16) == []


def test_the_best_so_far_leaves_failures_out():
    kernel = TunedKernel(matmul(8, 8, 8), ZEN4, (float("inf"), 3.0, 5.0, 2.0, 1.0, 4.0), "a")
    assert kernel.best_after() == [(2, 3.0), (4, 2.0), (6, 1.0)]
    assert replace(kernel, run_s=(float("inf"),)).best_after() == []


def test_bad_input_is_refused(model, kernels):
    with pytest.raises(InputError, match="must have learned"):
        TunedLatency().predict([matmul(8, 8, 8)], ZEN4, 1)
    with pytest.raises(InputError, match="trials must be at least 1, got 0"):
        model.predict([matmul(8, 8, 8)], ZEN4, 0)
    with pytest.raises(InputError, match="at least 5 networks, got 1"):
        TunedLatency().fit([replace(each, group="one") for each in kernels])


def test_a_summary_tells_the_main_operator_and_the_bound():
    graph = matmul(48, 96, 128)
    assert main_operator(graph).opcode == "matmul"
    row = dict(zip(KERNEL_SUMMARY.names, kernel_summary(graph, ZEN4).tolist(), strict=True))
    told = {name: round(2**value - 1) for name, value in row.items() if "device" not in name}
    assert told["iterations.matmul"] == 48 * 96 * 128
    assert told["iterations.elements"] == 48 * 96
    assert (told["main.loop0"], told["main.loop1"], told["main.loop2"]) == (96, 48, 1)
    assert (told["main.reduced0"], told["main.power_of_two"], told["main.bits"]) == (128, 32, 32)
    assert row["bound.compute"] == pytest.approx(
        np.log2(1 + 1e9 * (2 * 48 * 96 * 128 + 48 * 96) / ZEN4.peak_flop_per_s), rel=1e-5
    )
