"""Intervals hold on families left out of training, and a factor belongs to its target."""

import math
from dataclasses import replace

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.json_text import from_values
from costmodels.network_models.kernel_sums import MeasuredNetwork, add_up
from costmodels.network_models.overheads import Overheads
from costmodels.network_models.unseen_families import (
    UnseenFamilies,
    coverage_left_out,
    factor_of_all,
    factor_that_holds,
    read_factors,
    unseen_factor,
    write_factors,
)
from costmodels.networks.fused_graph import FusedGraph, Launch
from costmodels.networks.kernel_latency import KernelLatency
from costmodels.testing.example_data import example_device

DEVICE = example_device()
NAMES = [f"k{n}" for n in range(20)]
GRAPH = FusedGraph(tuple(Launch(name, "kernel", (), 0, 4) for name in NAMES))
OVERHEADS = Overheads(common_error=0.4, residual=0.02)


def network(error: float) -> MeasuredNetwork:
    """Twenty kernels predicted within a factor of 1.3; the whole is off by `error`, in log."""
    predicted = {name: KernelLatency(1e-4, 1e-4 / 1.3, 1.3e-4, "predicted") for name in NAMES}
    return MeasuredNetwork(GRAPH, DEVICE, 2e-3 * math.exp(error), {}, predicted)


def interval(overheads: Overheads) -> tuple[float, float]:
    found = add_up(GRAPH, network(0.0).predicted, DEVICE, overheads)
    return found.low_s, found.high_s


@pytest.mark.parametrize("error", [-0.4, -0.15, 0.15, 0.4])
def test_the_least_factor_puts_the_latency_on_the_end_of_the_interval(error):
    factor = factor_that_holds(network(error), OVERHEADS)
    low_s, high_s = interval(replace(OVERHEADS, unseen_factor=factor))
    assert network(error).latency_s == pytest.approx(high_s if error > 0 else low_s)


def test_what_the_residual_explains_needs_no_factor():
    assert factor_that_holds(network(0.01), OVERHEADS) == 0.0


def test_a_model_without_intervals_has_no_factor_that_holds():
    exact = {name: KernelLatency(1e-4, 1e-4, 1e-4, "predicted") for name in NAMES}
    assert factor_that_holds(replace(network(0.5), predicted=exact), OVERHEADS) == math.inf


def test_a_factor_is_of_predictions_alone():
    measured = {name: KernelLatency(1e-4, 0.9e-4, 1.1e-4, "measured") for name in NAMES}
    wide = replace(OVERHEADS, unseen_factor=5.0)
    assert add_up(GRAPH, measured, DEVICE, wide) == add_up(GRAPH, measured, DEVICE, OVERHEADS)
    assert interval(wide)[1] > interval(OVERHEADS)[1]


def test_families_count_the_same():
    """One large family that is easy does not hide two small ones that are not."""
    factors = [0.5] * 96 + [1.0, 2.0] + [1.5, 3.0]
    families = ["easy"] * 96 + ["hard"] * 2 + ["harder"] * 2
    assert factor_of_all(factors, families) == 3.0
    assert factor_of_all(factors, ["all"] * 100) == 0.5


def test_coverage_is_judged_with_the_factor_of_other_families():
    families = ["a"] * 20 + ["b"] * 20 + ["c"] * 20
    assert coverage_left_out([1.0] * 60, families) == 1.0
    odd = [1.0] * 40 + [2.0] * 20  # what a and b tell does not hold c
    assert coverage_left_out(odd, families) == pytest.approx(2 / 3)


def test_the_learned_factor_holds_nine_in_ten_of_new_networks():
    rng = np.random.default_rng(0)
    errors = rng.normal(scale=0.3, size=500)
    factors = [factor_that_holds(network(error), OVERHEADS) for error in errors[:250]]
    learned = replace(OVERHEADS, unseen_factor=factor_of_all(factors, ["one"] * 250))
    low_s, high_s = interval(learned)
    held = [low_s <= network(error).latency_s <= high_s for error in errors[250:]]
    assert 0.85 <= np.mean(held) <= 0.95


def test_the_factor_of_another_device_is_the_largest_and_never_narrows():
    known = [
        UnseenFamilies(2, 512, "default", 0.6, 300, 0.9),
        UnseenFamilies(1, 128, "default", 1.2, 120, 0.9),
        UnseenFamilies(2, 512, "model", 0.8, 48, 0.9),
    ]
    own = replace(DEVICE, cores=2, vector_bits=512)
    other = replace(DEVICE, cores=8, vector_bits=256)
    assert unseen_factor(known, own, "default") == 0.6
    assert unseen_factor(known, own, "model") == 0.8
    assert unseen_factor(known, other, "default") == 1.2
    assert unseen_factor(known, other, "model") == 1.0
    assert unseen_factor([], own, "default") == 1.0


def test_factors_are_written_and_read(tmp_path):
    known = {"ensemble": (UnseenFamilies(2, 512, "default", 0.6, 300, 0.9),), "halide": ()}
    write_factors(tmp_path / "factors.json", known)
    assert read_factors(tmp_path / "factors.json") == known


def test_bad_input_is_named():
    with pytest.raises(InputError, match="must be learned from some networks, got none"):
        factor_of_all([], [])
    with pytest.raises(InputError, match="a factor: Object missing required field `vector_bits`"):
        from_values(UnseenFamilies, {"cores": 1}, "a factor")
    with pytest.raises(InputError, match="unseen_factor of overheads must be a number from 0"):
        Overheads(unseen_factor=-1.0)
