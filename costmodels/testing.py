"""Conformance checks that every kernel model must pass; for the models here and for third parties.

Each check is a small function that takes a factory and raises `AssertionError` with the reason. In
a test suite::

    @pytest.mark.parametrize("check", KERNEL_MODEL_CHECKS, ids=lambda check: check.__name__)
    def test_conformance(check, tmp_path):
        check(MyModel, tmp_path)

A model must survive `copy.deepcopy`: most checks begin with a copy of one fitted model.
"""

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from costmodels.checkpoint import load_checkpoint
from costmodels.errors import CheckpointError, SchemaError
from costmodels.example_data import example_dataset
from costmodels.graph import StagedGraph
from costmodels.kernel import (
    Failure,
    FloatArray,
    KernelBatch,
    KernelDataset,
    KernelPrediction,
    Measured,
)
from costmodels.metrics import kendall_tau, per_task
from costmodels.protocol import KernelCostModel, missing_members
from costmodels.registry import kernel_model_class, kernel_model_names

ModelFactory: TypeAlias = Callable[[], KernelCostModel]
"""Makes a new model that has learned nothing; a model class will do."""
Check: TypeAlias = Callable[[ModelFactory, Path], None]
"""(factory, empty folder to write in) -> nothing, or AssertionError."""

ROUNDING = 1e-5
"""Largest relative difference that counts as rounding."""
MOST_OFF = 300.0
"""Factor by which seconds of learned kernels may be off on the whole. Of made-up kernels, which
obey no processor, a sound model can be far off; but milliseconds are no seconds."""
LEAST_TAU = 0.3
"""Kendall's tau that a model must reach on the very kernels that it learned."""


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _fitted(factory: ModelFactory) -> KernelCostModel:
    """A copy of the one that was fitted first: fitting takes most of the time of the checks."""
    return copy.deepcopy(_fitted_once(factory))


@cache
def _fitted_once(factory: ModelFactory) -> KernelCostModel:
    return factory().fit(_learned(factory()), rng=_rng())


def _learned(model: KernelCostModel) -> KernelDataset:
    """What `_fitted` learned from."""
    return example_dataset(_rng(), schema=model.schema)


def _small(model: KernelCostModel) -> KernelDataset:
    """Fitted in a fraction of the time, for checks that do not look at what was learned."""
    return example_dataset(_rng(9), tasks=2, schema=model.schema, first_task=300)


def _unseen(model: KernelCostModel) -> KernelDataset:
    return example_dataset(_rng(1), schema=model.schema, first_task=100)


def _values(prediction: KernelPrediction) -> list[FloatArray]:
    fields = (prediction.utility, prediction.latency_s, prediction.low_s, prediction.high_s)
    return [values for values in fields if values is not None]


def _same(first: KernelPrediction, second: KernelPrediction, why: str, *, exact: bool) -> None:
    for one, other in zip(_values(first), _values(second), strict=True):
        if exact:
            np.testing.assert_array_equal(one, other, err_msg=why)
        else:
            np.testing.assert_allclose(one, other, rtol=ROUNDING, atol=ROUNDING, err_msg=why)


def _without_rows(batch: KernelBatch, kernel: int) -> KernelBatch:
    start, stop = batch.row_offsets[kernel : kernel + 2]
    offsets = batch.row_offsets.copy()
    offsets[kernel + 1 :] -= stop - start
    graphs, index = batch.graphs, batch.graph_index
    if index is not None:
        graphs = (*graphs, StagedGraph(graphs[index[kernel]].graph, (), 0))
        index = index.copy()
        index[kernel] = len(graphs) - 1
    return replace(
        batch,
        rows=np.delete(batch.rows, slice(start, stop), 0),
        row_offsets=offsets,
        graphs=graphs,
        graph_index=index,
    )


