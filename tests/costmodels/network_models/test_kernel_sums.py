"""A network is the sum of its kernels and of what lies between them."""

import math
from dataclasses import replace

import pytest
from chains import CACHES, DEVICE, MB, chain, known

from costmodels.errors import InputError
from costmodels.json_text import from_values
from costmodels.network_models.kernel_sums import add_up, cold_bytes
from costmodels.network_models.overheads import NO_OVERHEADS, Overheads, Parameter
from costmodels.networks.fused_graph import FusedGraph
from costmodels.networks.kernel_latency import KernelLatency


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


def test_bad_input_is_named():
    with pytest.raises(InputError, match="must be above 0 and lie in its interval"):
        KernelLatency(1.0, 2.0, 3.0, "predicted")
    with pytest.raises(InputError, match="source must be one of measured, looked up, predicted"):
        KernelLatency(1.0, 1.0, 1.0, "guessed")
    with pytest.raises(InputError, match="overheads: Expected `object`, got `float` - at"):
        from_values(Overheads, {"launch_s": 1.0}, "overheads")
    with pytest.raises(InputError, match=r"overheads: the names must be of .*launch_s.*, got near"):
        from_values(Overheads, {"launch_s": {"value": 1.0}, "near": 0}, "overheads")
    assert NO_OVERHEADS.networks == 0
