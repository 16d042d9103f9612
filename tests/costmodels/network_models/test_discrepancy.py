"""Errors on untuned kernels that others of their kind tell, and only those."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.features.schema import PER_STORE
from costmodels.json_text import from_values
from costmodels.network_models.discrepancy import INPUTS, SCHEDULED, Discrepancy
from costmodels.network_models.overheads import Overheads
from costmodels.networks.kernel_latency import KernelLatency
from costmodels.testing.example_data import example_dataset

GROUPS = 6
DEVIATION = 0.3


def with_columns(batch, **columns):
    """A batch with other values in all rows of each kernel."""
    rows = batch.rows.copy()
    for name, value in columns.items():
        rows[:, PER_STORE.index[name.replace("__", ".")]] = np.asarray(value)[batch.row_kernel]
    return replace(batch, rows=rows)


@pytest.fixture(scope="module")
def untuned():
    """Kernels without a schedule, sums of many lengths."""
    rng = np.random.default_rng(0)
    batch = example_dataset(rng, tasks=12, kernels_per_task=12, failures=False).batch
    plain = dict.fromkeys(SCHEDULED, np.zeros(len(batch)))
    return with_columns(batch, **plain, **{"sum.length": rng.uniform(0.0, 12.0, len(batch))})


def length_of(batch):
    return np.array(
        [
            batch.column("sum.length")[batch.row_kernel == kernel].max()
            for kernel in range(len(batch))
        ]
    )


def groups_of(batch):
    return [frozenset({f"family {kernel % GROUPS}"}) for kernel in range(len(batch))]


def learn(batch, error):
    return Discrepancy.learn(batch, error, np.full(len(batch), DEVIATION), groups_of(batch))


def test_errors_that_hang_on_the_length_of_sums_are_told_by_other_families(untuned):
    noise = np.random.default_rng(1).normal(0.0, 0.05, len(untuned))
    error = np.where(length_of(untuned) > 6.0, 0.3, -0.3) + noise
    found, told = learn(untuned, error)
    assert np.std(error - told) < 0.6 * np.std(error)
    assert found.spread < 1.0, "they are less far off than the model says"
    new = untuned.take(range(40))
    factor = found.log_factor(new)
    assert np.corrcoef(factor, error[:40])[0, 1] > 0.8
    before = KernelLatency(1e-3, 0.5e-3, 2e-3, "predicted")
    (after, *_) = found.corrected(new, [before] * len(new))
    assert after.latency_s == pytest.approx(1e-3 * np.exp(factor[0]))
    assert np.log(after.high_s / after.low_s) == pytest.approx(found.spread * np.log(4.0))


def test_noise_tells_nothing(untuned):
    error = np.random.default_rng(2).normal(0.0, 0.4, len(untuned))
    found = learn(untuned, error)
    factor = 0.0 if found is None else found[0].log_factor(untuned)
    assert np.abs(factor).max() < 0.05


def test_fewer_than_four_families_tell_nothing(untuned):
    error = np.where(length_of(untuned) > 6.0, 0.3, -0.3)
    groups = [frozenset({f"family {kernel % 3}"}) for kernel in range(len(untuned))]
    assert Discrepancy.learn(untuned, error, np.full(len(untuned), 0.3), groups) is None


def test_a_kernel_of_two_families_is_told_by_neither(untuned):
    error = np.full(len(untuned), np.nan)
    error[:GROUPS] = 0.5
    groups = groups_of(untuned)
    groups[0] = frozenset(set().union(*groups[1:GROUPS]) | groups[0])
    found = Discrepancy.learn(untuned, error, np.full(len(untuned), 0.3), groups)
    assert found is not None
    assert found[1][0] == 0.0
    assert found[1][1] > 0.0


def test_a_model_that_is_far_off_as_a_whole_is_not_corrected_kernel_by_kernel(untuned):
    assert learn(untuned, np.where(length_of(untuned) > 6.0, 4.3, 3.7)) is None


def test_kernels_with_a_schedule_those_measured_and_those_far_away_stay_as_they_are(untuned):
    found, _ = learn(untuned, np.where(length_of(untuned) > 6.0, 0.3, -0.3))
    tuned = with_columns(untuned, parallel__loops=np.ones(len(untuned)))
    np.testing.assert_array_equal(found.log_factor(tuned), 0.0)
    latency = KernelLatency(1e-3, 0.5e-3, 2e-3, "predicted")
    measured = replace(latency, source="measured")
    some = untuned.take([0, 1])
    assert found.corrected(tuned.take([0]), [latency]) == [latency]
    assert found.corrected(some, [measured, None]) == [measured, None]
    far = with_columns(untuned, buffer0__stride=np.full(len(untuned), 400.0))
    np.testing.assert_allclose(found.log_factor(far), 0.0, atol=1e-6)


def test_it_is_kept_with_the_overheads(untuned):
    found, _ = learn(untuned, np.where(length_of(untuned) > 6.0, 0.3, -0.3))
    kept = json.loads(json.dumps(asdict(Overheads(discrepancy=found))))
    assert from_values(Overheads, kept, "overheads").discrepancy == found
    del kept["discrepancy"]
    assert from_values(Overheads, kept, "overheads") == Overheads(), "written before there were any"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [1.0]}, f"must have {len(INPUTS) + 1} inputs and a weight for each kernel"),
        ({"inputs": [[1.0]] * 144}, "inputs and a weight for each kernel"),
        ({"spread": 0.0}, r"its spread at least 0\.001, got 0"),
        ({"spread": float("nan")}, "must be of numbers from -100 to 100"),
        ({"spread": 10**400}, "Number out of range"),
        ({"spread": True}, "Expected `float`, got `bool`"),
        ({"weights": [1e4] * 144}, "must be of numbers from -100 to 100"),
        ({"weights": "1" * 144}, "Expected `array`, got `str`"),
        ({"weights": None}, "Expected `array`, got `null`"),
    ],
)
def test_what_is_none_is_told(untuned, changes, message):
    found, _ = learn(untuned, np.where(length_of(untuned) > 6.0, 0.3, -0.3))
    values = json.loads(json.dumps(asdict(Overheads(discrepancy=found))))["discrepancy"]
    with pytest.raises(InputError, match=message):
        from_values(Discrepancy, {**values, **changes}, "discrepancy")
