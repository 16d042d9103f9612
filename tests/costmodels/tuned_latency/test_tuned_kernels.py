"""What is said of a kernel before it is tuned: order, intervals, bad input, and what is kept."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_tuning import XEON, ZEN4, matmul, tuned

from costmodels.errors import InputError
from costmodels.features.kernel_summary import KERNEL_SUMMARY, kernel_summary, main_operator
from costmodels.tuned_latency.gain import further_gain
from costmodels.tuned_latency.kernels import TunedKernel, TunedLatency


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


def test_more_trials_are_never_slower(model):
    graph = matmul(128, 128, 128)
    seconds = [model.predict([graph], ZEN4, trials)[0].latency_s for trials in (1, 4, 16, 64)]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 1.2 * seconds[-1]


def test_the_law_of_gains_tells_what_trials_beyond_those_learned_do(model):
    graph = matmul(128, 128, 128)
    (most,), (beyond,) = (model.predict([graph], ZEN4, trials) for trials in (64, 1000))
    assert model.most_trials == 64
    assert beyond.latency_s / most.latency_s == pytest.approx(1 - further_gain(64, 1000 - 64))
    assert beyond.high_s == most.high_s, "they may gain nothing"
    assert beyond.low_s / most.low_s < beyond.latency_s / most.latency_s


def test_programs_by_chance_are_learned_from_and_judge_nothing(kernels):
    """Those of a data set are far slower after as many trials, and widen no interval."""
    rng = np.random.default_rng(2)
    by_chance = []
    for size in 2 ** rng.integers(4, 11, (60, 3)):
        each = tuned(matmul(*map(int, size)), "drawn", rng)
        slower = tuple(s * 3 for s in each.run_s[:8])
        by_chance.append(replace(each, run_s=slower, searched=False))
    graphs = [kernel.graph for kernel in kernels[:20]]
    alone, both = (
        TunedLatency(rng=np.random.default_rng(0)).fit(given).predict(graphs, ZEN4, 64)
        for given in (kernels, kernels + by_chance)
    )
    ratios = [b.latency_s / a.latency_s for a, b in zip(alone, both, strict=True)]
    assert 0.8 < np.median(ratios) < 1.25
    widths = [np.log(x.high_s / x.low_s) for x in (*alone, *both)]
    assert np.median(widths[20:]) < 2 * np.median(widths[:20])


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
