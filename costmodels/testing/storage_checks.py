"""Checks of how kernel models are saved and loaded."""

import os
from functools import partial
from pathlib import Path

from costmodels.checkpoint import load_checkpoint
from costmodels.errors import CheckpointError
from costmodels.testing.example_data import example_dataset
from costmodels.testing.fitted import (
    ModelFactory,
    assert_raises,
    assert_same,
    fitted_model,
    new_rng,
    unseen_dataset,
)


def check_save_load(factory: ModelFactory, folder: Path) -> None:
    """Loading what was saved keeps predictions bit for bit, and what later updates do."""
    model = fitted_model(factory)
    new = unseen_dataset(model)
    model.update(new.batch, new.measurements)
    path = folder / "model.ckpt"
    model.save(path)
    loaded = type(model).load(path)
    assert_same(
        model.predict(new.batch), loaded.predict(new.batch), "saving changes answers", exact=True
    )
    more = example_dataset(new_rng(7), tasks=1, schema=model.schema, first_task=200)
    for one in (model, loaded):
        one.update(more.batch, more.measurements)
    assert_same(
        model.predict(new.batch),
        loaded.predict(new.batch),
        "a loaded model learns differently",
        exact=True,
    )


def check_save_is_atomic(factory: ModelFactory, folder: Path) -> None:
    """Saving again replaces the file; whoever has the old one open keeps all of it."""
    model = fitted_model(factory)
    path, held = folder / "model.ckpt", folder / "held.ckpt"
    model.save(path)
    os.link(path, held)
    before = held.read_bytes()
    new = unseen_dataset(model)
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
    fitted_model(factory).save(path)
    assert [entry.name for entry in folder.iterdir()] == ["model.ckpt"], "one file, nothing beside"
    checkpoint = load_checkpoint(path)
    objects = [name for name, array in checkpoint.arrays.items() if array.dtype == object]
    assert not objects, f"arrays of objects need pickle: {objects}"


def check_foreign_checkpoint(factory: ModelFactory, folder: Path) -> None:
    """A damaged file, and a file that is missing, are refused with a CheckpointError."""
    model = fitted_model(factory)
    path = folder / "model.ckpt"
    model.save(path)
    content = path.read_bytes()
    for name, damaged in (("short", content[: len(content) // 2]), ("text", b"not a model")):
        other = folder / f"{name}.ckpt"
        other.write_bytes(damaged)
        assert_raises(CheckpointError, partial(type(model).load, other), name)
    missing = folder / "missing.ckpt"
    assert_raises(CheckpointError, partial(type(model).load, missing), "missing file")
