"""A network is the sum of its kernels and of what lies between them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.example_data import example_device
from costmodels.fused_graph import FusedGraph, Launch
from costmodels.network_models.sum_of_kernels import (
    NOTHING,
    TYPICAL,
    KernelLatency,
    MeasuredNetwork,
    Overheads,
    Parameter,
    add_up,
    cold_bytes,
    fit_errors,
    fit_overheads,
)

MB = 1 << 20
DEVICE = example_device()
CACHES = DEVICE.l2_bytes * DEVICE.cores


def chain(*names: str, constant_bytes: int = 0) -> FusedGraph:
    launches = [
        Launch(name, "kernel", (number - 1,) if number else (), constant_bytes, 4)
        for number, name in enumerate(names)
    ]
    return FusedGraph(tuple(launches))


def known(latency_s: float, width: float = 1.0, source: str = "predicted") -> KernelLatency:
    return KernelLatency(latency_s, latency_s / width, latency_s * width, source)


def test_a_plain_sum_counts_each_launch():
    total = add_up(chain("a", "b", "a"), {"a": known(1e-3), "b": known(5e-3)}, DEVICE)
    assert total.total_s == total.kernels_s == pytest.approx(7e-3)
    assert total.low_s < total.total_s < total.high_s
    assert (total.launches_s, total.cold_s) == (0.0, 0.0)


def test_launches_and_cold_weights_are_added():
    graph = chain("a", "b", "a", constant_bytes=32 * MB)
    overheads = Overheads(Parameter(1e-4), Parameter(0.5))
    total = add_up(graph, {"a": known(1e-3), "b": known(5e-3)}, DEVICE, overheads)
    assert total.launches_s == pytest.approx(3e-4)
    assert cold_bytes(graph, DEVICE) == 2 * CACHES  # of three times what they hold
    assert total.cold_s == pytest.approx(0.5 * 2 * CACHES / 3e10)
    assert total.total_s == pytest.approx(7e-3 + total.launches_s + total.cold_s)


def test_weights_that_the_cache_holds_stay_warm():
    share = CACHES // 4
    assert cold_bytes(chain("a", "b", "c", constant_bytes=share), DEVICE) == 0
    assert cold_bytes(chain(*"abcdef", constant_bytes=share), DEVICE) == 2 * share


def test_weights_that_an_earlier_launch_read_are_not_cold():
    own = chain(*"abcdef", constant_bytes=CACHES)
    first, *others = own.launches
    tied = FusedGraph((first, *(replace(each, tied_bytes=CACHES) for each in others)))
    assert cold_bytes(own, DEVICE) == 5 * CACHES
    assert cold_bytes(tied, DEVICE) == 0


def test_errors_that_go_together_do_not_cancel():
    kernels = {f"k{n}": known(1e-3, width=2.0) for n in range(100)}
    graph = chain(*kernels)

    def width(correlation):
        found = add_up(graph, kernels, DEVICE, Overheads(common_error=correlation))
        return math.log(found.high_s / found.low_s)

    assert width(0.0) < 0.25 * width(1.0)
    assert width(0.0) < width(0.3) < width(1.0)
    assert width(1.0) == pytest.approx(2 * math.log(2.0), rel=0.05)


def test_a_bias_is_of_predictions_alone():
    kernels = {"a": known(1e-3, source="measured"), "b": known(1e-3)}
    total = add_up(chain("a", "b"), kernels, DEVICE, Overheads(bias=math.log(2.0)))
    assert total.total_s == pytest.approx(3e-3)


def test_on_a_device_never_seen_predictions_are_off_together():
    kernels = {f"k{n}": known(1e-3, width=1.001) for n in range(50)}
    graph = chain(*kernels)
    seen = add_up(graph, kernels, DEVICE)
    unseen = add_up(graph, kernels, DEVICE, Overheads(device_error=0.4))
    assert unseen.total_s == seen.total_s
    assert math.log(unseen.high_s / unseen.total_s) == pytest.approx(1.645 * 0.4, rel=0.01)
    measured = {name: known(1e-3, 1.001, "measured") for name in kernels}
    assert add_up(graph, measured, DEVICE, Overheads(device_error=0.4)) == seen


def test_errors_are_fitted_on_the_kernels_that_are_known():
    """The others, and how long the whole network took, do not count."""
    networks = []
    for number in range(8):
        names = [f"{number}.{n}" for n in range(6)]
        measured = {name: known(1e-3, 1.02, "measured") for name in names[:4]}
        predicted = {name: known(2e-3, 1.5) for name in names[1:]}
        networks.append(MeasuredNetwork(chain(*names), DEVICE, 1.0, measured, predicted))
    found = fit_errors(networks)
    assert -math.log(2.0) < found.bias < -0.9 * math.log(2.0)
    assert (found.networks, found.kernels, found.is_calibrated) == (0, 8 * 3, True)
    assert (found.launch_s, found.residual) == (TYPICAL.launch_s, TYPICAL.residual)
    unknown = MeasuredNetwork(chain("a"), DEVICE, 1.0, {}, {})
    with pytest.raises(InputError, match="at least 4 networks, got 3"):
        fit_errors([*networks[:3], unknown, unknown])


@pytest.mark.parametrize(("factor", "believed"), [(1.05, 0.06), (1.22, 0.5), (3.0, 0.95)])
def test_a_small_bias_is_hardly_believed(factor, believed):
    """It may be of the kernels that were measured alone; a large one is of the device."""
    networks = []
    for number in range(8):
        names = [f"{number}.{n}" for n in range(4)]
        measured = {name: known(factor * 1e-3, 1.02, "measured") for name in names}
        predicted = {name: known(1e-3, 1.5) for name in names}
        networks.append(MeasuredNetwork(chain(*names), DEVICE, 1.0, measured, predicted))
    found = fit_errors(networks)
    assert found.bias / math.log(factor) == pytest.approx(believed, abs=0.03)


def test_the_fit_finds_what_was_put_in():
    rng = np.random.default_rng(0)
    networks = []
    for _ in range(60):
        names = [f"k{n}" for n in range(int(rng.integers(5, 80)))]
        graph = chain(*names, constant_bytes=int(rng.integers(0, 4 * MB)))
        truth = {name: float(rng.lognormal(-8, 1)) for name in names}
        measured = {name: known(value, 1.02, "measured") for name, value in truth.items()}
        common = rng.normal(scale=0.2)
        predicted = {
            name: known(value * math.exp(0.3 + common + rng.normal(scale=0.3)), 1.8)
            for name, value in truth.items()
        }
        plain = add_up(graph, measured, DEVICE, Overheads(Parameter(2e-5), Parameter(0.7)))
        latency_s = plain.total_s * math.exp(rng.normal(scale=0.005))
        networks.append(MeasuredNetwork(graph, DEVICE, latency_s, measured, predicted))
    found = fit_overheads(networks, prior=None)
    assert found.launch_s.value == pytest.approx(2e-5, abs=3 * found.launch_s.deviation + 1e-7)
    assert found.cold_share.value == pytest.approx(0.7, abs=3 * found.cold_share.deviation)
    assert found.bias == pytest.approx(-0.3, abs=0.1)
    assert 0.1 < found.common_error < 0.6
    inside = []
    for each in networks:
        total = add_up(each.graph, each.predicted, DEVICE, found)
        inside.append(total.low_s <= each.latency_s <= total.high_s)
    assert 0.8 <= np.mean(inside) <= 1.0
    assert Overheads.from_dict(found.as_dict()) == found


def test_what_networks_do_not_tell_is_taken_from_others():
    """Small networks have no cold weights; their launches are told well."""
    networks = []
    for count in (5, 20, 40, 80, 100):
        names = [f"k{n}" for n in range(count)]
        graph = chain(*names, constant_bytes=64)
        measured = {name: known(1e-5, 1.02, "measured") for name in names}
        networks.append(MeasuredNetwork(graph, DEVICE, count * 1.2e-5, measured, {}))
    found = fit_overheads(networks)
    assert found.cold_share.value == pytest.approx(TYPICAL.cold_share.value)
    assert found.cold_share.deviation == pytest.approx(TYPICAL.cold_share.deviation)
    assert found.launch_s.value == pytest.approx(2e-6, rel=0.1)
    assert found.launch_s.deviation < TYPICAL.launch_s.deviation
    assert fit_overheads(networks, prior=None).launch_s.value == pytest.approx(2e-6)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="must be above 0 and lie in its interval"):
        KernelLatency(1.0, 2.0, 3.0, "predicted")
    with pytest.raises(InputError, match="source must be one of measured, looked up, predicted"):
        KernelLatency(1.0, 1.0, 1.0, "guessed")
    with pytest.raises(InputError, match="on at least 4 networks, got 0"):
        fit_overheads([])
    graph = chain("a")
    network = MeasuredNetwork(graph, DEVICE, 1.0, {}, {})
    with pytest.raises(
        InputError, match="every kernel of a network must be measured, got none for a"
    ):
        fit_overheads([network] * 4)
    with pytest.raises(InputError, match="overheads must have all their fields"):
        Overheads.from_dict({"launch_s": {"value": 1.0}})
    assert NOTHING.networks == 0
