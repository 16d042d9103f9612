"""What a sum of kernels learns of networks: launches, a bias, and kernels measured alone."""

from dataclasses import replace

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.kernel import Measured
from costmodels.network_models.overheads import DEFAULT_OVERHEADS, NO_OVERHEADS, UNSEEN_DEVICE_ERROR
from costmodels.network_models.sum_of_kernels import SumOfKernels
from costmodels.networks.sample import NetworkDataset
from costmodels.registry import new_kernel_model
from costmodels.testing.example_networks import (
    LAUNCH_S,
    example_networks,
    with_unknown_operator,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def known_kernels(dataset):
    """The same networks, all of whose latencies are those of their kernels and launches."""
    exact = [
        Measured(
            (
                sum(
                    count * (network.kernels.measured[name].latency_s + LAUNCH_S)
                    for name, count in network.kernels.graph.counts("kernel").items()
                ),
            )
        )
        for network in dataset.networks
    ]
    return NetworkDataset(dataset.networks, tuple(exact))


def without_kernels_alone(dataset):
    networks = tuple(
        replace(each, kernels=replace(each.kernels, measured={})) for each in dataset.networks
    )
    return NetworkDataset(networks, dataset.measurements)


@pytest.fixture(scope="module")
def networks():
    return example_networks(rng(), networks=32, failures=False)


@pytest.fixture(scope="module")
def trees(networks):
    """A kernel model that learned the kernels of other networks."""
    model = SumOfKernels().fit(example_networks(rng(3), networks=32, first=200), rng=rng())
    return model.kernel_model


def test_measured_kernels_are_added_up_as_they_are(networks, trees):
    model = SumOfKernels(trees, NO_OVERHEADS)
    network = networks.networks[0]
    found = model.explain(network)
    counts = network.kernels.graph.counts("kernel")
    wanted = sum(network.kernels.measured[n].latency_s * count for n, count in counts.items())
    assert found.total.total_s == pytest.approx(wanted)
    assert {each.source for each in found.kernels.values()} == {"measured"}


def test_the_seconds_of_a_launch_are_learned(networks, trees):
    slow = [
        Measured((measurement.latency_s + 5e-6 * len(network.kernels.graph.launches),))
        for network, measurement in zip(
            networks.networks, known_kernels(networks).measurements, strict=True
        )
    ]
    model = SumOfKernels(trees).fit(NetworkDataset(networks.networks, tuple(slow)), rng=rng())
    device = networks.networks[0].device
    assert model.overheads_on(device).launch_s.value == pytest.approx(5e-6 + LAUNCH_S, rel=0.1)


def test_latencies_of_whole_networks_alone_teach_a_bias(networks, trees):
    slow = replace(
        networks,
        measurements=tuple(Measured((3 * each.latency_s,)) for each in networks.measurements),
    )
    judged = without_kernels_alone(slow)
    plain, learned = SumOfKernels(trees), SumOfKernels(trees)
    learned.fit(judged, rng=rng())

    def off(model):
        found = model.predict(judged.networks).latency_s
        return float(np.exp(np.median(np.log(found) - judged.log_latency)))

    assert off(plain) < 0.7
    assert off(learned) == pytest.approx(1.0, abs=0.1)
    assert learned.overheads_on(judged.networks[0].device).networks == 32


def test_kernels_measured_alone_are_learned(networks):
    model = SumOfKernels(rng=rng())
    assert not model.is_fitted
    with pytest.raises(InputError, match="kernels that were measured alone"):
        model.fit(without_kernels_alone(networks), rng=rng())
    model.fit(networks, rng=rng())
    found = model.predict(without_kernels_alone(networks).networks)
    assert np.corrcoef(np.log(found.latency_s), networks.log_latency)[0, 1] > 0.5


def test_another_device_is_not_known(networks, trees):
    model = SumOfKernels(trees).fit(networks, rng=rng())
    device = replace(networks.networks[0].device, name="another")
    found = model.overheads_on(device)
    assert found == replace(DEFAULT_OVERHEADS, device_error=UNSEEN_DEVICE_ERROR)
    network = replace(without_kernels_alone(networks).networks[0], device=device)
    prediction = model.predict([network])
    assert prediction.high_s[0] / prediction.low_s[0] > np.exp(2 * 1.6 * UNSEEN_DEVICE_ERROR)


def test_a_network_that_calls_a_library_teaches_nothing(networks, trees):
    """What the library takes would count as a bias of the kernels."""
    strange = tuple(with_unknown_operator(each) for each in networks.networks)
    slow = tuple(Measured((10 * each.latency_s,)) for each in networks.measurements)
    model = SumOfKernels(trees).fit(networks, rng=rng())
    before = model.overheads_on(networks.networks[0].device)
    model.update(strange, slow)
    assert model.overheads_on(networks.networks[0].device) == before
    with pytest.raises(InputError, match="got none of 32"):
        SumOfKernels(trees).fit(NetworkDataset(strange, slow), rng=rng())


def test_a_fit_that_fails_forgets_nothing(networks, trees):
    model = SumOfKernels(trees).fit(networks, rng=rng())
    before = model.predict(networks.networks).latency_s
    with pytest.raises(InputError):
        model.fit(NetworkDataset((), ()), rng=rng())
    np.testing.assert_array_equal(model.predict(networks.networks).latency_s, before)


@pytest.mark.parametrize("wrong", ["gbt", 3, SumOfKernels])
def test_what_is_no_kernel_model_is_said(wrong):
    with pytest.raises(InputError, match="kernel_model must be a KernelCostModel, got"):
        SumOfKernels(wrong)


def test_measurements_are_no_numbers(networks):
    with pytest.raises(InputError, match=r"must be Measured or Failure, got 0\.001"):
        NetworkDataset(networks.networks[:1], (1e-3,))


def test_a_model_that_only_ranks_is_refused():
    with pytest.raises(InputError, match="must give seconds to be added up, got 'random'"):
        SumOfKernels(new_kernel_model("random", rng=rng()))
