"""`collect --programs-of`: the same programs on another target, resumed, balanced, told apart."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from collected import collect, rows
from typer.testing import CliRunner

from costmodels.dataset.folder import read_dataset
from costmodels.dataset.writer import DatasetWriter
from costmodels.errors import InputError
from costmodels.kernel import Measured
from tvm_integration.cli.app import app
from tvm_integration.collect.kernels import CollectOptions
from tvm_integration.collect.remeasure import AT_ONCE, Remeasurer, wanted_tasks
from tvm_integration.targets import device_of, host_target, parse_target

ONE = "llvm -mcpu=x86-64 -num-cores=1"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "d"
    collect(folder, rows(16, 24), per_task=10, batch=5, mixture={"random": 1})
    return folder


def again(source, out, target, **options):
    parsed = parse_target(target)
    device = device_of(parsed)
    wanted = wanted_tasks(read_dataset(source), parsed, device, rng=np.random.default_rng(0))
    with DatasetWriter(out, {"licence": "Apache-2.0"}) as writer:
        remeasurer = Remeasurer(writer, parsed, device, CollectOptions(**options))
        try:
            return remeasurer.run(wanted)
        finally:
            remeasurer.close()


def test_the_same_programs_are_measured_for_another_target(source, tmp_path):
    state = again(source, tmp_path / "d", ONE)
    before, after = read_dataset(source), read_dataset(tmp_path / "d")
    assert (state.failed, state.unusable) == (0, 0)
    assert {r.program for r in after.records} == {r.program for r in before.records}
    assert {t.workload_key for t in after.used_tasks.values()} == {
        t.workload_key for t in before.used_tasks.values()
    }
    assert not set(after.used_tasks) & set(before.tasks), "another target is another task"
    assert {t.device.cores for t in after.tasks.values()} == {1}
    origins = {r.program: r.origin for r in before.records}
    assert all(r.origin == origins[r.program] for r in after.records)
    assert all(r.processor.endswith(f"1 threads on processors {_cpus()}") for r in after.records)
    assert after.reference
    assert not after.problems


def _cpus():
    return ",".join(map(str, sorted(os.sched_getaffinity(0))))


def test_what_is_there_is_not_measured_again(source, tmp_path):
    again(source, tmp_path / "d", ONE)
    first = read_dataset(tmp_path / "d").records
    state = again(source, tmp_path / "d", ONE)
    assert read_dataset(tmp_path / "d").records == first
    assert state.finished == state.tasks == 3


def test_what_the_limit_of_time_left_is_told(source, tmp_path):
    arguments = ["--programs-of", source, "--out", tmp_path / "d", "--minutes", "1e-9"]
    result = CliRunner().invoke(app, ["collect", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "0 programs of 0 of 3 kernels ran" in result.stdout
    assert "--minutes ended it: the same command goes on from here" in result.stdout


def test_tasks_have_the_same_share_at_any_time(source, tmp_path):
    parsed = host_target()
    device = device_of(parsed)
    wanted = wanted_tasks(read_dataset(source), parsed, device, rng=np.random.default_rng(0))
    seen = []
    with DatasetWriter(tmp_path / "d", {}) as writer:

        def on_state(_):
            counts = Counter(record.task for record in writer.records.values())
            seen.append([counts[key] for key in wanted])

        options = CollectOptions(batch=AT_ONCE)
        remeasurer = Remeasurer(writer, parsed, device, options, on_state)
        remeasurer.run(wanted)
        remeasurer.close()
    sizes = [len(each.programs) for each in wanted.values()]
    shares = [[count / size for count, size in zip(each, sizes, strict=True)] for each in seen]
    assert max(max(each) - min(each) for each in shares) <= max(AT_ONCE / size for size in sizes)


def test_a_workload_of_two_targets_is_measured_once_those_of_as_many_cores_first(tmp_path):
    collect(tmp_path / "both", rows(16), per_task=6, batch=6, mixture={"random": 1})
    collect(
        tmp_path / "both",
        rows(16, target=parse_target(ONE)),
        per_task=6,
        batch=6,
        mixture={"random": 1},
        seed=5,
    )
    dataset = read_dataset(tmp_path / "both")
    parsed = parse_target(ONE)
    found = wanted_tasks(dataset, parsed, device_of(parsed), rng=np.random.default_rng(0))
    assert len(found) == 2
    for task in found.values():
        programs = [record.program for record in task.programs]
        assert len(set(programs)) == len(programs)
    own = {r.program for r in dataset.records if dataset.tasks[r.task].device.cores == 1}
    matmul = max(found.values(), key=lambda each: len(each.programs))
    is_own = [record.program in own for record in matmul.programs]
    assert is_own == sorted(is_own, reverse=True)
    few = wanted_tasks(dataset, parsed, device_of(parsed), per_task=3, rng=np.random.default_rng(0))
    assert max(len(each.programs) for each in few.values()) == 3


@pytest.mark.exhaustive
def test_a_killed_run_goes_on(source, tmp_path):
    out = tmp_path / "d"
    command = [
        *(sys.executable, "-m", "tvm_integration.cli", "collect", "--programs-of", str(source)),
        *("--out", str(out), "--target", ONE, "--batch", str(AT_ONCE)),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        journal = out / "journal.jsonl"
        if journal.exists() and journal.read_text().count('"records"') >= 4:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = read_dataset(out).records
    assert before
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    after = read_dataset(out).records
    assert after[: len(before)] == before
    assert len(after) == len(read_dataset(source).records)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo:mlp", "--programs-of", "shipped:cpu"], "give networks to collect from, or"),
        ([], "give networks to collect from, or"),
        (["--programs-of", "shipped:cpu", "--mixture", "random=1"], "--mixture must not be given"),
        (["--programs-of", "/no/such/set"], "/no/such/set"),
        (["--programs-of", "shipped:h200"], "must have programs for llvm, got none that ran"),
    ],
)
def test_bad_input_is_one_line(tmp_path, arguments, message):
    done = CliRunner().invoke(app, ["collect", *arguments, "--out", str(tmp_path / "d")])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


def test_a_data_set_is_not_measured_into_itself(source):
    done = CliRunner().invoke(app, ["collect", "--programs-of", str(source), "--out", str(source)])
    assert "must be another data set than that of the programs" in str(done.exception)


def test_weights_whose_layout_a_schedule_chose_are_measured(tmp_path):
    """Their arguments have other shapes than those of the workload."""
    parsed = host_target()
    dataset = read_dataset("shipped:cpu_one_core")
    wanted = wanted_tasks(dataset, parsed, device_of(parsed), rng=np.random.default_rng(0))
    key = next(
        key
        for key, each in wanted.items()
        if "layout_free" in each.row.workload and each.row.flop < 1e8 and len(each.programs) > 6
    )
    with DatasetWriter(tmp_path / "d", {}) as writer:
        remeasurer = Remeasurer(writer, parsed, device_of(parsed), CollectOptions())
        state = remeasurer.run({key: wanted[key]})
        remeasurer.close()
    assert (state.failed, state.measured) == (0, len(wanted[key].programs))


def test_shipped_programs_apply_here():
    dataset = read_dataset("shipped:cpu_one_core")
    parsed = host_target()
    found = wanted_tasks(dataset, parsed, device_of(parsed), rng=np.random.default_rng(0))
    assert sum(len(each.programs) for each in found.values()) > 25_000
    ran = sum(isinstance(r.measurement, Measured) for r in dataset.records)
    assert sum(len(each.programs) for each in found.values()) <= ran
