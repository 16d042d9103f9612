"""Checks of what kernel models predict."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from costmodels.errors import SchemaError
from costmodels.features.schema import FeatureSchema
from costmodels.kernel import (
    Measured,
)
from costmodels.protocol import Claims, KernelCostModel, missing_members
from costmodels.registry import kernel_model_class, kernel_model_names
from costmodels.testing.example_data import example_dataset
from costmodels.testing.fitted import (
    ROUNDING,
    ModelFactory,
    assert_raises,
    assert_same,
    fitted_model,
    new_rng,
    prediction_values,
    small_dataset,
    unseen_dataset,
    without_rows,
)


def check_protocol(factory: ModelFactory, folder: Path) -> None:
    """A model has every verb and attribute, and knows whether it has learned."""
    del folder
    model = factory()
    missing = ", ".join(missing_members(model))
    assert not missing, f"attributes or verbs of KernelCostModel are missing: {missing}"
    verbs = ("fit", "update", "predict", "save", "load")
    no_verbs = [name for name in verbs if not callable(getattr(model, name))]
    assert not no_verbs, f"these must be functions: {', '.join(no_verbs)}"
    kinds = {"name": str, "paper": str, "claims": Claims, "schema": FeatureSchema, "graphs": bool}
    for member, kind in kinds.items():
        value = getattr(model, member)
        assert isinstance(value, kind), f"{member} must be {kind.__name__}, got {value!r}"
    assert isinstance(model, KernelCostModel), "it must be a KernelCostModel"
    assert model.name, "name must be the registered name"
    if model.name in kernel_model_names():
        owner = kernel_model_class(model.name)
        assert type(model) is owner, f"name {model.name!r} is that of {owner.__qualname__}"
    assert model.paper, "paper must name the publication"
    fitted = model.fit(small_dataset(model), rng=new_rng())
    assert fitted is model, "fit must return the model itself"
    assert model.is_fitted, "is_fitted must be true after fit"


def check_shapes(factory: ModelFactory, folder: Path) -> None:
    """One answer for each kernel, as float64, also for one kernel and for none."""
    del folder
    model = fitted_model(factory)
    batch = unseen_dataset(model).batch
    for size in (len(batch), 1, 0):
        prediction = model.predict(batch.take(np.arange(size)))
        for values in prediction_values(prediction):
            assert values.shape == (size,), f"wants [{size}], got {values.shape}"
            assert values.dtype == np.float64, f"wants float64, got {values.dtype}"


def check_finite(factory: ModelFactory, folder: Path) -> None:
    """Utilities are finite for all kernels, before learning and after."""
    del folder
    for model in (factory(), fitted_model(factory)):
        utility = model.predict(unseen_dataset(model).batch).utility
        assert np.all(np.isfinite(utility)), "utilities must be finite"


def check_extreme_features(factory: ModelFactory, folder: Path) -> None:
    """Features far outside what was learned still give finite utilities."""
    del folder
    model = fitted_model(factory)
    batch = unseen_dataset(model).batch
    for value in (0.0, 64.0, 1e4):
        rows = np.full_like(batch.rows, value)
        utility = model.predict(replace(batch, rows=rows)).utility
        assert np.all(np.isfinite(utility)), f"all features {value}: utilities must be finite"


def check_order_independence(factory: ModelFactory, folder: Path) -> None:
    """A kernel's answer does not depend on its position."""
    del folder
    model = fitted_model(factory)
    batch = unseen_dataset(model).batch
    order = new_rng(2).permutation(len(batch))
    for before, after in zip(
        prediction_values(model.predict(batch)),
        prediction_values(model.predict(batch.take(order))),
        strict=True,
    ):
        np.testing.assert_allclose(
            after, before[order], rtol=ROUNDING, atol=ROUNDING, err_msg="order changes answers"
        )


def check_batch_independence(factory: ModelFactory, folder: Path) -> None:
    """A kernel's answer does not depend, beyond rounding, on the rest of the batch."""
    del folder
    model = fitted_model(factory)
    batch = unseen_dataset(model).batch
    whole = prediction_values(model.predict(batch))
    for kernel in (0, len(batch) // 2, len(batch) - 1):
        alone = prediction_values(model.predict(batch.take([kernel])))
        for one, all_ in zip(alone, whole, strict=True):
            np.testing.assert_allclose(
                one, all_[[kernel]], rtol=ROUNDING, atol=ROUNDING, err_msg="depends on the batch"
            )


def check_predict_repeats(factory: ModelFactory, folder: Path) -> None:
    """Asking twice gives the same answer."""
    del folder
    model = fitted_model(factory)
    batch = unseen_dataset(model).batch
    assert_same(model.predict(batch), model.predict(batch), "answers change", exact=True)


def check_no_rows(factory: ModelFactory, folder: Path) -> None:
    """A kernel without rows is allowed, gets a finite utility, and changes no other's answer."""
    del folder
    model = fitted_model(factory)
    batch = unseen_dataset(model).batch
    last = len(batch) - 1
    for kernel in (0, 3, last):
        holed = without_rows(batch, kernel)
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
    model = fitted_model(factory)
    prediction = model.predict(without_rows(unseen_dataset(model).batch, 2))
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
    model = fitted_model(factory)
    prediction = model.predict(unseen_dataset(model).batch)
    seconds, interval = prediction.latency_s is not None, prediction.low_s is not None
    assert seconds == model.claims.seconds, "seconds must be given if and only if claimed"
    assert interval == model.claims.interval, "intervals must be given if and only if claimed"
    if prediction.low_s is not None and prediction.high_s is not None:
        assert prediction.latency_s is not None, "an interval needs a latency"
        ordered = (prediction.low_s <= prediction.latency_s) & (
            prediction.latency_s <= prediction.high_s
        )
        assert np.all(ordered | np.isnan(prediction.latency_s)), "low <= latency <= high"


def check_schema_mismatch(factory: ModelFactory, folder: Path) -> None:
    """Features of another schema are refused by every verb with a SchemaError."""
    del folder
    model = fitted_model(factory)
    other = replace(model.schema, version=model.schema.version + 1)
    dataset = example_dataset(new_rng(), schema=other)
    assert_raises(SchemaError, lambda: model.predict(dataset.batch), "predict")
    assert_raises(SchemaError, lambda: model.update(dataset.batch, dataset.measurements), "update")
    assert_raises(SchemaError, lambda: model.fit(dataset, rng=new_rng()), "fit")