def check_protocol(factory: ModelFactory, folder: Path) -> None:
    """A model has every verb and attribute, and knows whether it has learned."""
    del folder
    model = factory()
    missing = ", ".join(missing_members(model))
    assert not missing, f"attributes or verbs of KernelCostModel are missing: {missing}"
    assert isinstance(model, KernelCostModel), "a verb of KernelCostModel is no function"
    assert model.name, "name must be the registered name"
    if model.name in kernel_model_names():
        owner = kernel_model_class(model.name)
        assert type(model) is owner, f"name {model.name!r} is that of {owner.__qualname__}"
    assert model.paper, "paper must name the publication"
    fitted = model.fit(_small(model), rng=_rng())
    assert fitted is model, "fit must return the model itself"
    assert model.is_fitted, "is_fitted must be true after fit"


def check_shapes(factory: ModelFactory, folder: Path) -> None:
    """One answer for each kernel, as float64, also for one kernel and for none."""
    del folder
    model = _fitted(factory)
    batch = _unseen(model).batch
    for size in (len(batch), 1, 0):
        prediction = model.predict(batch.take(np.arange(size)))
        for values in _values(prediction):
            assert values.shape == (size,), f"wants [{size}], got {values.shape}"
            assert values.dtype == np.float64, f"wants float64, got {values.dtype}"


def check_finite(factory: ModelFactory, folder: Path) -> None:
    """Utilities are finite for all kernels, before learning and after."""
    del folder
    for model in (factory(), _fitted(factory)):
        utility = model.predict(_unseen(model).batch).utility
        assert np.all(np.isfinite(utility)), "utilities must be finite"


def check_extreme_features(factory: ModelFactory, folder: Path) -> None:
    """Features far outside what was learned still give finite utilities."""
    del folder
    model = _fitted(factory)
    batch = _unseen(model).batch
    for value in (0.0, 64.0, 1e4):
        rows = np.full_like(batch.rows, value)
        utility = model.predict(replace(batch, rows=rows)).utility
        assert np.all(np.isfinite(utility)), f"all features {value}: utilities must be finite"


def check_order_independence(factory: ModelFactory, folder: Path) -> None:
    """A kernel's answer does not depend on its position."""
    del folder
    model = _fitted(factory)
    batch = _unseen(model).batch
    order = _rng(2).permutation(len(batch))
    for before, after in zip(
        _values(model.predict(batch)), _values(model.predict(batch.take(order))), strict=True
    ):
        np.testing.assert_allclose(
            after, before[order], rtol=ROUNDING, atol=ROUNDING, err_msg="order changes answers"
        )


