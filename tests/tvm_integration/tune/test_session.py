"""`costmodels tune` from end to end: results, resuming after kill and Ctrl-C, bad input."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import COMMAND, costmodels
from onnx import helper
from onnx_graphs import save, value
from rich.console import Console
from typer.testing import CliRunner

from costmodels.checkpoint import load_checkpoint
from costmodels.errors import InputError
from tvm_integration.cli.app import app
from tvm_integration.cli.formatting import duration_text, seconds_text
from tvm_integration.cli.tune_display import print_result, status_text
from tvm_integration.frontends.load import load_network
from tvm_integration.records.database import CHECKPOINT, NETWORK, RECORDS, network_latency_s
from tvm_integration.targets import host_target
from tvm_integration.tune.cost_model import LEARNED
from tvm_integration.tune.run import batch_size
from tvm_integration.tune.search.strategy import Effort
from tvm_integration.tune.session import tune_network
from tvm_integration.tune.state import UNLIMITED, KernelState, TuneOptions, TuneResult, TuneState

SMALL = ["zoo:mlp", "--trials-per-iter", "8"]


def refused(*arguments):
    """What `tune` says of bad input; nothing was measured before."""
    done = CliRunner().invoke(app, ["tune", *SMALL, *map(str, arguments)])
    assert isinstance(done.exception, InputError), done.output
    assert "measuring" not in done.output, "it is found at once"
    message = str(done.exception)
    assert "\n" not in message
    return message


def records(work_dir):
    path = Path(work_dir) / RECORDS
    return path.read_text().splitlines() if path.exists() else []


def learned(work_dir):
    return len(load_checkpoint(Path(work_dir) / CHECKPOINT).arrays[LEARNED])


def test_stdout_is_one_document(tuned):
    folder, done = tuned
    document = json.loads(done.stdout)
    wanted = {
        "untuned_s", "tuned_s", "reference_s", "sum_of_kernels_s", "outputs_match", "wall_s",
        "trials", "kernels", "untunable",
    }  # fmt: skip
    assert wanted <= set(document)
    assert document["outputs_match"] is True
    assert document["trials"] == len(records(folder / "work")) <= 32
    assert 0 < document["tuned_s"] < document["untuned_s"]
    assert document["trials_by_model"] >= 16
    for kernel in document["kernels"]:
        assert {"name", "weight", "trials", "best_s"} <= set(kernel)
    assert sum(kernel["trials"] for kernel in document["kernels"]) == document["trials"]
    total = sum(
        kernel["weight"] * min(s for s in (kernel["best_s"], kernel["untuned_s"]) if s is not None)
        for kernel in document["kernels"]
    )
    assert document["sum_of_kernels_s"] == pytest.approx(total)


def test_the_library_runs_without_this_project(tuned):
    folder, done = tuned
    lines = [line.removeprefix("    ") for line in done.stderr.splitlines()]
    code = "\n".join(lines[lines.index("import numpy as np") :])
    code += "\nassert 'tvm_integration' not in __import__('sys').modules\n"
    code += "print(tuple(outputs.shape) if hasattr(outputs, 'shape') else len(outputs))"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_every_record_was_learned(tuned):
    folder, _ = tuned
    assert learned(folder / "work") == len(records(folder / "work"))


def test_the_same_command_again_measures_nothing_new(tuned):
    folder, done = tuned
    before = records(folder / "work")
    again = costmodels(
        "tune", *SMALL, "--trials", "32", "--work-dir", str(folder / "work"), "--json"
    )
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    new = records(folder / "work")[len(before) :]
    assert document["trials"] == len(before) + len(new)
    assert len(new) < 8
    first = {k["name"]: k["best_s"] for k in json.loads(done.stdout)["kernels"]}
    assert all(k["best_s"] == first[k["name"]] for k in document["kernels"] if not new)


def test_an_estimate_tells_what_the_run_measured_of_the_network(tuned):
    folder, _ = tuned
    arguments = ["estimate", "zoo:mlp", "--schedules", "database"]
    arguments += ["--work-dir", str(folder / "work")]
    document = json.loads(costmodels(*arguments, "--json").stdout)
    kept = json.loads((folder / "work" / NETWORK).read_text())
    assert document["measured_by_tune_s"] == kept["tuned_s"] > 0
    text = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    times = kept["tuned_s"] / document["total_s"]
    assert f"`costmodels tune` measured the network at {seconds_text(kept['tuned_s'])}, " in text
    assert f"{times:.2f} times that" in text
    assert network_latency_s(folder / "work", "zoo:resnet18", host_target()) is None


def test_another_target_is_refused(tuned):
    folder, _ = tuned
    arguments = ["--work-dir", folder / "work", "--target", "llvm -mcpu=x86-64"]
    assert "use another work directory for this target" in refused(*arguments)


def wait_for(condition, process, timeout=200):
    end = time.monotonic() + timeout
    while not condition():
        assert process.poll() is None, "it ended before it was stopped"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.2)


def children_of(marker):
    """Processes whose environment holds the marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def start(work_dir, marker, *arguments):
    return subprocess.Popen(
        [*COMMAND, "tune", *SMALL, "--work-dir", str(work_dir), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COSTMODELS_TEST": marker},
    )


def test_kill_9_loses_at_most_the_batch_in_flight_and_no_training(tmp_path):
    work_dir, marker = tmp_path / "work", f"kill-{os.getpid()}"
    process = start(work_dir, marker, "--trials", "400")
    wait_for(lambda: len(records(work_dir)) >= 12, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept, trained = records(work_dir), learned(work_dir)
    assert len(kept) - trained <= 8
    end = time.monotonic() + 20
    while children_of(f"COSTMODELS_TEST={marker}".encode()) and time.monotonic() < end:
        time.sleep(0.2)
    assert children_of(f"COSTMODELS_TEST={marker}".encode()) == []

    wanted = len(kept) + 8
    done = costmodels(
        "tune", *SMALL, "--trials", str(wanted), "--work-dir", str(work_dir), "--json"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    whole = [line for line in kept if line.endswith("]")]
    after = records(work_dir)
    assert after[: len(whole)] == whole, "nothing of the first part is lost"
    assert document["trials"] == len(after) <= wanted
    assert document["trials_by_model"] == len(after) - len(whole), "the model started warm"
    assert learned(work_dir) == len(after)


def test_ctrl_c_ends_in_order_and_the_same_command_goes_on(tmp_path):
    work_dir, marker = tmp_path / "work", f"interrupt-{os.getpid()}"
    process = start(work_dir, marker, "--trials", "400")
    wait_for(lambda: len(records(work_dir)) >= 8, process)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"Ctrl-C did not end it: {process.communicate()}")
    assert process.returncode == 130, err
    assert "the same command goes on from here" in out
    assert "Traceback" not in err
    kept = records(work_dir)
    assert learned(work_dir) == len(kept)


@pytest.mark.exhaustive
def test_a_second_ctrl_c_ends_at_once(tmp_path):
    """An exception would have to cross TVM's C++ code, which ends in a crash."""
    work_dir, marker = tmp_path / "work", f"twice-{os.getpid()}"
    process = start(work_dir, marker, "--trials", "400")
    wait_for(lambda: len(records(work_dir)) >= 8, process)
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        process.send_signal(signal.SIGINT)  # those that arrive within one C++ call are one
        time.sleep(0.5)
    _, err = process.communicate(timeout=60)
    # The latter when one arrives while the interpreter is ending already.
    assert process.returncode in (130, -signal.SIGINT), err
    assert "Segfault" not in err
    assert "Traceback" not in err
    assert len(records(work_dir)) >= 8
    while left := children_of(f"COSTMODELS_TEST={marker}".encode()):
        assert time.monotonic() < end, left
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo:nope"], "zoo network must be one of"),
        (["missing.onnx"], "MODEL must be an existing file, got 'missing.onnx'"),
        (["nonsense"], "MODEL must be zoo:NAME"),
        (["zoo:mlp", "--target", "nope"], "target must be 'host'"),
        (["zoo:mlp", "--target", "c"], "got 'c': give the target llvm"),
        (["zoo:mlp", "--target", "llvm -num-cores=100000"], "num-cores must be at most"),
        (["zoo:mlp", "--trials", "-1"], "trials must be in 0 ... 2147483647, got -1"),
        (
            ["zoo:mlp", "--trials", "0", "--cost-model", "gbt"],
            "must be one that has learned for 0 trials, got 'gbt'",
        ),
        (["zoo:mlp", "--trials", "9" * 20], "trials must be in 0 ..."),
        (["zoo:mlp", "--trials-per-iter", "0"], "trials_per_iter must be in 1 ..."),
        (["zoo:mlp", "--minutes", "-2"], "minutes must be positive"),
        (["zoo:mlp", "--seed", "-2"], "Invalid value for '--seed'"),
        (["zoo:mlp", "--seed", "2147483647"], "seed must be in 0"),
        (["zoo:mlp", "--cost-model", "gbd"], "did you mean 'gbt'?"),
        (["zoo:mlp", "--cost-model", "none.ckpt"], "cannot be read"),
        (["zoo:mlp", "--tasks", "no_such_kernel"], "the kernels are "),
        (["zoo:mlp", "--tasks", "0"], "tasks must be at least 1"),
        (["zoo:mlp", "--device", "none.toml"], "device file none.toml cannot be read"),
        (["zoo:mlp", "--out", "lib.txt"], "library must end in .so or .tar"),
        (["zoo:mlp", "--out", "/proc/x.so"], "must be in a directory that can be written"),
    ],
)
def test_bad_input_is_named_in_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["tune", *arguments])
    if isinstance(done.exception, InputError):
        assert message in str(done.exception)
        assert "\n" not in str(done.exception)
    else:
        assert done.exit_code == 2
        assert message in done.output


