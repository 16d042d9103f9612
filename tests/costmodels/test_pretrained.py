"""The models that travel with the package load, are small, and say what they learned from."""

from dataclasses import replace

import numpy as np
import pytest

from costmodels.checkpoint import load_checkpoint
from costmodels.dataset.folder import read_dataset
from costmodels.errors import InputError
from costmodels.network_models.unseen_families import pretrained_factors
from costmodels.pretrained import BEST_MODEL, pretrained_models, pretrained_path
from costmodels.registry import kernel_model_class
from costmodels.testing.example_data import example_dataset

MERGED = ("records", "networks")
NAMES = ("ensemble", "gbt", "graphsage", "halide")


@pytest.fixture(scope="module")
def digest():
    """Of the shipped data sets that they learn, together as `scripts/train_shipped.py` merges them.

    Of rows of one identity the first counts, as in a merge; writing it would take a minute.
    """
    names = ("shipped:cpu", "shipped:cpu_one_core", "shipped:networks")
    first, *others = (read_dataset(name) for name in names)
    tasks = dict(first.tasks)
    rows = {what: {row.identity: row for row in getattr(first, what)} for what in MERGED}
    for stored in others:
        for key, task in stored.tasks.items():
            tasks.setdefault(key, task)
        for what, known in rows.items():
            for row in getattr(stored, what):
                known.setdefault(row.identity, row)
    merged = {what: tuple(known.values()) for what, known in rows.items()}
    return replace(first, tasks=tasks, **merged).digest()


def test_all_are_there():
    assert set(pretrained_models()) == set(NAMES)
    assert pretrained_path("pretrained:best") == pretrained_models()[BEST_MODEL]


@pytest.mark.parametrize("name", NAMES)
def test_each_loads_and_predicts(name, digest):
    path = pretrained_path(f"pretrained:{name}")
    assert path.stat().st_size <= 6_500_000
    provenance = load_checkpoint(path).provenance
    assert provenance["dataset_digest"] == digest, "trained on another state of the data"
    assert provenance["split"] is None
    model = kernel_model_class(name).load(path)
    assert model.is_fitted
    batch = example_dataset(np.random.default_rng(0)).batch
    assert np.ptp(model.predict(batch).utility) > 0


def test_those_with_intervals_say_how_far_they_are_off_on_unseen_families():
    wanted = {(2, 512, "default"), (1, 128, "default"), (1, 512, "model"), (2, 512, "model")}
    for name in NAMES:
        known = pretrained_factors(f"pretrained:{name}")
        found = {(each.cores, each.vector_bits, each.schedules) for each in known}
        assert found == (wanted if kernel_model_class(name).claims.interval else set())
        assert all(0 < each.factor < 10 and each.networks >= 24 for each in known)
        assert all(0.7 < each.coverage <= 1 for each in known)
    assert pretrained_factors("best") == ()  # a file of the user


def test_an_unknown_one_lists_those_there_are():
    message = "must be one of ensemble, gbt, graphsage, halide, best, got 'tree'"
    with pytest.raises(InputError, match=message):
        pretrained_path("pretrained:tree")
