"""PALEO adds up reading, computing and writing, and fits the shares of peak."""

from dataclasses import replace

import numpy as np
import pytest
from one_kernel import convolution, dataset, kernels, matmul

from costmodels.errors import InputError
from costmodels.features.operator_costs import Cost, kernel_cost
from costmodels.kernel_models.paleo import Paleo, Platform, kernel_cost_by, time_of
from costmodels.testing.example_data import example_device


def rng():
    return np.random.default_rng(0)


def test_parts_do_not_overlap():
    device = example_device()
    cost = Cost(1.6e11, 3e10, 6e10)
    parts = time_of(cost, device)
    assert (parts.compute_s, parts.read_s, parts.write_s) == pytest.approx((1.0, 1.0, 2.0))
    assert parts.total_s == pytest.approx(4.0)
    half = time_of(cost, device, Platform(compute_share=0.5, memory_share=0.25))
    assert half.total_s == pytest.approx(2.0 + 4.0 + 8.0)


def test_what_is_there_takes_a_cycle_at_least():
    parts = time_of(Cost(1.0, 0.0, 1.0), example_device())
    assert parts.compute_s == pytest.approx(1 / 2.5e9)
    assert parts.read_s == 0.0


def test_a_kernel_is_predicted_from_its_graph():
    batch = kernels(matmul(512, 512, 512), matmul(1024, 512, 512))
    found = Paleo().predict(batch)
    seconds = 2 * 512**3 / 1.6e11 + 3 * 4 * 512**2 / 3e10
    assert found.latency_s[0] == pytest.approx(seconds)
    assert found.latency_s[1] == pytest.approx(2 * seconds - 4 * 512**2 / 3e10)
    np.testing.assert_allclose(found.utility, -np.log(found.latency_s))
    np.testing.assert_allclose(Paleo().parts(batch).sum(axis=1), found.latency_s)


def test_fit_finds_the_shares_of_peak():
    graphs = [matmul(64 << a, 64, 64 << b) for a in range(5) for b in range(5)]
    graphs += [matmul(1 << a, 1 << a, 1) for a in range(6, 12)]
    truth = Platform(compute_share=0.3, memory_share=0.6)
    seconds = [time_of(kernel_cost(each), example_device(), truth).total_s for each in graphs]
    model = Paleo().fit(dataset(graphs, seconds), rng=rng())
    assert model.platform.compute_share == pytest.approx(0.3, rel=0.02)
    assert model.platform.memory_share == pytest.approx(0.6, rel=0.02)
    found = model.predict(kernels(matmul(100, 200, 300)))
    truly = time_of(kernel_cost(matmul(100, 200, 300)), example_device(), truth).total_s
    assert found.latency_s[0] == pytest.approx(truly, rel=0.02)
    assert found.high_s[0] / found.low_s[0] < 1.2


def test_large_windows_are_cheaper_by_fft_and_small_ones_are_not():
    def ratio(window):
        graph = convolution(16, 64, 64, 64, window, padding=window // 2)
        return kernel_cost_by(graph, "fft").flop / kernel_cost(graph).flop

    assert ratio(11) < 0.3
    assert ratio(11) < ratio(5) < ratio(3)
    strided = convolution(16, 64, 64, 64, 5, stride=2)
    assert kernel_cost_by(strided, "fft") == kernel_cost(strided)
    assert kernel_cost_by(matmul(8, 8, 8), "fft") == kernel_cost(matmul(8, 8, 8))


def test_bad_input_is_named():
    with pytest.raises(InputError, match="compute_share must be above 0 and at most 1, got 2"):
        Platform(compute_share=2)
    with pytest.raises(InputError, match="algorithm must be one of gemm, fft, got 'strassen'"):
        Platform(algorithm="strassen")
    batch = replace(kernels(matmul(8, 8, 8)), graphs=(), graph_index=None)
    with pytest.raises(InputError, match="paleo must be given kernels with graphs"):
        Paleo().predict(batch)
