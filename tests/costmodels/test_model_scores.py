"""Scores of models equal what their definitions say, worked out by hand or by brute force."""

import itertools

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.kernel import KernelDataset, KernelPrediction, Measured
from costmodels.metrics import expected_pick_s
from costmodels.model_scores import TestSet, score_prediction
from costmodels.testing.example_data import example_dataset


@pytest.fixture
def test_set():
    rng = np.random.default_rng(0)
    data = example_dataset(rng, tasks=4, kernels_per_task=8, failures=False)
    networks = {"a": {"task 0": 2, "task 1": 1}, "b": {"task 2": 1, "unknown": 5}, "c": {"none": 1}}
    return TestSet(data, networks)


def judge(prediction, test_set):
    return score_prediction(prediction, test_set, rng=np.random.default_rng(1))


def test_a_perfect_model(test_set):
    latency_s = np.exp(test_set.kernels.log_latency)
    perfect = KernelPrediction(-np.log(latency_s), latency_s, latency_s, latency_s, 0.9)
    values = judge(perfect, test_set).values()
    ones = {"top1", "top5", "top1_weighted", "top5_weighted", "top1_gain", "top5_gain"}
    ones |= {"kendall_tau", "pair_accuracy", "supported", "within_10pct", "coverage"}
    assert {name: round(value, 12) for name, value in values.items()} == {
        name: 1.0 if name in ones else 0.0 for name in values
    }


def test_a_model_that_knows_nothing_gains_nothing(test_set):
    scores = judge(KernelPrediction(np.zeros(len(test_set.kernels))), test_set)
    assert scores.top1_gain.value == pytest.approx(0.0, abs=1e-12)
    assert scores.kendall_tau.value == 0.0
    assert scores.pair_accuracy.value == 0.5
    assert scores.mape is None
    assert scores.coverage is None


def test_kernels_without_seconds_do_not_count_in_their_errors(test_set):
    latency_s = np.exp(test_set.kernels.log_latency)
    predicted = np.where(test_set.kernels.batch.task_index % 2 == 0, latency_s, np.nan)
    prediction = KernelPrediction(-np.log(latency_s), predicted, predicted, predicted, 0.9)
    scores = judge(prediction, test_set)
    assert scores.supported.value == pytest.approx(np.isfinite(predicted).mean())
    assert (scores.mape.value, scores.coverage.value) == (0.0, 1.0)
    nothing = KernelPrediction(-np.log(latency_s), np.full(len(latency_s), np.nan))
    scores = judge(nothing, test_set)
    assert scores.supported.value == 0.0
    assert scores.mape is None


def test_the_worst_model_is_below_chance(test_set):
    latency_s = np.exp(test_set.kernels.log_latency)
    scores = judge(KernelPrediction(latency_s), test_set)
    assert scores.kendall_tau.value == pytest.approx(-1.0)
    assert scores.top1_gain.value < 0 < scores.top1.value
    assert scores.top1.low <= scores.top1.value <= scores.top1.high


def test_weighted_scores_by_hand():
    latency_s = [1.0, 2.0, 4.0, 3.0, 6.0]
    data = example_dataset(np.random.default_rng(0), tasks=2, kernels_per_task=3, failures=False)
    kernels = data.take([0, 1, 2, 3, 4])
    kernels = KernelDataset(kernels.batch, tuple(Measured((s,)) for s in latency_s))
    picks = KernelPrediction(np.array([0.0, 1.0, 0.5, 0.0, 1.0]))  # 2.0 and 6.0 come first
    scores = judge(picks, TestSet(kernels, {"n": {"task 0": 3, "task 1": 1}}))
    assert scores.top1.value == pytest.approx((1 / 2 + 3 / 6) / 2)
    assert scores.top1_weighted.value == pytest.approx((3 * 1 + 3) / (3 * 2 + 6))
    assert scores.top5_weighted.value == 1.0


def test_expected_pick_under_ties_by_brute_force():
    latency_s = np.array([5.0, 1.0, 2.0, 8.0])
    utility = np.array([1.0, 0.0, 0.0, 0.0])
    for k in (1, 2, 3, 4):
        best = [min((5.0, *rest)) for rest in itertools.combinations([1.0, 2.0, 8.0], k - 1)]
        assert expected_pick_s(utility, latency_s, k) == pytest.approx(np.mean(best))
    assert np.isnan(expected_pick_s(utility[:0], latency_s[:0]))


def test_what_cannot_be_judged(test_set):
    with pytest.raises(InputError, match="one prediction for each of 32 kernels, got 3"):
        judge(KernelPrediction(np.zeros(3)), test_set)
    with pytest.raises(InputError, match="all of them measured, got 24 with 2 failures"):
        TestSet(example_dataset(np.random.default_rng(0), tasks=1), {})
