"""Whole networks in a data set: measured end to end and kernel by kernel, and resumed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from costmodels.cores import core_count, usable_cpus
from costmodels.dataset.folder import read_dataset
from costmodels.dataset.network_samples import network_dataset
from costmodels.dataset.writer import DatasetWriter
from costmodels.errors import InputError
from costmodels.kernel import Measured
from costmodels.load_model import load_kernel_model, load_network_model
from costmodels.network_models.kernel_sums import add_up
from costmodels.network_models.overheads import (
    DEFAULT_OVERHEADS,
    NO_OVERHEADS,
    UNSEEN_DEVICE_ERROR,
)
from costmodels.network_models.sum_of_kernels import SumOfKernels
from tvm_integration.cli.app import app
from tvm_integration.collect import network_process
from tvm_integration.collect.featurize import featurize
from tvm_integration.collect.network_process import NetworkProcess
from tvm_integration.collect.networks import ATTEMPTS, NetworkCollector
from tvm_integration.estimate.measured_networks import measured_networks
from tvm_integration.estimate.network_calibration import calibrate_on_networks
from tvm_integration.estimate.overheads_file import Calibrated, known_overheads, save_overheads
from tvm_integration.identity import target_text
from tvm_integration.targets import device_of, host_target, parse_target

QUICK = f"llvm -num-cores={core_count()} -opt-level=1"
"""LLVM builds for it in a quarter of the time."""
NETWORKS = [f"zoo:{name},number=1" for name in ("fire", "mixer", "encoder", "nasbench201")]


def run(*arguments, **options):
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


@pytest.fixture(scope="module", autouse=True)
def _measured_once():
    """Most tests here look at what is measured, not at how steadily."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tvm_integration.collect.networks.ATTEMPTS", 1)
        yield


