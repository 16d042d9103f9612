"""How a model is off on a device is learned from the kernels of networks measured there."""

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.example_data import example_dataset, example_device
from costmodels.fused_graph import FusedGraph, Launch
from costmodels.network_models.corrected_kernels import (
    fit_corrected,
    learn_correction,
    log_factors,
)
from costmodels.network_models.sum_of_kernels import (
    KernelLatency,
    MeasuredNetwork,
    add_up,
    fit_errors,
    fit_overheads,
)

PER_NETWORK = 8


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def kernels():
    """Names and rows of kernels, and what a model predicts of them, in seconds."""
    dataset = example_dataset(rng(), tasks=40, kernels_per_task=8, failures=False)
    names = [f"k{number}" for number in range(len(dataset))]
    return names, dataset.batch, np.exp(dataset.log_latency)


def known(seconds, source="predicted"):
    return KernelLatency(seconds, seconds / 1.3, seconds * 1.3, source)


def networks_of(names, measured_s, predicted_s):
    found = []
    for start in range(0, len(names), PER_NETWORK):
        own = range(start, start + PER_NETWORK)
        measured = {names[k]: known(measured_s[k], "measured") for k in own}
        predicted = {names[k]: known(predicted_s[k]) for k in own}
        graph = FusedGraph(tuple(Launch(names[k], "kernel", (), 0, 4) for k in own))
        total_s = sum(measured_s[k] for k in own)
        found.append(MeasuredNetwork(graph, example_device(), total_s, measured, predicted))
    return found


def slower(seconds):
    """A device on which short kernels take three times as long, and long ones ten."""
    return seconds * np.interp(np.log10(seconds), [-5.0, -2.0], [3.0, 10.0])


@pytest.mark.parametrize("fit", [fit_overheads, fit_errors])
def test_networks_to_come_are_estimated_as_the_device_has_them(kernels, fit):
    names, batch, seconds = kernels
    there = slower(seconds)
    networks = networks_of(names, there, seconds)
    given = networks[: len(networks) // 2]
    rows = len(given) * PER_NETWORK
    overheads = fit_corrected(fit, given, names[:rows], batch.take(range(rows)), rng=rng())
    assert overheads.correction is not None
    factor = np.exp(overheads.bias)
    scaled = [known(each * factor) for each in seconds]
    added = log_factors(overheads.correction, batch, scaled)
    after, before = [], []
    for number, network in enumerate(networks[len(given) :], len(given)):
        own = range(number * PER_NETWORK, (number + 1) * PER_NETWORK)
        corrected = {names[k]: scaled[k].times(float(np.exp(added[k]))) for k in own}
        total = add_up(network.graph, corrected, network.device)
        after.append(abs(total.total_s / network.latency_s - 1))
        uncorrected = {names[k]: scaled[k] for k in own}
        total = add_up(network.graph, uncorrected, network.device)
        before.append(abs(total.total_s / network.latency_s - 1))
    assert np.mean(after) < 0.1
    assert np.mean(after) < 0.6 * np.mean(before)


def test_what_is_left_is_of_networks_that_were_not_learned(kernels):
    """Noise of whole networks cannot be learned from the others, and stays."""
    names, batch, seconds = kernels
    network_noise = np.repeat(rng(1).normal(scale=0.3, size=len(names) // PER_NETWORK), PER_NETWORK)
    networks = networks_of(names, seconds * np.exp(network_noise), seconds)
    _, corrected = learn_correction(networks, names, batch, rng=rng())
    left = [
        np.log(network.latency_s / add_up(network.graph, network.predicted, network.device).total_s)
        for network in corrected
    ]
    assert np.std(left) > 0.8 * 0.3


def test_only_predictions_are_corrected(kernels):
    names, batch, seconds = kernels
    networks = networks_of(names, 2.0 * seconds, seconds)
    correction, _ = learn_correction(networks, names, batch, rng=rng())
    some = batch.take([0, 1, 2])
    latencies = [known(seconds[0]), known(seconds[1], "looked up"), None]
    added = log_factors(correction, some, latencies)
    assert added[0] == pytest.approx(np.log(2.0), abs=0.1)
    assert list(added[1:]) == [0.0, 0.0]


def test_nothing_is_learned_from_nothing(kernels):
    names, batch, seconds = kernels
    networks = networks_of(names, seconds, seconds)
    with pytest.raises(InputError, match="must be learned from kernels that ran, got none"):
        learn_correction(networks, ["other"], batch.take([0]), rng=rng())
