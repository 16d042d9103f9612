"""What a sum of kernels leaves out is fitted on networks, and on kernels alone."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from chains import DEVICE, MB, chain, known

from costmodels.errors import InputError
from costmodels.json_text import from_values
from costmodels.network_models.kernel_sums import MeasuredNetwork, add_up
from costmodels.network_models.overheads import DEFAULT_OVERHEADS, Overheads, Parameter
from costmodels.network_models.overheads_fit import fit_errors, fit_overheads


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
    assert (found.launch_s, found.residual) == (
        DEFAULT_OVERHEADS.launch_s,
        DEFAULT_OVERHEADS.residual,
    )
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
    assert from_values(Overheads, asdict(found), "overheads") == found


def test_what_networks_do_not_tell_is_taken_from_others():
    """Small networks have no cold weights; their launches are told well."""
    networks = []
    for count in (5, 20, 40, 80, 100):
        names = [f"k{n}" for n in range(count)]
        graph = chain(*names, constant_bytes=64)
        measured = {name: known(1e-5, 1.02, "measured") for name in names}
        networks.append(MeasuredNetwork(graph, DEVICE, count * 1.2e-5, measured, {}))
    found = fit_overheads(networks)
    assert found.cold_share.value == pytest.approx(DEFAULT_OVERHEADS.cold_share.value)
    assert found.cold_share.deviation == pytest.approx(DEFAULT_OVERHEADS.cold_share.deviation)
    assert found.launch_s.value == pytest.approx(2e-6, rel=0.1)
    assert found.launch_s.deviation < DEFAULT_OVERHEADS.launch_s.deviation
    assert fit_overheads(networks, prior=None).launch_s.value == pytest.approx(2e-6)


def test_launches_on_several_threads_take_longer():
    networks = []
    rng = np.random.default_rng(0)
    for _ in range(12):
        graph = chain(*(f"k{n}" for n in range(20)))
        latencies = rng.choice([2e-7, 5e-6, 1e-3], 20)
        measured = {f"k{n}": known(float(s), 1.02, "measured") for n, s in enumerate(latencies)}
        threaded = 0.04 * (latencies == 2e-7) + 1.0 * (latencies > 2e-7)
        latency_s = float(latencies.sum() + 20 * 1e-6 + threaded.sum() * 4e-6)
        networks.append(MeasuredNetwork(graph, DEVICE, latency_s, measured, {}))
    found = fit_overheads(networks, prior=None, threaded=True)
    assert found.launch_s.value == pytest.approx(1e-6, rel=1e-3)
    assert found.threads_s.value == pytest.approx(4e-6, rel=1e-3)
    assert add_up(graph, measured, DEVICE, found).total_s == pytest.approx(latency_s)
    assert not fit_overheads(networks).threads_s.value  # of unscheduled kernels
    one = replace(DEVICE, cores=1)
    assert add_up(graph, measured, one, Overheads(threads_s=Parameter(1.0))).launches_s == 0


def test_bad_input_is_named():
    with pytest.raises(InputError, match="on at least 4 networks, got 0"):
        fit_overheads([])
    network = MeasuredNetwork(chain("a"), DEVICE, 1.0, {}, {})
    with pytest.raises(
        InputError, match="every kernel of a network must be measured, got none for a"
    ):
        fit_overheads([network] * 4)
