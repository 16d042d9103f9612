"""`costmodels dataset`: each command on a small data set, and errors in one line."""

import json
import subprocess
import sys

import pytest
from collected import collect, rows
from search_tasks import matmul
from typer.testing import CliRunner

from costmodels.dataset.folder import read_dataset
from costmodels.errors import InputError
from tvm_integration.cli.app import app
from tvm_integration.identity import program_hash
from tvm_integration.records.rows import TraceApplier, task_row, workload_of
from tvm_integration.targets import device_of, host_target


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("commands") / "d"
    collect(path, rows(32), per_task=6, batch=6)
    return path


def run(*arguments) -> str:
    result = CliRunner().invoke(app, ["dataset", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_merged_traces_apply_whatever_the_blocks_are_called(tmp_path):
    target = host_target()
    for number, block in enumerate("CD"):
        row = task_row(
            matmul(32, name=block),
            target,
            device_of(target),
            name="matmul",
            networks={},
            operators=("matmul",),
        )
        collect(tmp_path / block, [row], per_task=8, batch=8, seed=number)
    run("merge", tmp_path / "C", tmp_path / "D", "--out", tmp_path / "both")
    stored = read_dataset(tmp_path / "both")
    (task,) = stored.used_tasks.values()
    assert len(stored.records) > 8
    applier = TraceApplier(workload_of(task))
    for record in stored.records:
        assert program_hash(applier.schedule(record.trace)) == record.program


def test_describe(folder, tmp_path):
    page = tmp_path / "page.html"
    found = json.loads(run("describe", folder, "--json", "--html", page))
    assert found["tasks"] == 2
    assert found["valid"] + found["failed"] == found["records"]
    assert found["operators"] == {"matmul": 1, "relu": 1}
    assert found["networks"] == {"net32": 1, "net16": 1}
    assert found["spread"]["most"] > 1
    text = page.read_text()
    assert text.count("<svg") >= 3
    assert "http" not in text.replace("http://www.w3.org", "")
    assert "<script" not in text
    assert "spread:" in run("describe", folder)


def test_split_merge_export_and_verify(folder, tmp_path):
    text = run("split", folder, "--name", "s", "--test", "net32")
    assert "train 1, validation 0, test 1" in text
    records = len(read_dataset(folder).records)
    assert f"{records} records of" in run("merge", folder, folder, "--out", tmp_path / "m")
    assert "records" in run("export", folder, "--out", tmp_path / "w")
    imported = run("import", tmp_path / "w", "--out", tmp_path / "i")
    assert "from 1 work directories" in imported
    assert "0 problems" in run("verify", folder)
    assert f"{records} programs" in run("featurize", folder)


def test_nothing_is_left_of_an_import_of_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="must hold work directories of MetaSchedule"):
        run("import", tmp_path / "empty", "--out", tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_verify_says_what_is_wrong(folder, tmp_path):
    run("merge", folder, "--out", tmp_path / "m")
    path = tmp_path / "m" / "journal.jsonl"
    path.write_text("[1, 2\n" + '["records", {}]\n')
    result = CliRunner().invoke(app, ["dataset", "verify", str(tmp_path / "m")])
    assert result.exit_code == 1
    assert "journal.jsonl row 1" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("describe", "nowhere"), "nowhere must be a data set"),
        (("describe", "shiped:cpu"), "did you mean 'shipped:cpu'?"),
        (
            ("describe", "shipped:nothing"),
            "a shipped data set must be one of chosen_networks, cpu, cpu_one_core, h200",
        ),
        (("import", "nowhere", "--out", "x"), "nowhere must be a folder"),
        (("split", "{folder}", "--name", "t", "--by", "luck"), "--by must be task, network or"),
        (("split", "{folder}", "--name", "../t", "--test", "net32"), "a split's name must be"),
        (
            ("split", "shipped:h200", "--name", "t", "--by", "task"),
            "must be of a data set",
        ),
        (("split", "{folder}", "--name", "t", "--test", "vgg*"), "got 'vgg*': it has net16, net32"),
    ],
)
def test_errors(folder, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled = [each.format(folder=folder) for each in arguments]
    with pytest.raises(InputError) as error:
        CliRunner().invoke(app, ["dataset", *filled], catch_exceptions=False)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("dataset describe nowhere", "error: nowhere must be a data set"),
        (
            "dataset split d --name s --seed -1",
            "error: Invalid value for '--seed': Input should be greater than or equal to 0: see "
            "`costmodels dataset split --help`",
        ),
        ("dataset verify d --sample -1", "error: Invalid value for '--sample'"),
        ("collect zoo:mlp --out d --seed -1", "error: Invalid value for '--seed'"),
        ("colect zoo:mlp", "error: No such command 'colect'"),
        ("tune", "error: Missing argument 'MODEL': see `costmodels tune --help`"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(arguments, message, tmp_path):
    command = [sys.executable, "-m", "tvm_integration.cli", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
