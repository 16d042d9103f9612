"""Calibration on kernels alone: which are measured, and what comes of them."""

import math

import pytest
from typer.testing import CliRunner

from costmodels.dataset.folder import read_dataset
from costmodels.dataset.kernel_rows import ReferenceRow, now
from tvm_integration.cli.app import app
from tvm_integration.estimate import quick_calibration
from tvm_integration.estimate.overheads_file import known_overheads
from tvm_integration.estimate.quick_calibration import (
    disturbance_of,
    in_turn,
    kernels_by_share,
    one_of_each_family,
)
from tvm_integration.targets import device_of, host_target


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_kernels_that_matter_most_come_first():
    networks = one_of_each_family(read_dataset("shipped:networks"))
    assert len({row.family for row in networks}) == len(networks) >= 10
    for row in networks:
        seconds = {k.task: row.graph.counts("kernel")[k.task] * k.latency_s for k in row.kernels}
        chosen = kernels_by_share(row)
        assert 1 <= len(chosen) <= quick_calibration.MAX_OF_NETWORK
        assert chosen[0] == max(seconds, key=seconds.__getitem__)
        covered = sum(seconds[task] for task in chosen) / sum(seconds.values())
        enough = covered >= quick_calibration.SHARE
        assert enough or len(chosen) == quick_calibration.MAX_OF_NETWORK


def test_networks_take_turns():
    assert in_turn([["a", "b", "c"], ["d"], ["b", "e"]]) == ["a", "d", "b", "e", "c"]
    assert in_turn([]) == []


def test_a_disturbance_shows_in_one_kernel():
    readings = [
        ReferenceRow("t", 1, (seconds,) * 3, now(), "p") for seconds in (1e-3, 1.1e-3, 1.5e-3)
    ]
    assert disturbance_of(readings) == pytest.approx(0.5)
    assert disturbance_of([]) == 0.0


def test_the_command_corrects_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(quick_calibration, "MAX_OF_NETWORK", 1)
    result = run("calibrate", "--quick", "--model", "pretrained:gbt")
    assert result.exit_code == 0, result.output
    assert " kernels measured in 28 s:\n  pretrained:gbt predicts " in result.stdout
    found = known_overheads(host_target(), device_of(host_target()), "pretrained:gbt")
    assert found.is_calibrated
    assert found.networks == 0
    assert 8 <= found.kernels <= 12
    assert abs(found.bias) < math.log(10)
    text = run("estimate", "zoo:mlp", "--model", "pretrained:gbt").stdout
    assert "(calibrated on kernels alone" in text
    assert "not calibrated" not in text


def test_minutes_are_of_the_whole_calibration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = run("calibrate", "--quick", "--minutes", "2")
    assert result.exit_code != 0
    assert "--minutes must not be given with --quick" in str(result.exception)
