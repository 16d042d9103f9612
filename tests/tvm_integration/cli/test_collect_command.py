"""`costmodels collect`: killed and given again it goes on; bad input is one line."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from costmodels.dataset.folder import read_dataset
from costmodels.errors import InputError
from tvm_integration.cli.app import app

COMMAND = [sys.executable, "-m", "tvm_integration.cli"]


@pytest.mark.exhaustive
def test_killed_and_given_again(tmp_path):
    """What was measured before a kill is there after it, and is not measured again."""
    out = tmp_path / "d"
    arguments = ["collect", "zoo:mlp", "drawn:3", "--out", str(out), "--per-task", "6"]
    arguments += ["--batch", "3"]
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE)
    journal = out / "journal.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b'["records"') >= 6:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = read_dataset(out).records
    assert len(before) >= 6
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = read_dataset(out)
    assert found.records[: len(before)] == before
    assert len(found.tasks) == 7  # three kernels of the network, three drawn, the reference
    assert "programs of 6 kernels ran" in done.stdout
    page = tmp_path / "page.html"
    described = subprocess.run(
        [*COMMAND, "dataset", "describe", str(out), "--json", "--html", str(page)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(described.stdout)["records"] == len(found.records)
    assert page.read_text().count("<svg") >= 3


def test_a_second_collector_is_refused(tmp_path):
    from costmodels.dataset.writer import DatasetWriter

    with DatasetWriter(tmp_path / "d"), pytest.raises(InputError, match="another process writes"):
        CliRunner().invoke(
            app, ["collect", "zoo:mlp", "--out", str(tmp_path / "d")], catch_exceptions=False
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("zoo:nothing",), "zoo"),
        (("drawn:x",), "must be drawn:COUNT"),
        (("zoo:mlp", "--per-task", "0"), "per-task and batch must be at least 1"),
        (("zoo:mlp", "--batch", "-1"), "per-task and batch must be at least 1"),
        (("zoo:mlp", "--minutes", "0"), "minutes must be above 0"),
        (("zoo:mlp", "--mixture", "luck=1"), "mixture must be shares of"),
        (("zoo:mlp", "--target", "toaster"), "target must be"),
        (("zoo:mlp", "--device", "nowhere.toml"), "device file nowhere.toml cannot"),
        (("zoo:mlp", "--rpc-tracker", "a:1"), "must be given together"),
    ],
)
def test_errors(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        CliRunner().invoke(app, ["collect", *arguments, "--out", "d"], catch_exceptions=False)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
