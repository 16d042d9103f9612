"""A few features in a short formula, chosen by LASSO or greedily."""

from dataclasses import replace

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.features.program_features import FEATURES, program_features
from costmodels.features.roofline import log_bound
from costmodels.kernel import KernelDataset, Measured
from costmodels.kernel_models.sparse_polynomial import PolynomialConfig, SparsePolynomial
from costmodels.testing.example_data import example_dataset


def rng():
    return np.random.default_rng(0)


def with_latency(dataset, log_excess):
    """The same kernels with other seconds."""
    seconds = np.exp(log_bound(dataset.batch) + log_excess)
    return KernelDataset(dataset.batch, tuple(Measured((float(each),)) for each in seconds))


@pytest.fixture(scope="module")
def data():
    found = example_dataset(rng(), tasks=30, kernels_per_task=30, failures=False)
    values = program_features(found.batch)
    standard = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)
    one, other = (standard[:, FEATURES.index(f"sum.{name}")] for name in TRUE)
    return with_latency(found, 2.0 + 0.8 * one - 0.5 * other + 0.4 * one * other)


TRUE = ("total.bytes", "loops.extent_product")


@pytest.mark.parametrize("selection", ["foba", "lasso"])
def test_it_finds_the_formula_behind_the_data(data, selection):
    config = PolynomialConfig(selection=selection, features=4, terms=8, degree=2)
    model = SparsePolynomial(config).fit(data, rng=rng())
    error = np.log(model.predict(data.batch).latency_s) - data.log_latency
    assert np.median(np.abs(error)) < 0.05
    for name in TRUE:
        assert f"sum.{name}" in model.formula
    assert f"sum.{TRUE[0]} * sum.{TRUE[1]}" in model.formula.replace(
        f"sum.{TRUE[1]} * sum.{TRUE[0]}", f"sum.{TRUE[0]} * sum.{TRUE[1]}"
    )


def test_the_formula_is_as_short_as_asked_for(data):
    model = SparsePolynomial(PolynomialConfig(features=3, terms=5)).fit(data, rng=rng())
    assert len(model._formula.features) <= 3
    assert len(model._formula.terms) <= 5
    assert max(map(len, model._formula.terms)) <= 3
    assert len([line for line in model.formula.splitlines() if " * " in line]) <= 5


def test_beyond_what_was_seen_the_polynomial_ends(data):
    model = SparsePolynomial().fit(data, rng=rng())
    far = replace(data.batch, rows=np.full_like(data.batch.rows, 60.0))
    excess = np.log(model.predict(far).latency_s) - log_bound(far)
    seen = np.log(model.predict(data.batch).latency_s) - log_bound(data.batch)
    assert np.all(np.abs(excess) < 20 * np.abs(seen).max())


def test_bad_input_is_named(data):
    with pytest.raises(InputError, match="selection must be one of lasso, foba, got 'ridge'"):
        PolynomialConfig(selection="ridge")
    with pytest.raises(InputError, match="degree must be 1 to 3"):
        PolynomialConfig(degree=4)
    with pytest.raises(InputError, match="must be fitted before its formula is asked for"):
        _ = SparsePolynomial().formula