def test_bad_input_ends_with_exit_code_2(tmp_path):
    done = costmodels("tune", "zoo:mlp", "--trials", "-1", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == ["error: trials must be in 0 ... 2147483647, got -1"]
    assert list(tmp_path.iterdir()) == []


def test_paths_do_not_follow_a_network_that_changes_the_directory(tmp_path, monkeypatch):
    from tvm_integration.tune import session as tuning

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "restless.py").write_text(
        "import os, torch\n"
        "def net():\n"
        "    os.chdir('elsewhere')\n"
        "    return torch.nn.Linear(4, 4), (torch.zeros(1, 4),)\n"
    )
    found = []

    def keep(network, target, options, on_state):
        found.append(options.work_dir)
        raise InputError("enough")

    monkeypatch.setattr(tuning, "_tune", keep)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    done = CliRunner().invoke(app, ["tune", "restless:net", "--work-dir", "work"])
    assert str(done.exception) == "enough"
    assert Path.cwd() == tmp_path / "elsewhere"
    assert found == [tmp_path / "work"]


def test_thefastest_record_is_that_of_the_least_median():
    from sampled_database import fused, sample_record

    from tvm_integration.compat import meta_schedule
    from tvm_integration.tune.network_timing import fastest_record

    task = fused("zoo:mlp").tasks[0]
    database = meta_schedule.database.MemoryDatabase()
    assert fastest_record(database, task.mod) is None
    workload = database.commit_workload(task.mod)
    for number, run_secs in enumerate([[2e-3] * 3, [1e-3, 1e-3, 9e-3], [1e10]]):
        drawn = sample_record(task, seed=number + 1)
        database.commit_tuning_record(
            meta_schedule.database.TuningRecord(
                drawn.trace, workload, run_secs, drawn.target, drawn.args_info
            )
        )
    assert [float(s) for s in fastest_record(database, task.mod).run_secs] == [1e-3, 1e-3, 9e-3]


