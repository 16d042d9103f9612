"""Work directories of stock TVM come in, data sets go out to stock TVM, and damage is named."""

import json
import logging
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collected import collect, rows
from search_tasks import matmul

from costmodels.dataset.folder import read_dataset
from costmodels.dataset.kernel_rows import RECORDS, TASKS
from costmodels.dataset.writer import DatasetWriter
from costmodels.errors import InputError
from costmodels.kernel import Failure, Measured
from tvm_integration import WarmBuilder, WarmRunner
from tvm_integration.compat import meta_schedule, relax, structural_hash, tvm
from tvm_integration.identity import target_text
from tvm_integration.records.exchange import export_database, import_work_dirs, verify
from tvm_integration.records.rows import target_of, workload_of
from tvm_integration.targets import host_target, parse_target


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("collected") / "d"
    collect(folder, rows(32, 48), per_task=8, batch=8)
    return read_dataset(folder)


def test_a_stock_work_directory_comes_in(tmp_path):
    work_dir = tmp_path / "runs" / "my_net" / "tuning"
    work_dir.mkdir(parents=True)
    meta_schedule.tir_integration.tune_tir(
        matmul(48),
        host_target(),
        str(work_dir),
        8,
        num_trials_per_iter=8,
        builder=WarmBuilder(),
        runner=WarmRunner(),
        cost_model="random",
        seed=1,  # so that no two candidates are the same program
    )
    path = work_dir / "database_tuning_record.json"
    lines = path.read_text().splitlines()
    failed = json.loads(lines[0])
    failed[1][1] = [1e10]
    lines[0] = json.dumps(failed)
    path.write_text("\n".join([*lines, lines[-1], "half a li"]) + "\n")
    with DatasetWriter(tmp_path / "d") as writer:
        done = import_work_dirs([tmp_path / "runs"], writer)
    stored = read_dataset(tmp_path / "d")
    assert (done.work_dirs, done.tasks, done.records) == (1, 1, len(stored.records))
    assert done.failures == 1
    assert done.duplicates >= 1
    assert [problem.row for problem in done.problems] == [len(lines) + 2]
    (task,) = stored.tasks.values()
    assert task.networks == {"my_net": 1}
    assert task.operators == ("matmul",)
    assert structural_hash(workload_of(task)) == structural_hash(matmul(48))
    assert sum(isinstance(r.measurement, Failure) for r in stored.records) == 1
    with DatasetWriter(tmp_path / "d") as writer:
        again = import_work_dirs([tmp_path / "runs"], writer)
    assert again.records == 0


def test_another_processor_is_warned_of(tmp_path, caplog):
    (tmp_path / "runs").mkdir()
    database = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path / "runs"))
    target = tvm.target.Target({"kind": "llvm", "mcpu": "haswell", "num-cores": 2})
    mod = matmul(16)
    workload = database.commit_workload(mod)
    schedule = tvm.s_tir.Schedule(mod)
    arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
    record = meta_schedule.database.TuningRecord(
        schedule.trace, workload, [1e-3], target, arguments
    )
    database.commit_tuning_record(record)
    with caplog.at_level(logging.WARNING), DatasetWriter(tmp_path / "d") as writer:
        import_work_dirs([tmp_path / "runs"], writer)
    if str(host_target().attrs["mcpu"]) != "haswell":
        assert "give a device" in caplog.text
    (task,) = read_dataset(tmp_path / "d").tasks.values()
    assert task.networks == {"runs": 1}


def test_what_tvm_would_crash_on_is_kept_out(dataset, tmp_path):
    export_database(dataset, tmp_path / "runs" / "net")
    path = tmp_path / "runs" / "net" / "database_tuning_record.json"
    lines = path.read_text().splitlines()
    first = json.loads(lines[0])
    damaged = []
    for trace, times, workload in (
        (first[1][0], [None], 0),
        (first[1][0], [1e-3, 1e10], 0),
        ([[], [[99, [1]]]], [1e-3], 0),
        (first[1][0], [1e-3], True),
    ):
        damaged.append(json.dumps([workload, [trace, times, *first[1][2:]]]))
    path.write_text("\n".join([*damaged, "[" * 100_000, *lines]) + "\n")
    (tmp_path / "runs" / "other" / path.name).mkdir(parents=True)
    with DatasetWriter(tmp_path / "d") as writer:
        done = import_work_dirs([tmp_path / "runs"], writer)
    assert (done.work_dirs, done.records) == (1, len(lines))
    assert [problem.row for problem in done.problems] == [1, 2, 3, 4, 5]
    assert read_dataset(tmp_path / "d").problems == ()


