"""`costmodels tune` from end to end: results, the same command again, kernels without a space."""

import json
import subprocess
import sys

import numpy as np
import pytest
from command_line import costmodels
from onnx import helper
from onnx_graphs import save, value
from typer.testing import CliRunner
from work_dirs import SMALL, learned, records

from tvm_integration.cli.app import app
from tvm_integration.cli.formatting import seconds_text
from tvm_integration.frontends.load import load_network
from tvm_integration.records.database import NETWORK, network_latency_s
from tvm_integration.targets import host_target
from tvm_integration.tune.run import batch_size
from tvm_integration.tune.search.strategy import Effort
from tvm_integration.tune.session import tune_network
from tvm_integration.tune.state import UNLIMITED, TuneOptions


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


def test_the_fastest_record_is_that_of_the_least_median():
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


def test_records_of_one_thread_are_warned_of(tmp_path, caplog):
    from tvm_integration.tune.folder import MARK, has_vector_kernels, mark_run

    mark_run(tmp_path, [], 2, vector_math=False, in_network=False)
    assert not has_vector_kernels(tmp_path)
    mark_run(tmp_path, [], 1, vector_math=True, in_network=True)
    said = json.loads((tmp_path / MARK).read_text())
    assert said == {"threads": 2, "vector_math": True, "in_network": True}
    with caplog.at_level("WARNING"):
        mark_run(tmp_path, ["record"], 2, vector_math=True, in_network=True)
        assert not caplog.text
        (tmp_path / MARK).unlink()
        mark_run(tmp_path, ["record"], 2, vector_math=True, in_network=True)
        mark_run(tmp_path, ["record"], 2, vector_math=True, in_network=True)
    assert caplog.text.count("ran on one thread whatever the target") == 2
    assert has_vector_kernels(tmp_path)


def test_records_measured_in_a_loop_are_warned_of(tmp_path, caplog):
    from tvm_integration.tune.folder import MARK, mark_run, was_measured_in_network

    (tmp_path / MARK).write_text('{"threads": 2, "vector_math": true}')  # of an earlier release
    with caplog.at_level("WARNING"):
        for _ in range(2):
            mark_run(tmp_path, ["record"], 2, vector_math=True, in_network=True)
    assert caplog.text.count("were called over and over") == 2
    assert not was_measured_in_network(tmp_path)
    caplog.clear()
    with caplog.at_level("WARNING"):
        mark_run(tmp_path, [], 2, vector_math=True, in_network=True)  # its records were removed
    assert not caplog.text
    assert was_measured_in_network(tmp_path)


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
