"""The Halide-style model's seconds are a sum of its terms, with coefficients never negative."""

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.registry import kernel_model_class
from costmodels.testing.example_data import example_dataset
from halide_style.model import HalideStyleModel
from halide_style.terms import TERMS


def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    return HalideStyleModel().fit(example_dataset(rng(), tasks=8), rng=rng())


def test_it_is_registered():
    assert kernel_model_class("halide") is HalideStyleModel


def test_terms_add_up_to_the_seconds_also_after_learning_on(model, tmp_path):
    model.save(tmp_path / "m.ckpt")
    adapted = HalideStyleModel.load(tmp_path / "m.ckpt")
    data = example_dataset(rng(), tasks=2, first_task=50)
    learned = data.take(np.arange(24))
    adapted.update(learned.batch, learned.measurements)
    for each in (model, adapted):
        found = each.explain(data.batch)
        assert found.seconds.shape == (len(data.batch.rows), len(TERMS))
        total = data.batch.sum_rows(found.seconds.sum(axis=1))
        np.testing.assert_allclose(total, each.predict(data.batch).latency_s, rtol=1e-5)


def test_coefficients_are_never_negative(model):
    found = model.explain(example_dataset(rng(), tasks=4, first_task=20).batch)
    known = found.coefficients[np.isfinite(found.coefficients)]
    assert len(known)
    assert np.all(known >= 0)
    assert np.all(found.seconds[found.nominal_s == 0] == 0)


def test_a_new_model_has_nothing_to_explain():
    with pytest.raises(InputError, match="must have learned something to explain, got a new one"):
        HalideStyleModel().explain(example_dataset(rng()).batch)
