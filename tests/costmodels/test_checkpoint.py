"""Checkpoints survive round trips, refuse damage, and never replace a good file by a bad one."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodels import checkpoint as checkpoints
from costmodels.checkpoint import FORMAT, load_checkpoint, require, save_checkpoint
from costmodels.errors import CheckpointError, SchemaError
from costmodels.features.schema import PER_STORE


def write(path, **changes):
    values = {
        "model": "gbt",
        "schema": PER_STORE,
        "arrays": {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(0, np.int64)},
        "settings": {"depth": 5},
        "provenance": {"commit": "abc"},
    }
    save_checkpoint(path, **(values | changes))


def test_round_trip(tmp_path):
    write(tmp_path / "m.ckpt")
    loaded = load_checkpoint(tmp_path / "m.ckpt")
    np.testing.assert_array_equal(loaded.arrays["a"], np.arange(6.0).reshape(2, 3))
    assert loaded.arrays["b"].shape == (0,)
    assert (loaded.model, loaded.settings, loaded.provenance) == (
        "gbt",
        {"depth": 5},
        {"commit": "abc"},
    )
    assert [p.name for p in tmp_path.iterdir()] == ["m.ckpt"]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("flip") / "m.ckpt"
    write(path)
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        loaded = load_checkpoint(path)
    except CheckpointError:
        return
    # A space of safetensors' own padding can become another: nothing of ours has changed.
    np.testing.assert_array_equal(loaded.arrays["a"], np.arange(6.0).reshape(2, 3))
    assert (loaded.model, loaded.settings) == ("gbt", {"depth": 5})


def test_another_model_and_another_schema_are_refused(tmp_path):
    path = tmp_path / "m.ckpt"
    write(path, schema=replace(PER_STORE, version=9))
    loaded = load_checkpoint(path)
    with pytest.raises(CheckpointError, match="must be of model 'halide', got 'gbt'"):
        require(loaded, path=path, model="halide", schema=PER_STORE)
    with pytest.raises(SchemaError, match="train the model again"):
        require(loaded, path=path, model="gbt", schema=PER_STORE)


def test_another_format_names_the_release(tmp_path, monkeypatch):
    path = tmp_path / "m.ckpt"
    monkeypatch.setattr(checkpoints, "FORMAT_VERSION", 3)
    write(path)
    monkeypatch.undo()
    with pytest.raises(
        CheckpointError, match=r"must be of format 2, got 3: .*what wrote it, costmodels "
    ):
        load_checkpoint(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    from safetensors.numpy import save

    path = tmp_path / "m.safetensors"
    path.write_bytes(save({"a": np.zeros(2)}, {"format": "pt"}))
    with pytest.raises(CheckpointError, match=f"no {FORMAT} header"):
        load_checkpoint(path)
    path.write_bytes(json.dumps({"a": 1}).encode())
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.ckpt"
    write(path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write(path, settings={"depth": 6})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.ckpt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        write(tmp_path / "none" / "m.ckpt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "none")
