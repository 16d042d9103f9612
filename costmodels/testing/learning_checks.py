"""Checks of how kernel models learn, at once and online."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np

from costmodels.kernel import (
    Failure,
    KernelDataset,
    Measured,
)
from costmodels.protocol import KernelCostModel
from costmodels.testing.example_data import example_dataset
from costmodels.testing.fitted import (
    ModelFactory,
    assert_ranks,
    assert_same,
    fitted_model,
    learned_dataset,
    new_rng,
    small_dataset,
    unseen_dataset,
)

MAX_OFF = 300.0
"""Factor by which seconds of learned kernels may be off on the whole. Of made-up kernels, which
obey no processor, a sound model can be far off; but milliseconds are no seconds."""


def check_fit_repeats(factory: ModelFactory, folder: Path) -> None:
    """Equal data and equal generators give equal models, whatever was drawn elsewhere."""
    del folder
    first = fitted_model(factory)
    np.random.default_rng().normal(size=3)
    second = factory().fit(learned_dataset(first), rng=new_rng())
    batch = unseen_dataset(first).batch
    assert_same(first.predict(batch), second.predict(batch), "fit does not repeat", exact=True)


def check_fit_forgets(factory: ModelFactory, folder: Path) -> None:
    """`fit` does not depend on what was learned before."""
    del folder
    fresh = fitted_model(factory)
    dataset = learned_dataset(fresh)
    used = factory().fit(small_dataset(fresh), rng=new_rng(4))
    used.update(dataset.batch, dataset.measurements)
    used.fit(dataset, rng=new_rng())
    batch = unseen_dataset(fresh).batch
    assert_same(fresh.predict(batch), used.predict(batch), "fit remembers", exact=True)


def check_fit_ranks(factory: ModelFactory, folder: Path) -> None:
    """The faster a learned kernel, the higher its utility, and the fewer its seconds if claimed."""
    del folder
    model = fitted_model(factory)
    assert_ranks(model, learned_dataset(model))


def check_fit_gives_seconds(factory: ModelFactory, folder: Path) -> None:
    """Seconds are seconds: those of learned kernels are not off by a factor on the whole."""
    del folder
    model = fitted_model(factory)
    dataset = learned_dataset(model)
    latency_s = model.predict(dataset.batch).latency_s
    if not model.claims.seconds or latency_s is None:
        return
    known = dataset.measured & np.isfinite(latency_s)
    assert np.any(known), "some learned kernel must have seconds"
    off = float(np.exp(np.median(np.log(latency_s[known]) - dataset.log_latency[known])))
    assert 1 / MAX_OFF < off < MAX_OFF, (
        f"seconds of learned kernels must be right on the whole, got {off:.3g} times the measured"
    )


def check_update_learns(factory: ModelFactory, folder: Path) -> None:
    """Updates with a task's measurements teach a new model, and one that was fitted before."""
    del folder
    model = factory()
    dataset = example_dataset(new_rng(5), tasks=1, kernels_per_task=48, schema=model.schema)
    _update_thrice(model, dataset)
    assert model.is_fitted, "is_fitted must be true after an update with measured kernels"
    assert np.all(np.isfinite(model.predict(dataset.batch).utility)), "utilities must be finite"
    assert_ranks(model, dataset)
    if not model.claims.ranks:
        return
    model = fitted_model(factory)
    new = example_dataset(
        new_rng(8), tasks=1, kernels_per_task=48, schema=model.schema, first_task=50
    )
    before = model.predict(new.batch).utility
    _update_thrice(model, new)
    after = model.predict(new.batch).utility
    assert not np.array_equal(before, after), "an update after fit changes nothing"


def _update_thrice(model: KernelCostModel, dataset: KernelDataset) -> None:
    for part in np.array_split(np.arange(len(dataset)), 3):
        taken = dataset.take(part)
        model.update(taken.batch, taken.measurements)


def check_update_without_graphs(factory: ModelFactory, folder: Path) -> None:
    """A model that needs no graphs learns on without them, also after loading.

    Data sets have them; a search does not extract what is not needed.
    """
    model = fitted_model(factory)
    if model.graphs:
        return
    model.save(folder / "model.ckpt")
    new = unseen_dataset(model)
    for each in (model, type(model).load(folder / "model.ckpt")):
        each.update(new.batch.without_graphs(), new.measurements)
        each.update(new.batch, new.measurements)
        assert len(each.predict(new.batch.without_graphs())) == len(new), "wants [kernels]"


def check_update_with_nothing(factory: ModelFactory, folder: Path) -> None:
    """An empty update changes nothing."""
    del folder
    model = fitted_model(factory)
    batch = unseen_dataset(model).batch
    before = model.predict(batch)
    model.update(batch.take([]), [])
    assert_same(before, model.predict(batch), "an empty update changes answers", exact=True)


def check_update_with_failures(factory: ModelFactory, folder: Path) -> None:
    """A batch of failures only is no reason to raise, whether it comes first or later."""
    del folder
    model = factory()
    dataset = example_dataset(new_rng(5), tasks=1, schema=model.schema, failures=False)
    failures = [Failure("timeout", "made up")] * len(dataset)
    model.update(dataset.batch, failures)
    assert np.all(np.isfinite(model.predict(dataset.batch).utility)), "utilities must be finite"
    other = example_dataset(new_rng(6), tasks=1, schema=model.schema, first_task=1)
    model.update(other.batch, other.measurements)
    model.update(dataset.batch, failures)
    assert np.all(np.isfinite(model.predict(dataset.batch).utility)), "utilities must be finite"


def check_failures_are_not_preferred(factory: ModelFactory, folder: Path) -> None:
    """Kernels that failed, told from the others by a feature, do not rank among the fastest."""
    del folder
    model = factory()
    if not model.claims.ranks:
        return
    dataset = example_dataset(new_rng(5), tasks=1, kernels_per_task=48, schema=model.schema)
    rows = dataset.batch.rows.copy()
    failed = np.arange(len(dataset)) % 2 == 1
    rows[:, 0] = np.where(failed[dataset.batch.row_kernel], 20.0, 0.0)
    batch = replace(dataset.batch, rows=rows)
    measurements = [
        Failure("run", "made up") if failed[kernel] else Measured((1e-3 * (1 + kernel / 48),))
        for kernel in range(len(dataset))
    ]
    model.update(batch, measurements)
    utility = model.predict(batch).utility
    assert utility[failed].mean() <= np.quantile(utility[~failed], 0.9), "prefers what failed"


def check_inputs_not_written(factory: ModelFactory, folder: Path) -> None:
    """No verb writes to what it is given."""
    del folder
    model = factory()
    dataset = small_dataset(model)
    kept = copy.deepcopy(dataset)
    model.fit(dataset, rng=new_rng())
    model.update(dataset.batch, dataset.measurements)
    prediction = model.predict(dataset.batch)
    prediction.utility[:] = 7.0
    for name in ("rows", "row_offsets", "task_index"):
        before, after = getattr(kept.batch, name), getattr(dataset.batch, name)
        np.testing.assert_array_equal(before, after, err_msg=f"{name} was written to")
    assert not np.all(model.predict(dataset.batch).utility == 7.0), "the model shares its answer"