def test_one_target_is_exported_to_a_folder(tmp_path):
    """A database of TVM's answers with the record of another target otherwise."""
    one = parse_target("llvm -mcpu=x86-64 -num-cores=1")
    for target in (host_target(), one):
        tasks = rows(16, target=target)
        collect(tmp_path / "d", tasks, per_task=4, batch=4, mixture={"random": 1})
    stored = read_dataset(tmp_path / "d")
    with pytest.raises(
        InputError, match="a database tells none apart, got 2: give a target, one of"
    ):
        export_database(stored, tmp_path / "both")
    assert not (tmp_path / "both").exists()
    for number, text in enumerate(("llvm -mcpu=x86-64 -num-cores=1", target_text(host_target()))):
        work_dir = tmp_path / f"w{number}"
        assert export_database(stored, work_dir, target=text) > 0
        database = meta_schedule.database.JSONDatabase(work_dir=str(work_dir))
        found = {target_text(record.target) for record in database.get_all_tuning_records()}
        assert found == {target_text(one) if number == 0 else text}
    with pytest.raises(InputError, match="target must be one of"):
        export_database(stored, tmp_path / "none", target="llvm -mcpu=haswell -num-cores=1")


def test_no_work_directory(tmp_path):
    with (
        DatasetWriter(tmp_path / "d") as writer,
        pytest.raises(InputError, match="must hold work directories of MetaSchedule"),
    ):
        import_work_dirs([tmp_path], writer)


def test_stock_tvm_uses_an_export(dataset, tmp_path):
    written = export_database(dataset, tmp_path / "w")
    ran = [r for r in dataset.records if isinstance(r.measurement, Measured)]
    ran = [r for r in ran if r.origin != "default"]
    assert written == len(ran)
    database = meta_schedule.database.JSONDatabase(work_dir=str(tmp_path / "w"))
    task = next(t for t in dataset.tasks.values() if t.name == "matmul32")
    target = target_of(task)
    best = database.query_tuning_record(workload_of(task), target, "main")
    means = [np.mean(r.measurement.run_s) for r in ran if r.task == task.key]
    assert np.mean([float(s) for s in best.run_secs]) == pytest.approx(min(means))

    x = relax.Var("x", relax.TensorType((32, 32), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        kernel = builder.add_func(workload_of(task)["main"].without_attr("global_symbol"), "k")
        with builder.dataflow():
            y = builder.emit_output(
                relax.call_tir(kernel, (x, x), relax.TensorType((32, 32), "float32"))
            )
        builder.emit_func_output(y)
    network = builder.get()
    with target, database:
        applied = relax.transform.MetaScheduleApplyDatabase()(network)
    assert applied["k"].attrs["tirx.is_scheduled"]
    goes_on = meta_schedule.relax_integration.tune_relax(
        network,
        {},
        target,
        str(tmp_path / "w"),
        max_trials_global=8,
        builder=WarmBuilder(),
        runner=WarmRunner(),
        cost_model="random",
    )
    assert len(goes_on.get_all_tuning_records()) == written + 8
    assert len(goes_on.get_top_k(goes_on.commit_workload(workload_of(task)), 99)) == len(means) + 8
    with pytest.raises(InputError, match="must not hold a database"):
        export_database(dataset, tmp_path / "w")


def test_verify_finds_what_reading_does_not(dataset, tmp_path):
    applied, problems = verify(dataset, sample=1000, rng=np.random.default_rng(0))
    assert applied == len(dataset.records)
    assert problems == []
    copy = tmp_path / "copy"
    shutil.copytree(dataset.path, copy)
    records = pq.read_table(copy / "records.parquet").to_pylist()
    records[0] |= {"run_s": [0.0], "failure": None, "failed_in": None}
    records[1] |= {"program": 7}
    records[2] |= {"trace": "[[],[]]" if records[2]["trace"] != "[[],[]]" else "[1]"}
    pq.write_table(pa.Table.from_pylist(records, schema=RECORDS), copy / "records.parquet")
    tasks = pq.read_table(copy / "tasks.parquet").to_pylist()
    number = [row["task"] for row in tasks].index(records[-1]["task"])
    tasks[number] |= {"workload": "{}"}
    pq.write_table(pa.Table.from_pylist(tasks, schema=TASKS), copy / "tasks.parquet")
    damaged = read_dataset(copy)
    assert [(problem.file, problem.row) for problem in damaged.problems] == [("records.parquet", 1)]
    _, problems = verify(damaged, sample=1000, rng=np.random.default_rng(0))
    found = {(problem.file, problem.row) for problem in problems}
    assert {("records.parquet", 2), ("records.parquet", 3)} <= found
    assert ("tasks.parquet", number + 1) in found