def test_damaged_files_are_named_and_kept(tmp_path):
    for name in (CHECKPOINT, RECORDS):
        work_dir = tmp_path / name
        work_dir.mkdir()
        (work_dir / name).write_bytes(b"nonsense\nmore\n")
        assert "use another work directory" in refused("--work-dir", work_dir, "--trials", 8)
        assert (work_dir / name).read_bytes() == b"nonsense\nmore\n"


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "tuning.log").mkdir()
    message = refused("--work-dir", tmp_path, "--trials", 8)
    assert "tuning.log must be a file that can be written" in message


def test_a_folder_in_use_is_refused(tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "must not be in use" in refused("--work-dir", tmp_path, "--trials", 8)


def test_trials_of_each_kernel_are_some():
    assert "trials_each must be in 1" in refused("--trials-each", 0)
    assert "trials must not be 0 with trials_each, got 8" in refused(
        "--trials", 0, "--trials-each", 8
    )


def test_without_gain_there_is_no_end_by_another_count():
    for wrong in (["--trials-each", 8], ["--trials", 0]):
        message = refused("--until-no-gain", *wrong)
        assert "until_no_gain must be given without trials_each and with trials above 0" in message


def test_it_ends_where_twice_the_trials_would_save_too_little(tmp_path, monkeypatch):
    monkeypatch.setattr("tvm_integration.tune.run.NO_GAIN", 0.3)
    options = TuneOptions(tmp_path, trials=UNLIMITED, trials_per_iter=8, until_no_gain=True)
    at_most = {}

    def on_state(state):
        if state.gain is not None:
            at_most[state.trials] = state.gain.at_most

    found = tune_network("zoo:mlp", options=options, on_state=on_state)
    assert found.gain.expected < found.gain.at_most < 0.3
    last = max(at_most)
    assert found.trials == last < 100
    assert all(share >= 0.3 for trials, share in at_most.items() if trials < last)
    assert found.tuned_s < found.untuned_s


def test_a_full_disk_ends_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("tvm_integration.tune.run.MIN_FREE_BYTES", 1 << 62)
    options = TuneOptions(tmp_path / "work", trials=16, trials_per_iter=8)
    with pytest.raises(InputError, match="nothing is lost"):
        tune_network(load_network("zoo:mlp"), host_target(), options)


def test_records_of_one_thread_are_warned_of(tmp_path, caplog):
    from tvm_integration.tune.folder import MARK, has_vector_kernels, mark_run

    mark_run(tmp_path, [], 2, vector_math=False)
    assert not has_vector_kernels(tmp_path)
    mark_run(tmp_path, [], 1, vector_math=True)
    assert json.loads((tmp_path / MARK).read_text()) == {"threads": 2, "vector_math": True}
    with caplog.at_level("WARNING"):
        mark_run(tmp_path, ["record"], 2, vector_math=True)
        assert not caplog.text
        (tmp_path / MARK).unlink()
        mark_run(tmp_path, ["record"], 2, vector_math=True)
        mark_run(tmp_path, ["record"], 2, vector_math=True)
    assert caplog.text.count("ran on one thread whatever the target") == 2
    assert has_vector_kernels(tmp_path)


@pytest.fixture
def unsearchable(workplace):
    """TVM cannot schedule a ScatterND with what follows it."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("ScatterND", ["m", "places", "new"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    weights = [
        ("w", rng.standard_normal((16, 16), np.float32)),
        ("places", np.array([[1], [3]])),
        ("new", rng.standard_normal((2, 16), np.float32)),
    ]
    save("net.onnx", nodes, [value("x", [4, 16])], [value("y", [4, 16])], weights)
    return workplace / "net.onnx"


@pytest.mark.parametrize(
    "options",
    [{"trials": 4, "trials_per_iter": 4}, {"trials": 0, "cost_model": "pretrained:halide"}],
)
def test_a_kernel_that_cannot_be_searched_stays_as_it_is(
    unsearchable, tmp_path, monkeypatch, caplog, options
):
    small = Effort(first=16, rounds=1, per_round=8)
    monkeypatch.setattr("tvm_integration.tune.run.DEFAULT_EFFORT", small)
    monkeypatch.setattr("tvm_integration.tune.zero_trial.EFFORT", small)
    with caplog.at_level("WARNING"):
        found = tune_network(
            load_network(str(unsearchable)), host_target(), TuneOptions(tmp_path / "w", **options)
        )
    assert "stays unscheduled: TVM cannot search it" in caplog.text
    assert found.outputs_match
    best = {kernel.name: kernel.best_s for kernel in found.kernels}
    (scattered,) = (name for name in best if "scatter" in name)
    assert best[scattered] is None


def test_a_batch_is_smaller_where_kernels_would_go_without():
    assert [batch_size(trials, 6, 32) for trials in (512, 96, 48, 5)] == [32, 16, 8, 5]
    assert all(batch_size(48, kernels, 32) * kernels <= 48 for kernels in range(2, 7))


@pytest.mark.parametrize("arguments", [["--help"], ["tune", "--help"], ["device", "--help"]])
def test_help_answers_within_half_a_second(arguments):
    costmodels(*arguments)  # from now on the files are in the page cache
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        done = costmodels(*arguments)
        seconds.append(time.perf_counter() - begin)
        assert done.returncode == 0
        assert "Usage" in done.stdout
    assert min(seconds) < 0.5


def test_device_prints_a_file_that_reads_back(tmp_path):
    from costmodels.device import detect_host, read_device

    detect_host.cache_clear()  # other tests detect it with caches of their own
    done = costmodels("device")
    path = tmp_path / "host.toml"
    path.write_text(done.stdout)
    assert read_device(path) == detect_host()
    assert json.loads(costmodels("device", "--file", str(path), "--json").stdout)["kind"] == "cpu"
    limited = json.loads(costmodels("device", "--target", "llvm -num-cores=1", "--json").stdout)
    assert limited["cores"] == 1
    assert costmodels("device", "--file", "none.toml").returncode == 2
    too_many = ["--target", "llvm -num-cores=999"]
    with pytest.raises(InputError, match="num-cores must be at most the"):
        CliRunner().invoke(app, ["device", *too_many], catch_exceptions=False)
    with pytest.raises(InputError, match="must be given at most, got --list and --file"):
        CliRunner().invoke(app, ["device", "--list", "--file", path], catch_exceptions=False)


def kernel(**values):
    fields = {"name": "k", "weight": 2, "untuned_s": 1e-2, "selected": True}
    return KernelState(**(fields | values))


def test_a_kernel_uses_the_faster_program():
    assert kernel(best_s=1e-3).total_s == pytest.approx(2e-3)
    assert kernel(best_s=5e-2).total_s == pytest.approx(2e-2)
    assert kernel(untuned_s=None).total_s is None


def test_the_sum_of_kernels_is_unknown_when_one_is():
    """TVM leaves such a kernel out of its total, so that the network looks faster."""
    known, unknown = kernel(best_s=1e-3), kernel(untuned_s=None, best_s=None)
    result = TuneResult((known, unknown), trials=1, untunable=(), wall_s=1.0)
    assert result.sum_of_kernels_s is None
    assert TuneResult((known,), 1, (), 1.0).sum_of_kernels_s == pytest.approx(2e-3)


def test_eta_follows_trials_and_the_time_limit():
    state = TuneState("tuning", trials=30, trials_wanted=100, elapsed_s=20.0, trials_before=10)
    assert state.eta_s == pytest.approx(70.0)
    assert TuneState("x", trials=10, trials_before=10, trials_wanted=20).eta_s is None
    limited = TuneState("x", trials=30, trials_wanted=100, elapsed_s=20.0, limit_s=25.0)
    assert limited.eta_s == pytest.approx(5.0)
    assert "time limit in 0:05" in status_text(replace(limited, kernels=(kernel(),))).plain
    assert "ETA 1:10" in status_text(replace(state, kernels=(kernel(),))).plain


def test_what_ended_a_run_before_its_trials_is_said():
    result = TuneResult((kernel(),), 8, (), 1.0, trials_wanted=16, ended_by_limit=True)
    console = Console(file=io.StringIO(), width=200)
    print_result(console, result)
    assert "8 of 16 trials, ended by the time limit" in console.file.getvalue()


def test_numbers_for_people():
    assert seconds_text(None) == "-"
    assert seconds_text(2.5) == "2.5 s"
    assert seconds_text(3.2e-9) == "3.2 ns"
    assert duration_text(3725) == "1:02:05"