def check_batch_independence(factory: ModelFactory, folder: Path) -> None:
    """A kernel's answer does not depend, beyond rounding, on the rest of the batch."""
    del folder
    model = _fitted(factory)
    batch = _unseen(model).batch
    whole = _values(model.predict(batch))
    for kernel in (0, len(batch) // 2, len(batch) - 1):
        alone = _values(model.predict(batch.take([kernel])))
        for one, all_ in zip(alone, whole, strict=True):
            np.testing.assert_allclose(
                one, all_[[kernel]], rtol=ROUNDING, atol=ROUNDING, err_msg="depends on the batch"
            )


def check_predict_repeats(factory: ModelFactory, folder: Path) -> None:
    """Asking twice gives the same answer."""
    del folder
    model = _fitted(factory)
    batch = _unseen(model).batch
    _same(model.predict(batch), model.predict(batch), "answers change", exact=True)


def check_fit_repeats(factory: ModelFactory, folder: Path) -> None:
    """Equal data and equal generators give equal models, whatever was drawn elsewhere."""
    del folder
    first = _fitted(factory)
    np.random.default_rng().normal(size=3)
    second = factory().fit(_learned(first), rng=_rng())
    batch = _unseen(first).batch
    _same(first.predict(batch), second.predict(batch), "fit does not repeat", exact=True)


def check_fit_forgets(factory: ModelFactory, folder: Path) -> None:
    """`fit` does not depend on what was learned before."""
    del folder
    fresh = _fitted(factory)
    dataset = _learned(fresh)
    used = factory().fit(_small(fresh), rng=_rng(4))
    used.update(dataset.batch, dataset.measurements)
    used.fit(dataset, rng=_rng())
    batch = _unseen(fresh).batch
    _same(fresh.predict(batch), used.predict(batch), "fit remembers", exact=True)


def check_fit_ranks(factory: ModelFactory, folder: Path) -> None:
    """The faster a learned kernel, the higher its utility, and the fewer its seconds if claimed."""
    del folder
    model = _fitted(factory)
    _must_rank(model, _learned(model))


def check_fit_gives_seconds(factory: ModelFactory, folder: Path) -> None:
    """Seconds are seconds: those of learned kernels are not off by a factor on the whole."""
    del folder
    model = _fitted(factory)
    dataset = _learned(model)
    latency_s = model.predict(dataset.batch).latency_s
    if not model.claims.seconds or latency_s is None:
        return
    known = dataset.measured & np.isfinite(latency_s)
    assert np.any(known), "some learned kernel must have seconds"
    off = float(np.exp(np.median(np.log(latency_s[known]) - dataset.log_latency[known])))
    assert 1 / MOST_OFF < off < MOST_OFF, (
        f"seconds of learned kernels must be right on the whole, got {off:.3g} times the measured"
    )


def check_update_learns(factory: ModelFactory, folder: Path) -> None:
    """Updates with a task's measurements teach a new model, and one that was fitted before."""
    del folder
    model = factory()
    dataset = example_dataset(_rng(5), tasks=1, kernels_per_task=48, schema=model.schema)
    _update_thrice(model, dataset)
    assert model.is_fitted, "is_fitted must be true after an update with measured kernels"
    assert np.all(np.isfinite(model.predict(dataset.batch).utility)), "utilities must be finite"
    _must_rank(model, dataset)
    if not model.claims.ranks:
        return
    model = _fitted(factory)
    new = example_dataset(_rng(8), tasks=1, kernels_per_task=48, schema=model.schema, first_task=50)
    before = model.predict(new.batch).utility
    _update_thrice(model, new)
    after = model.predict(new.batch).utility
    assert not np.array_equal(before, after), "an update after fit changes nothing"


def _update_thrice(model: KernelCostModel, dataset: KernelDataset) -> None:
    for part in np.array_split(np.arange(len(dataset)), 3):
        taken = dataset.take(part)
        model.update(taken.batch, taken.measurements)


def _must_rank(model: KernelCostModel, dataset: KernelDataset) -> None:
    if not model.claims.ranks:
        return
    ran = [i for i, each in enumerate(dataset.measurements) if isinstance(each, Measured)]
    taken = dataset.take(np.array(ran))
    measured = [each.latency_s for each in taken.measurements if isinstance(each, Measured)]
    prediction = model.predict(taken.batch)
    orders = {"utility must rise with speed": prediction.utility}
    if prediction.latency_s is not None:
        orders["latency_s must fall with speed"] = -prediction.latency_s
    for what, order in orders.items():
        taus = per_task(kendall_tau, order, np.array(measured), taken.batch.task_index)
        tau = float(np.mean(taus))
        assert tau > LEAST_TAU, f"{what}: tau above {LEAST_TAU} on learned kernels, got {tau:.2f}"


def check_update_without_graphs(factory: ModelFactory, folder: Path) -> None:
    """A model that needs no graphs learns on without them, also after loading.

    Data sets have them; a search does not extract what is not needed.
    """
    model = _fitted(factory)
    if model.graphs:
        return
    model.save(folder / "model.ckpt")
    new = _unseen(model)
    for each in (model, type(model).load(folder / "model.ckpt")):
        each.update(new.batch.without_graphs(), new.measurements)
        each.update(new.batch, new.measurements)
        assert len(each.predict(new.batch.without_graphs())) == len(new), "wants [kernels]"


def check_update_with_nothing(factory: ModelFactory, folder: Path) -> None:
    """An empty update changes nothing."""
    del folder
    model = _fitted(factory)
    batch = _unseen(model).batch
    before = model.predict(batch)
    model.update(batch.take([]), [])
    _same(before, model.predict(batch), "an empty update changes answers", exact=True)


def check_update_with_failures(factory: ModelFactory, folder: Path) -> None:
    """A batch of failures only is no reason to raise, whether it comes first or later."""
    del folder
    model = factory()
    dataset = example_dataset(_rng(5), tasks=1, schema=model.schema, failures=False)
    failures = [Failure("timeout", "made up")] * len(dataset)
    model.update(dataset.batch, failures)
    assert np.all(np.isfinite(model.predict(dataset.batch).utility)), "utilities must be finite"
    other = example_dataset(_rng(6), tasks=1, schema=model.schema, first_task=1)
    model.update(other.batch, other.measurements)
    model.update(dataset.batch, failures)
    assert np.all(np.isfinite(model.predict(dataset.batch).utility)), "utilities must be finite"


def check_failures_are_not_preferred(factory: ModelFactory, folder: Path) -> None:
    """Kernels that failed, told from the others by a feature, do not rank among the fastest."""
    del folder
    model = factory()
    if not model.claims.ranks:
        return
    dataset = example_dataset(_rng(5), tasks=1, kernels_per_task=48, schema=model.schema)
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
    dataset = _small(model)
    kept = copy.deepcopy(dataset)
    model.fit(dataset, rng=_rng())
    model.update(dataset.batch, dataset.measurements)
    prediction = model.predict(dataset.batch)
    prediction.utility[:] = 7.0
    for name in ("rows", "row_offsets", "task_index"):
        before, after = getattr(kept.batch, name), getattr(dataset.batch, name)
        np.testing.assert_array_equal(before, after, err_msg=f"{name} was written to")
    assert not np.all(model.predict(dataset.batch).utility == 7.0), "the model shares its answer"


def check_no_rows(factory: ModelFactory, folder: Path) -> None:
    """A kernel without rows is allowed, gets a finite utility, and changes no other's answer."""
    del folder
    model = _fitted(factory)
    batch = _unseen(model).batch
    last = len(batch) - 1
    for kernel in (0, 3, last):
        holed = _without_rows(batch, kernel)
        prediction = model.predict(holed)
        assert len(prediction) == len(batch), "a kernel without rows must not be left out"
        assert np.isfinite(prediction.utility[kernel]), "a kernel without rows needs a utility"
        others = np.arange(len(batch)) != kernel
        np.testing.assert_allclose(
            prediction.utility[others],
            model.predict(batch).utility[others],
            rtol=ROUNDING,
            atol=ROUNDING,
            err_msg="a kernel without rows changes the answers for others",
        )
        model.update(holed.take([kernel]), [Measured((1e-3,))])


def check_unsupported_is_named(factory: ModelFactory, folder: Path) -> None:
    """Where a latency is missing, the kernel is named as unsupported; no latency is zero."""
    del folder
    model = _fitted(factory)
    prediction = model.predict(_without_rows(_unseen(model).batch, 2))
    if prediction.latency_s is None:
        return
    named = {entry.kernel for entry in prediction.unsupported}
    missing = set(np.flatnonzero(np.isnan(prediction.latency_s)).tolist())
    assert missing == named, f"kernels {missing} have no latency, {named} are named"
    known = prediction.latency_s[~np.isnan(prediction.latency_s)]
    assert np.all((known > 0) & np.isfinite(known)), "latencies must be positive and finite"


def check_claims(factory: ModelFactory, folder: Path) -> None:
    """A prediction contains what the model claims, and nothing more."""
    del folder
    model = _fitted(factory)
    prediction = model.predict(_unseen(model).batch)
    seconds, interval = prediction.latency_s is not None, prediction.low_s is not None
    assert seconds == model.claims.seconds, "seconds must be given if and only if claimed"
    assert interval == model.claims.interval, "intervals must be given if and only if claimed"
    if prediction.low_s is not None and prediction.high_s is not None:
        assert prediction.latency_s is not None, "an interval needs a latency"
        ordered = (prediction.low_s <= prediction.latency_s) & (
            prediction.latency_s <= prediction.high_s
        )
        assert np.all(ordered | np.isnan(prediction.latency_s)), "low <= latency <= high"


def check_save_load(factory: ModelFactory, folder: Path) -> None:
    """Loading what was saved keeps predictions bit for bit, and what later updates do."""
    model = _fitted(factory)
    new = _unseen(model)
    model.update(new.batch, new.measurements)
    path = folder / "model.ckpt"
    model.save(path)
    loaded = type(model).load(path)
    _same(model.predict(new.batch), loaded.predict(new.batch), "saving changes answers", exact=True)
    more = example_dataset(_rng(7), tasks=1, schema=model.schema, first_task=200)
    for one in (model, loaded):
        one.update(more.batch, more.measurements)
    _same(
        model.predict(new.batch),
        loaded.predict(new.batch),
        "a loaded model learns differently",
        exact=True,
    )


def check_save_is_atomic(factory: ModelFactory, folder: Path) -> None:
    """Saving again replaces the file; whoever has the old one open keeps all of it."""
    model = _fitted(factory)
    path, held = folder / "model.ckpt", folder / "held.ckpt"
    model.save(path)
    os.link(path, held)
    before = held.read_bytes()
    new = _unseen(model)
    model.update(new.batch, new.measurements)
    model.save(path)
    assert held.read_bytes() == before, "save writes into the old file: write beside and rename"


def check_save_load_untrained(factory: ModelFactory, folder: Path) -> None:
    """A model can be saved and loaded before it has learned anything."""
    model = factory()
    path = folder / "untrained.ckpt"
    model.save(path)
    loaded = type(model).load(path)
    assert loaded.is_fitted == model.is_fitted, "is_fitted must survive saving"


def check_no_pickle(factory: ModelFactory, folder: Path) -> None:
    """A checkpoint is one file that loads without running code from it."""
    path = folder / "model.ckpt"
    _fitted(factory).save(path)
    assert [entry.name for entry in folder.iterdir()] == ["model.ckpt"], "one file, nothing beside"
    checkpoint = load_checkpoint(path)
    objects = [name for name, array in checkpoint.arrays.items() if array.dtype == object]
    assert not objects, f"arrays of objects need pickle: {objects}"


def check_foreign_checkpoint(factory: ModelFactory, folder: Path) -> None:
    """A damaged file, and a file that is missing, are refused with a CheckpointError."""
    model = _fitted(factory)
    path = folder / "model.ckpt"
    model.save(path)
    content = path.read_bytes()
    for name, damaged in (("short", content[: len(content) // 2]), ("text", b"not a model")):
        other = folder / f"{name}.ckpt"
        other.write_bytes(damaged)
        _must_raise(CheckpointError, partial(type(model).load, other), name)
    missing = folder / "missing.ckpt"
    _must_raise(CheckpointError, partial(type(model).load, missing), "missing file")


def check_schema_mismatch(factory: ModelFactory, folder: Path) -> None:
    """Features of another schema are refused by every verb with a SchemaError."""
    del folder
    model = _fitted(factory)
    other = replace(model.schema, version=model.schema.version + 1)
    dataset = example_dataset(_rng(), schema=other)
    _must_raise(SchemaError, lambda: model.predict(dataset.batch), "predict")
    _must_raise(SchemaError, lambda: model.update(dataset.batch, dataset.measurements), "update")
    _must_raise(SchemaError, lambda: model.fit(dataset, rng=_rng()), "fit")


def _must_raise(error: type[Exception], call: Callable[[], object], what: str) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"{what}: {error.__name__} must be raised")


KERNEL_MODEL_CHECKS: tuple[Check, ...] = (
    check_protocol,
    check_shapes,
    check_finite,
    check_extreme_features,
    check_order_independence,
    check_batch_independence,
    check_predict_repeats,
    check_fit_repeats,
    check_fit_forgets,
    check_fit_ranks,
    check_fit_gives_seconds,
    check_update_learns,
    check_update_without_graphs,
    check_update_with_nothing,
    check_update_with_failures,
    check_failures_are_not_preferred,
    check_inputs_not_written,
    check_no_rows,
    check_unsupported_is_named,
    check_claims,
    check_save_load,
    check_save_is_atomic,
    check_save_load_untrained,
    check_no_pickle,
    check_foreign_checkpoint,
    check_schema_mismatch,
)
"""All checks, each a test of its own."""
