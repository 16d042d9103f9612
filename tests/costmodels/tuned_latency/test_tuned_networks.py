"""Sums of tuned kernels: what they learn beside kernels, bad input, and what is kept."""

import numpy as np
import pytest
from made_up_tuning import LAUNCH_S, XEON, ZEN4, network

from costmodels.errors import CheckpointError, InputError
from costmodels.networks.kernel_latency import KernelLatency
from costmodels.tuned_latency.networks import (
    FOLDS,
    LIGHT_TRIALS,
    SumOfTunedKernels,
    kernels_of,
)


@pytest.fixture(scope="module")
def networks():
    rng = np.random.default_rng(0)
    return [network(number, rng) for number in range(32)]


@pytest.fixture(scope="module")
def model(networks):
    return SumOfTunedKernels().fit(networks)


def explained(model, network, trials=64, device=ZEN4):
    graphs = {name: kernel.graph for name, kernel in network.kernels.items()}
    return model.explain(network.graph, graphs, device, trials)


def test_new_networks_are_near_and_within_their_intervals(model):
    rng = np.random.default_rng(1)
    new = [network(number, rng) for number in range(100, 120)]
    found = [explained(model, each) for each in new]
    errors = [f.total.total_s / n.latency_s - 1 for f, n in zip(found, new, strict=True)]
    assert np.median(np.abs(errors)) < 0.15
    holds = [
        f.total.low_s <= n.latency_s <= f.total.high_s for f, n in zip(found, new, strict=True)
    ]
    assert np.mean(holds) >= 0.8


def test_it_learns_what_lies_between_kernels(model):
    found = model.overheads
    between_s = found.launch_s.value + found.threads_s.value  # all kernels are long enough
    assert between_s == pytest.approx(LAUNCH_S, rel=0.2)
    assert model.overheads.networks == 32


def test_kernels_that_hardly_matter_get_few_trials(model, networks):
    found = explained(model, networks[0])
    assert found.trials["0.5"] == LIGHT_TRIALS
    assert max(found.trials.values()) == 64


def test_more_trials_never_take_longer(model, networks):
    few, many = (explained(model, networks[0], trials).total.total_s for trials in (8, 64))
    assert many < few


def test_a_device_that_was_not_learned_has_a_wider_interval(model, networks):
    known = explained(model, networks[0]).total
    other = explained(model, networks[0], device=XEON).total
    assert other.high_s / other.low_s > 2 * known.high_s / known.low_s


def test_kernels_that_no_schedule_changes_are_in_the_sum(model, networks):
    graphs = {name: kernel.graph for name, kernel in networks[0].kernels.items()}
    del graphs["0.0"]
    known = {"0.0": KernelLatency(1.0, 0.9, 1.1, "measured")}
    found = model.explain(networks[0].graph, graphs, ZEN4, 64, known)
    assert found.total.total_s > 1.0
    assert found.kernels["0.0"] == known["0.0"]
    assert "0.0" not in found.trials


def test_what_is_judged_is_not_learned(networks):
    """The kernel that all have, for one."""
    everything = kernels_of(networks[:4])
    assert len(everything) == 21
    alike = kernels_of(networks[:4], everything, without=networks[:1])
    assert len(alike) == 15
    for kernel in networks[0].kernels.values():
        assert kernel.graph not in [each.graph for each in alike]


def test_a_checkpoint_gives_the_same(model, networks, tmp_path):
    path = tmp_path / "model.ckpt"
    model.save(path)
    loaded = SumOfTunedKernels.load(path)
    assert explained(loaded, networks[0]) == explained(model, networks[0])
    assert loaded.devices == {ZEN4.name}
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        SumOfTunedKernels.load(path)


def test_too_few_families(networks):
    with pytest.raises(InputError, match=f"at least {FOLDS} families, got 1"):
        SumOfTunedKernels().fit(networks[:1])


def test_it_must_have_learned(networks):
    with pytest.raises(InputError, match="must have learned"):
        explained(SumOfTunedKernels(), networks[0])
