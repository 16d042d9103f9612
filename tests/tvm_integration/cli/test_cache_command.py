"""`costmodels cache`: what is kept is told, and removed when asked."""

import json

import pytest
from typer.testing import CliRunner

from costmodels.cache import KINDS, clear_cache
from costmodels.errors import InputError
from costmodels.files import cache_folder
from tvm_integration.cli.app import app


@pytest.fixture
def filled(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for kind in ("networks", "schedules", "overheads"):
        cache_folder(kind).mkdir(parents=True)
        (cache_folder(kind) / "one").write_bytes(bytes(1500))
    (cache_folder("") / "bandwidth.json").write_text("{}")


def run(*arguments):
    return CliRunner().invoke(app, ["cache", *arguments], catch_exceptions=False)


def document(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def test_it_tells_where_and_how_large(filled, tmp_path):
    found = document()
    assert found["folder"] == str(tmp_path / "costmodels")
    sizes = {name: (each["entries"], each["size_bytes"]) for name, each in found["kinds"].items()}
    assert sizes == {
        "features": (0, 0),
        "networks": (1, 1500),
        "schedules": (1, 1500),
        "overheads": (1, 1500),
        "bandwidth.json": (1, 2),
    }
    assert "1.5 kB" in run().stdout


def test_clearing_one_kind_leaves_the_others(filled):
    assert document("--clear", "--kind", "overheads")["freed_bytes"] == 1500
    assert not cache_folder("overheads").exists()
    assert (cache_folder("networks") / "one").exists()


def test_clearing_removes_what_is_ours_alone(filled, tmp_path):
    (tmp_path / "costmodels" / "notes").write_text("somebody's")
    assert document("--clear")["freed_bytes"] == 3002
    left = {each.name for each in (tmp_path / "costmodels").iterdir()}
    assert left == {"notes", "schedules"}, "and what many tuning runs have learned"
    assert document("--clear", "--kind", "schedules")["freed_bytes"] == 1500


def test_an_unknown_kind_is_refused(filled):
    with pytest.raises(InputError, match=f"one of {', '.join(KINDS)}, got 'features '"):
        clear_cache(["networks", "features "])
    assert (cache_folder("networks") / "one").exists()
    with pytest.raises(InputError, match="--kind must be given with --clear"):
        run("--kind", "networks")
