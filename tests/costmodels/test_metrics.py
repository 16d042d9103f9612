"""Metrics against definitions written out by brute force."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels import metrics

kernels = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.floats(1e-3, 1.0), min_size=n, max_size=n),
    )
)


@given(kernels=kernels, k=st.integers(1, 7))
def test_top_k_is_the_mean_over_all_ways_to_break_ties(kernels, k):
    utility, latency = np.array(kernels[0], float), np.array(kernels[1])
    k = min(k, len(utility))
    subsets = [list(s) for s in combinations(range(len(utility)), k)]
    total = [utility[s].sum() for s in subsets]
    best = [s for s, t in zip(subsets, total, strict=True) if t == max(total)]
    wanted = np.mean([latency.min() / latency[s].min() for s in best])
    assert metrics.top_k_score(utility, latency, k) == pytest.approx(wanted)


@given(kernels=kernels)
def test_pair_accuracy_counts_pairs(kernels):
    utility, latency = np.array(kernels[0], float), np.array(kernels[1])
    scores = [
        0.5 if utility[i] == utility[j] else float((utility[i] > utility[j]) == (a < b))
        for i, a in enumerate(latency)
        for j, b in enumerate(latency)
        if i < j and a != b
    ]
    value = metrics.pair_accuracy(utility, latency)
    assert np.isnan(value) if not scores else value == pytest.approx(np.mean(scores))


def test_perfect_reversed_and_constant_predictions():
    latency = np.array([3.0, 1.0, 2.0])
    assert metrics.kendall_tau(-latency, latency) == pytest.approx(1.0)
    assert metrics.kendall_tau(latency, latency) == pytest.approx(-1.0)
    assert metrics.kendall_tau(np.zeros(3), latency) == 0.0
    assert metrics.top_k_score(-latency, latency) == 1.0
    assert metrics.top_k_score(latency, latency) == pytest.approx(1 / 3)
    assert np.isnan(metrics.kendall_tau(-latency, np.ones(3)))


def test_relative_errors():
    predicted, latency = np.array([1.05, 1.5, 4.0]), np.array([1.0, 1.0, 2.0])
    assert metrics.mape(predicted, latency) == pytest.approx((0.05 + 0.5 + 1.0) / 3)
    assert metrics.median_ape(predicted, latency) == pytest.approx(0.5)
    assert metrics.within(predicted, latency) == pytest.approx(1 / 3)


def test_metrics_of_each_task_apart():
    utility, latency = np.array([1.0, 0.0, 0.0, 1.0]), np.array([1.0, 2.0, 1.0, 2.0])
    values = metrics.per_task(metrics.pair_accuracy, utility, latency, np.array([0, 0, 3, 3]))
    assert values.tolist() == [1.0, 0.0]
