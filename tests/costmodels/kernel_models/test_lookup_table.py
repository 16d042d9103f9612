"""A table answers with what was measured, or with the nearest and how far it is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from one_kernel import convolution, dataset, kernels, matmul, measured

from costmodels.errors import InputError
from costmodels.kernel_models.lookup_table import LookupTable, describe
from costmodels.network_models.expected_latency import ExpectedLatency, latency_loss
from costmodels.testing.example_data import example_device

GRAPHS = [matmul(64 << a, 64, 128) for a in range(6)]
SECONDS = [1e-5 * 2**a for a in range(6)]


def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def table():
    return LookupTable().fit(dataset(GRAPHS, SECONDS), rng=rng())


def test_operators_and_extents_identify_a_kernel():
    assert describe(matmul(4, 5, 6, then=["relu"])) == (
        "matmul.float32 relu.float32",
        (4, 5, 6, 4, 5),
    )


def test_what_was_measured_is_looked_up(table):
    found = table.look_up(kernels(*GRAPHS))
    assert [each.distance for each in found] == [0.0] * 6
    prediction = table.predict(kernels(*GRAPHS))
    np.testing.assert_allclose(prediction.latency_s, SECONDS)
    assert np.all(prediction.high_s / prediction.low_s < 1.2)


def test_several_measurements_give_median_and_spread():
    model = LookupTable()
    for seconds in (1.0, 4.0, 2.0):
        model.update(kernels(GRAPHS[0]), measured(seconds))
    (entry,) = model.entries
    assert entry.median_s == 2.0
    assert entry.spread == pytest.approx(np.std(np.log([1, 2, 4])))


def test_the_nearest_is_scaled_and_its_distance_told(table):
    (found,) = table.look_up(kernels(matmul(64 * 32 * 2, 64, 128)))
    assert found.entry.extents == (64 * 32, 64, 128)
    assert found.distance == pytest.approx(1.0)
    assert found.latency_s == pytest.approx(2 * SECONDS[-1], rel=0.05)
    near = table.predict(kernels(matmul(64 * 32 * 2, 64, 128)))
    far = table.predict(kernels(matmul(64 * 32 * 256, 64, 128)))
    assert far.high_s[0] / far.low_s[0] > near.high_s[0] / near.low_s[0]


def test_operators_or_devices_never_measured_are_named(table):
    found = table.predict(kernels(GRAPHS[0], convolution(1, 3, 8, 16, 3)))
    assert math.isnan(found.latency_s[1])
    (problem,) = found.unsupported
    assert problem.kernel == 1
    assert "no entry of conv.float32 on example, 2 cores, 256 bits" in problem.reason
    other = replace(example_device(), cores=1)
    assert table.look_up(kernels(GRAPHS[0], device=other)) == [None]


def test_an_export_comes_back(table, tmp_path):
    table.export(tmp_path / "table.csv")
    back = LookupTable.from_export(tmp_path / "table.csv")
    batch = kernels(*GRAPHS, matmul(100, 64, 128))
    np.testing.assert_allclose(
        back.predict(batch).latency_s, table.predict(batch).latency_s, rtol=1e-4
    )
    for one, other in zip(back.entries, table.entries, strict=True):
        assert one.key == other.key
        assert one.spread == pytest.approx(other.spread, rel=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("device,operators\nx,y\n", "must have the columns device, .* got none called extents"),
        ("", "must have the columns device, .* got none called device"),
        (
            "device,operators,extents,bound_s,measured,median_s,spread\n",
            "must have entries, got none",
        ),
        (
            "device,operators,extents,bound_s,measured,median_s,spread\na,b,1 2,1e-6,1,1e-3,0\n"
            "a,b,1 2,1e-6,1,0.9,0\n",
            r"lines 2 and 3 of table .* agree on .* one kernel, got 0.001 s and 0.9 s: remove one",
        ),
        (
            "device,operators,extents,bound_s,measured,median_s,spread\na,b,1 2,1e-6,1,-1,0\n",
            "line 2 .*median_s must be above 0",
        ),
    ],
)
def test_a_faulty_export_is_refused(content, message, tmp_path):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        LookupTable.from_export(tmp_path / "table.csv")
    with pytest.raises(InputError, match="must be a CSV file"):
        LookupTable.from_export(tmp_path / "missing.csv")


def test_expected_latency_is_a_sum_that_can_be_differentiated():
    expected = ExpectedLatency([[1e-3, 3e-3, 0.0], [2e-3, 4e-3]])
    logits = [torch.zeros(3, requires_grad=True), torch.zeros(2, requires_grad=True)]
    latency = expected([torch.softmax(each, 0) for each in logits])
    assert float(latency.detach()) == pytest.approx(4e-3 / 3 + 3e-3)
    latency_loss(torch.tensor(2.0), latency).backward()
    assert logits[0].grad[1] > 0 > logits[0].grad[2]  # the slow candidate becomes less likely
    many = expected([torch.full((5, 3), 1 / 3), torch.full((5, 2), 1 / 2)])
    assert many.shape == (5,)
    with pytest.raises(InputError, match="weights must be of 2 layers, got 1"):
        expected([torch.ones(3)])
    with pytest.raises(InputError, match="layer 1 must have latencies of at least 0"):
        ExpectedLatency([[1.0], []])
