"""Models learn on from a data set: for all kernels of a new device, without losing the old one."""

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.kernel import Failure, KernelDataset, Measured, Task
from costmodels.kernel_models.ensemble import Ensemble
from costmodels.kernel_models.gbt.model import GradientBoostedTrees
from costmodels.kernel_models.graphsage import GraphSage
from costmodels.protocol import Adaptable, FitProgress
from costmodels.testing.example_data import example_dataset
from halide_style.model import HalideStyleModel

MODELS = [GradientBoostedTrees, GraphSage, HalideStyleModel, Ensemble]
SLOWER = 6.0


@pytest.fixture(scope="module", autouse=True)
def _one_network_each():
    """For speed: what is looked at here does not depend on their number."""
    with pytest.MonkeyPatch.context() as patch:
        for model in (GraphSage, HalideStyleModel):
            patch.setattr(model, "members", 1)
        yield


def rng(seed=0):
    return np.random.default_rng(seed)


@cache
def fitted_once(make, tasks):
    return make().fit(made_up(0, tasks=tasks), rng=rng())


def fitted(make, tasks):
    """A copy of what learned `made_up(0, tasks=tasks)`: fitting takes most of the time."""
    return copy.deepcopy(fitted_once(make, tasks))


def made_up(seed, **options) -> KernelDataset:
    return example_dataset(rng(seed), kernels_per_task=48, failures=False, **options)


def elsewhere(dataset: KernelDataset) -> KernelDataset:
    """The same kernels on a device that is slower in a way its figures do not tell."""
    tasks = tuple(
        Task(
            f"{t.key} elsewhere", replace(t.device, name="slow", vector_bits=128, l3_bytes=1 << 21)
        )
        for t in dataset.batch.tasks
    )
    latency_s = SLOWER * np.exp(dataset.log_latency)
    measurements = tuple(Measured((float(value),)) for value in latency_s)
    return KernelDataset(replace(dataset.batch, tasks=tasks), measurements)


def bias(model, dataset):
    """Median of the logarithm of predicted over measured seconds."""
    latency_s = model.predict(dataset.batch).latency_s
    return float(np.median(np.log(latency_s) - dataset.log_latency))


@pytest.mark.parametrize("make", MODELS)
def test_a_few_kernels_of_a_new_device_tell_of_its_other_kernels(make, tmp_path):
    model = fitted(make, 20)
    assert isinstance(model, Adaptable)
    here = made_up(1, tasks=5, first_task=40)
    there = elsewhere(here)
    assert bias(model, there) < -1.0
    model.adapt(elsewhere(made_up(2, tasks=20, first_task=20)), rng=rng())
    half = np.log(SLOWER) / 2
    assert abs(bias(model, there)) < half
    assert abs(bias(model, here)) < half
    model.save(tmp_path / "model.ckpt")
    again = make.load(tmp_path / "model.ckpt")
    np.testing.assert_array_equal(
        again.predict(there.batch).latency_s, model.predict(there.batch).latency_s
    )


@pytest.mark.parametrize("make", MODELS)
def test_without_kernels_that_ran_nothing_changes(make):
    data = made_up(0, tasks=4)
    model = fitted(make, 4)
    before = model.predict(data.batch).utility
    failed = KernelDataset(data.batch, (Failure("run", "made up"),) * len(data))
    with pytest.raises(InputError, match="must be given kernels that ran"):
        model.adapt(failed, rng=rng())
    np.testing.assert_array_equal(model.predict(data.batch).utility, before)


@pytest.mark.parametrize("make", MODELS)
def test_a_new_model_learns_as_from_nothing(make):
    data = made_up(0, tasks=4)
    adapted, as_fitted = make().adapt(data, rng=rng()), fitted(make, 4)
    np.testing.assert_array_equal(
        adapted.predict(data.batch).utility, as_fitted.predict(data.batch).utility
    )


def test_both_ways_of_learning_tell_how_far_they_have_come(monkeypatch):
    for module in ("kernel_models.ensemble", "kernel_models.gbt.model", "learning.neural_model"):
        monkeypatch.setattr(f"costmodels.{module}.FEW", 1)
    told: list[tuple[int, int, str]] = []
    progress = FitProgress(lambda done, most, text: told.append((done, most, text)))
    model = Ensemble().fit(made_up(0, tasks=4), rng=rng(), progress=progress)
    for_fit = len(told)
    model.adapt(made_up(1, tasks=4, first_task=4), rng=rng(), progress=progress)
    for some in (told[:for_fit], told[for_fit:]):
        assert len(some) > 3
        assert len({most for _, most, _ in some}) == 1
        shares = [done / most for done, most, _ in some]
        assert shares == sorted(shares)
        assert 0 < shares[-1] <= 1
        assert "loss" in some[-1][2]


@pytest.mark.parametrize("make", MODELS)
def test_few_programs_correct_the_seconds_of_their_device_and_nothing_else(make, tmp_path):
    model = fitted(make, 20)
    here = made_up(1, tasks=5, first_task=60)
    there = elsewhere(here)
    before_here, before_there = model.predict(here.batch), model.predict(there.batch)
    given = elsewhere(made_up(2, tasks=32, first_task=20))
    few = given.take(np.flatnonzero(np.arange(len(given)) % 12 == 0))
    assert len(few) == 128
    model.adapt(few, rng=rng())
    assert abs(bias(model, there)) < np.log(SLOWER) / 2
    after_here, after_there = model.predict(here.batch), model.predict(there.batch)
    np.testing.assert_array_equal(after_here.latency_s, before_here.latency_s)
    np.testing.assert_array_equal(after_there.utility, before_there.utility)
    model.save(tmp_path / "model.ckpt")
    again = make.load(tmp_path / "model.ckpt").predict(there.batch)
    np.testing.assert_array_equal(again.latency_s, after_there.latency_s)
    if model.claims.interval:
        np.testing.assert_array_equal(after_here.low_s, before_here.low_s)
        np.testing.assert_array_equal(again.low_s, after_there.low_s)
        latency_s = np.exp(there.log_latency)
        held = np.mean((after_there.low_s <= latency_s) & (latency_s <= after_there.high_s))
        assert held > 0.7
        width = [np.median(each.high_s / each.low_s) for each in (after_there, before_there)]
        assert width[0] < width[1]


@pytest.mark.parametrize("make", MODELS)
def test_what_is_measured_on_a_corrected_device_is_not_corrected_twice(make, tmp_path):
    """What is measured there afterwards is learned as it is: nothing is added to that."""
    fitted_once(make, 20).save(tmp_path / "model.ckpt")
    corrected, other = (make.load(tmp_path / "model.ckpt") for _ in range(2))
    there = elsewhere(made_up(1, tasks=5, first_task=40))
    given = elsewhere(made_up(2, tasks=8, first_task=20))
    corrected.adapt(given.take(np.arange(0, len(given), 12)), rng=rng())
    for model in (corrected, other):
        model.update(there.batch, there.measurements)
    np.testing.assert_array_equal(
        corrected.predict(there.batch).latency_s, other.predict(there.batch).latency_s
    )