@pytest.fixture
def until_steady(monkeypatch):
    monkeypatch.setattr("tvm_integration.collect.networks.ATTEMPTS", ATTEMPTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("networks") / "d"
    result = run("collect", *NETWORKS, "--networks", "--target", QUICK, "--out", found)
    assert result.exit_code == 0, result.output
    assert "4 networks, 0 failed" in result.stdout
    return found


@pytest.mark.slow
def test_a_network_is_tuned_and_all_that_was_measured_is_kept(tmp_path):
    out = tmp_path / "d"
    command = ("collect", "zoo:mlp", "--networks", "--trials-each", 8, "--target", QUICK)
    assert run(*command, "--out", out).exit_code == 0
    stored = read_dataset(out)
    (row,) = stored.networks
    assert (row.schedules, stored.problems) == ("tuned", ())
    by_task: dict[str, list[float]] = {}
    for record in stored.records:
        if record.origin == "search" and isinstance(record.measurement, Measured):
            by_task.setdefault(record.task, []).append(record.measurement.latency_s)
    heavy = max(row.kernels, key=lambda k: row.graph.counts("kernel")[k.task] * k.latency_s)
    assert len(by_task[heavy.task]) >= 4
    programs = {record.identity: record for record in stored.records}
    chosen = [programs[kernel.task, kernel.program] for kernel in row.kernels]
    best = {r.task: r.measurement.latency_s for r in chosen if r.origin == "search"}
    assert best
    assert best == {task: min(by_task[task]) for task in best}
    assert "layout_free_buffers" in stored.tasks[heavy.task].workload, "weights are rearranged"
    assert not any((out / "tuning").iterdir())
    assert run("dataset", "verify", out).exit_code == 0
    again = run(
        "collect", "--programs-of", out, "--networks", "--target", QUICK, "--out", tmp_path / "e"
    )
    assert again.exit_code == 0, again.output
    (row_again,) = read_dataset(tmp_path / "e").networks
    assert {(k.task, k.program) for k in row_again.kernels} == {
        (k.task, k.program) for k in row.kernels
    }


@pytest.mark.parametrize("more", [["--schedules-by", "pretrained:gbt"], ["--unfused"]])
def test_tuned_networks_are_fused_and_not_chosen_by_a_model(tmp_path, more):
    found = run("collect", NETWORKS[0], "--networks", "--trials-each", 8, "--out", tmp_path, *more)
    assert "must be fused, and no model chooses" in str(found.exception)
    found = run("collect", NETWORKS[0], "--trials-each", 8, "--out", tmp_path)
    assert "--trials-each must be given with --networks" in str(found.exception)


def test_every_kernel_of_a_network_is_measured(folder):
    stored = read_dataset(folder)
    assert [row.network for row in stored.networks] == NETWORKS
    assert [row.family for row in stored.networks][:2] == ["fire", "mixer"]
    records = {record.identity for record in stored.records}
    for row in stored.networks:
        assert {kernel.task for kernel in row.kernels} == row.tasks
        assert {(kernel.task, kernel.program) for kernel in row.kernels} <= records
        assert len(row.run_s) == 6
        for kernel in row.kernels:
            assert (
                stored.tasks[kernel.task].networks[row.network]
                == row.graph.counts("kernel")[kernel.task]
            )
    assert {record.origin for record in stored.records} == {"default"}


def test_a_sum_of_kernels_learns_from_measured_networks(folder, tmp_path):
    """By the protocol, from a folder that `collect` made to a checkpoint and back."""
    stored = read_dataset(folder)
    dataset = network_dataset(stored, featurize(stored))
    assert len(dataset) == len(NETWORKS)
    kernels_alone = SumOfKernels(load_kernel_model("pretrained:gbt"), NO_OVERHEADS)
    for network, measurement in zip(dataset.networks, dataset.measurements, strict=True):
        found = kernels_alone.explain(network)
        assert not found.missing
        assert {each.source for each in found.kernels.values()} == {"measured"}
        assert found.total.total_s < 2 * measurement.latency_s
    model = SumOfKernels(load_kernel_model("pretrained:gbt")).fit(
        dataset, rng=np.random.default_rng(0)
    )
    assert model.overheads_on(dataset.networks[0].device).networks == len(NETWORKS)
    alone = [replace(each, kernels=replace(each.kernels, measured={})) for each in dataset.networks]
    prediction = model.predict(alone)
    off = np.abs(np.log(prediction.latency_s) - dataset.log_latency)
    assert np.median(off) < 0.5
    inside = (prediction.low_s <= np.exp(dataset.log_latency)) & (
        np.exp(dataset.log_latency) <= prediction.high_s
    )
    assert np.sum(inside) >= len(NETWORKS) - 1
    model.save(tmp_path / "sum.ckpt")
    again = load_network_model(tmp_path / "sum.ckpt").predict(alone)
    np.testing.assert_array_equal(again.latency_s, prediction.latency_s)


def test_networks_of_a_data_set_are_measured_again_with_its_programs(tmp_path):
    """On another target, of a data set with programs that a model chose."""
    shipped = read_dataset("shipped:chosen_networks")
    row = min(shipped.networks, key=lambda row: row.latency_s)
    small = replace(shipped, networks=(row,))
    target = parse_target("llvm -mcpu=x86-64-v3 -num-cores=1")
    with DatasetWriter(tmp_path / "d") as writer:
        collector = NetworkCollector(writer, target, device_of(target))
        assert collector.run_again(small) == {}
        (again,) = writer.networks.values()
        assert collector.run_again(small) == {}
        collector.close()
        assert list(writer.networks.values()) == [again]
        found = {record.identity: record for record in writer.records.values()}
    assert (again.network, again.schedules, again.fused) == (row.network, "model", True)
    assert again.target == target_text(target)
    assert [kernel.program for kernel in again.kernels] == [k.program for k in row.kernels]
    origins = [found[kernel.task, kernel.program].origin for kernel in again.kernels]
    assert "model" in origins


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--programs-of", "shipped:h200", "--networks"], "must have whole networks to measure"),
        (
            ["--programs-of", "shipped:networks", "--networks", "--unfused"],
            "must not be given with",
        ),
    ],
)
def test_bad_input_of_networks_is_one_line(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run("collect", *arguments, "--out", tmp_path / "d", catch_exceptions=False)


@pytest.mark.usefixtures("until_steady")
def test_a_disturbed_network_is_measured_again_and_the_steadiest_attempt_counts(
    tmp_path, monkeypatch
):
    told = iter([[1e-3] * 3, [2e-3] * 3, [1e-3] * 3, [1.5e-3] * 3] + [[1e-3] * 3, [9e-3] * 3] * 9)
    monkeypatch.setattr(NetworkProcess, "measure_s", lambda *_: next(told))
    target = parse_target(QUICK)
    with DatasetWriter(tmp_path / "d") as writer:
        collector = NetworkCollector(writer, target, device_of(target))
        assert collector.run(["zoo:mlp"]) == {}
        collector.close()
        (row,) = writer.networks.values()
    assert row.run_s == (*[1e-3] * 3, *[1.5e-3] * 3)
    assert len(list(told)) == 2 * 9 - 2 * (ATTEMPTS - 2)
    assert {kernel.task for kernel in row.kernels} == row.tasks


def test_measured_kernels_add_up_to_about_the_network(folder):
    """Within a half, on a busy machine too; the published differences go up to fourfold."""
    stored = read_dataset(folder)
    for network in measured_networks(stored):
        total = add_up(network.graph, network.measured, network.device).total_s
        assert total == pytest.approx(network.latency_s, rel=0.5)


LOOKUP_AND_BRANCH = """
import torch

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(30000, 512)

    def forward(self, tokens):
        found = self.table(tokens)
        return torch.where(found > 0.05, torch.exp(found), found).sum(1)

def build():
    return Network(), (torch.randint(0, 30000, (1, 4096)),)
"""
TINY_KERNELS = """
import torch

class Network(torch.nn.Module):
    def forward(self, x):
        for _ in range(300):
            x = torch.softmax(x, -1)
        return x

def build():
    return Network(), (torch.randn(1, 4),)
"""
TIMES = 3
"""To measure what other work on the machine can disturb."""


def whole_and_parts(source, workplace):
    """Seconds of a network and of its launches alone, in one process after the other."""
    (workplace / "users_network.py").write_text(source)
    target = host_target()
    for number in range(TIMES):
        folder = workplace / f"d{number}"
        with DatasetWriter(folder) as writer:
            collector = NetworkCollector(writer, target, device_of(target))
            assert collector.run(["users_network:build"]) == {}
            collector.close()
        (found,) = measured_networks(read_dataset(folder))
        yield (
            found.latency_s,
            [found.measured[each.name].latency_s for each in found.graph.launches],
        )


@pytest.mark.usefixtures("until_steady")
def test_a_lookup_and_a_branch_take_alone_what_they_take_in_their_network(workplace):
    """With indices of zeros the lookup took a quarter of it, and the branch a half."""
    found = []
    for whole_s, parts_s in whole_and_parts(LOOKUP_AND_BRANCH, workplace):
        found.append(sum(parts_s) / whole_s)
        if found[-1] == pytest.approx(1.0, abs=0.1):
            return
    pytest.fail(f"kernels take {found} of their network")


@pytest.mark.usefixtures("until_steady")
def test_a_launch_takes_what_an_estimate_takes_it_for(workplace):
    """Between kernels that compute next to nothing."""
    found = []
    for whole_s, parts_s in whole_and_parts(TINY_KERNELS, workplace):
        assert len(parts_s) >= 300
        found.append((whole_s - sum(parts_s)) / len(parts_s))
        launch = DEFAULT_OVERHEADS.launch_s
        if found[-1] == pytest.approx(launch.value, abs=2 * launch.deviation):
            return
    pytest.fail(f"a launch takes {found} s")


def test_what_is_there_is_not_measured_again(folder):
    before = read_dataset(folder)
    result = run("collect", *NETWORKS, "--networks", "--target", QUICK, "--out", folder)
    assert result.exit_code == 0, result.output
    assert read_dataset(folder).networks == before.networks


@pytest.mark.exhaustive
def test_without_fusion_there_are_more_kernels(folder, tmp_path):
    arguments = [NETWORKS[0], "--networks", "--unfused", "--target", QUICK]
    result = run("collect", *arguments, "--out", tmp_path / "d")
    assert result.exit_code == 0, result.output
    (row,) = read_dataset(tmp_path / "d").networks
    fused = next(each for each in read_dataset(folder).networks if each.network == NETWORKS[0])
    assert not row.fused
    assert len(row.graph.launches) > len(fused.graph.launches)


def test_what_cannot_be_measured_is_said_and_the_rest_goes_on(tmp_path):
    target = parse_target(QUICK)
    with DatasetWriter(tmp_path / "d") as writer:
        collector = NetworkCollector(writer, target, device_of(target))
        try:
            failed = collector.run(["zoo:none,number=1", "zoo:mlp"])
        finally:
            collector.close()
        assert [row.network for row in writer.networks.values()] == ["zoo:mlp"]
    assert "zoo network must be one of" in failed["zoo:none,number=1"]


@pytest.mark.exhaustive
def test_a_model_chooses_schedules(tmp_path):
    arguments = ["zoo:mlp", "--networks", "--out", tmp_path / "d"]
    assert run("collect", *arguments).exit_code == 0
    result = run("collect", *arguments, "--schedules-by", "pretrained:best")
    assert result.exit_code == 0, result.output
    stored = read_dataset(tmp_path / "d")
    default, chosen = stored.networks
    assert (default.schedules, chosen.schedules) == ("default", "model")
    assert chosen.latency_s < default.latency_s
    assert {record.origin for record in stored.records} == {"default", "model"}
    with pytest.raises(InputError, match="chosen by a model that has learned to rank, got 'gbt'"):
        run("collect", *arguments, "--schedules-by", "gbt", catch_exceptions=False)
    with pytest.raises(
        InputError, match="--schedules-by and --unfused must be given with --networks"
    ):
        run(
            "collect",
            "zoo:mlp",
            "--out",
            tmp_path / "e",
            "--schedules-by",
            "pretrained:best",
            catch_exceptions=False,
        )


def test_data_sets_with_networks_are_merged_and_described(folder, tmp_path):
    assert run("dataset", "merge", folder, "--out", tmp_path / "m").exit_code == 0
    assert read_dataset(tmp_path / "m").networks == read_dataset(folder).networks
    found = json.loads(run("dataset", "describe", folder, "--json").stdout)
    assert found["measured_networks"] == 4


def test_a_calibration_is_of_a_model_and_its_weights(tmp_path):
    target = host_target()
    checkpoint = tmp_path / "mine.ckpt"
    found = set()
    for weights in (b"one", b"other"):
        checkpoint.write_bytes(weights)
        found |= {Calibrated.of(target, device_of(target), str(checkpoint)).path}
    assert len(found) == 2
    assert Calibrated.of(target, device_of(target), "paleo").path not in found


def test_calibration_is_fitted_kept_and_found(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target, model = parse_target(QUICK), load_kernel_model("pretrained:best", seed=0)
    device = device_of(target)
    measured = tmp_path / "measured"  # as a killed calibration leaves it
    shutil.copytree(folder, measured)
    found = calibrate_on_networks(target, device, model, measured, networks=NETWORKS)
    assert found.networks == 4
    assert 0 <= found.launch_s.value < 1e-3
    assert 0 <= found.common_error <= 1
    assert np.isfinite(found.bias)
    best = Calibrated.of(target, device, "pretrained:best")
    save_overheads(best.path, found, best)
    assert known_overheads(target, device, "pretrained:best") == found
    assert known_overheads(target, device, "paleo") == DEFAULT_OVERHEADS
    assert known_overheads(target, replace(device, name="never seen"), "pretrained:best") == (
        replace(DEFAULT_OVERHEADS, device_error=UNSEEN_DEVICE_ERROR)
    )
    paleo = Calibrated.of(target, device, "paleo")
    begun = paleo.path.with_suffix(".networks")
    shutil.copytree(folder, begun)
    # In so short a time it begins no network.
    result = run("calibrate", "--model", "paleo", "--target", QUICK, "--minutes", "1e-6")
    assert result.exit_code == 0, result.output
    assert "fitted on 4 networks:\n  a launch takes" in result.stdout
    assert f"kept in {paleo.path}" in result.stdout
    assert known_overheads(target, device, "paleo").networks == 4
    assert not begun.exists()
    with pytest.raises(InputError, match="at least 4 networks, got 1"):
        calibrate_on_networks(target, device, model, tmp_path / "one", networks=["zoo:mlp"])


def test_a_network_has_as_many_threads_as_its_target_has_cores(monkeypatch):
    counts = []
    monkeypatch.setattr("tvm_integration.threads.set_threads", counts.append)
    for cores in (1, 2):
        target = json.dumps({"kind": "llvm", "num-cores": cores})
        order = network_process.BuildRequest("zoo:mlp", target, None, {}, True, 0, usable_cpus())
        network_process._build(order)
    assert counts == [1, 2]
