"""`costmodels train`, `models` and `explain`: from a data set to a model and to what it says."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from collected import collect, rows
from typer.testing import CliRunner

from costmodels.checkpoint import load_checkpoint
from costmodels.dataset.folder import read_dataset
from costmodels.dataset.splits import read_split, save_split, split_by_network
from costmodels.errors import InputError
from costmodels.kernel import Measured
from costmodels.load_model import load_kernel_model
from costmodels.registry import kernel_model_names, network_model_names
from halide_style.terms import TERMS
from tvm_integration.cli.app import app
from tvm_integration.compat import structural_equal
from tvm_integration.compile.fusion import fuse
from tvm_integration.frontends.load import load_network
from tvm_integration.records.database import open_database
from tvm_integration.targets import host_target


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned") / "d"
    collect(folder, rows(32, 48, 64, 40), per_task=16, batch=16)
    tasks = read_dataset(folder).tasks
    split = split_by_network(tasks, name="nets", test=["net48"], validation=["net40"])
    save_split(folder, split)
    return folder


def run(*arguments, **options):
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


@pytest.mark.parametrize("name", ["gbt", "graphsage", "halide"])
def test_a_trained_model_says_what_it_learned_from(dataset, tmp_path, name):
    path = tmp_path / "model.ckpt"
    result = run("train", dataset, "--model", name, "--split", "nets", "--out", path, "--seed", 3)
    assert result.exit_code == 0, result.output
    if name != "gbt":  # whose one step is over before a line is due
        assert re.search(r"[1-9]\d* of \d+ steps, .*elapsed", result.stderr), "told until it ends"
    provenance = load_checkpoint(path).provenance
    assert provenance["dataset_digest"] == read_dataset(dataset).digest()
    stored = read_dataset(dataset)
    train = read_split(stored, "nets").train
    assert provenance["programs"] == sum(record.task in train for record in stored.records)
    assert (provenance["split"], provenance["seed"]) == ("nets", 3)
    assert load_kernel_model(str(path), seed=0).is_fitted
    assert [each.name for each in tmp_path.iterdir()] == ["model.ckpt"]
    judged = run("evaluate", dataset, "--model", path, "--json")
    scores = json.loads(judged.stdout)["models"][str(path)]
    assert np.isfinite(scores["median_ape"])
    assert (scores["coverage"] is None) == (name == "gbt")
    further = run("train", dataset, "--model", path, "--out", tmp_path / "further.ckpt")
    assert further.exit_code == 0, further.output
    checkpoint = load_checkpoint(tmp_path / "further.ckpt")
    assert (checkpoint.model, checkpoint.provenance["start"]) == (name, str(path))
    ran = [r for r in stored.records if isinstance(r.measurement, Measured)]
    assert f"learned {len(ran)} programs of {len({r.task for r in ran})} kernels" in further.stdout
    assert ("too few to tell how far it is off there" in further.stdout) == (name != "gbt")


@pytest.mark.exhaustive
def test_a_training_that_was_ended_twice_goes_on(dataset, tmp_path):
    path, unfinished = tmp_path / "model.ckpt", tmp_path / ".model.ckpt.unfinished.0"
    command = [sys.executable, "-m", "tvm_integration.cli", "train", str(dataset)]
    command += ["--model", "graphsage", "--out", str(path)]
    for sent in (signal.SIGINT, signal.SIGKILL):
        before = unfinished.stat().st_mtime_ns if unfinished.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if unfinished.exists() and unfinished.stat().st_mtime_ns > before:
                break
            time.sleep(0.01)
        os.kill(process.pid, sent)
        _, told = process.communicate()
        assert told.endswith(b"interrupted\n") == (sent == signal.SIGINT)
        assert unfinished.exists(), "it was not killed in the middle"
        assert not path.exists()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert path.exists()
    assert not unfinished.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "gtb", "--out", "m.ckpt"], "did you mean 'gbt'"),
        (["--model", "gbt", "--out", "nowhere/m.ckpt"], "the folder of nowhere/m.ckpt must exist"),
        (["--model", "gbt", "--out", "."], "must be a file to write, got a folder"),
        (["--model", "gbt", "--out", "a" * 300], "must be a file that can be written"),
        (["--model", "", "--out", "m.ckpt"], "a kernel model must be one of"),
        (["--model", "gbt", "--out", "m.ckpt", "--split", "mine"], "mine"),
        (["--model", "gbt", "--out", __file__], "must be a new file or a checkpoint to replace"),
    ],
)
def test_what_cannot_be_trained_is_said(dataset, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        run("train", dataset, *arguments, catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_every_model_is_listed_with_its_claims():
    found = json.loads(run("models", "--json").stdout)
    assert set(found) == {*kernel_model_names(), *network_model_names()}
    assert found["graphsage"]["claims"] == {"ranks": True, "seconds": True, "interval": True}
    assert "MLSys 2021" in found["graphsage"]["paper"]
    text = run("models").stdout
    assert all(name in text for name in kernel_model_names())


@pytest.fixture(scope="module")
def halide(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("halide") / "halide.ckpt"
    assert run("train", dataset, "--model", "halide", "--out", path).exit_code == 0
    return path


def test_a_model_of_another_package_that_lacks_something_is_named(monkeypatch, capsys):
    class Lacking:
        name = "lacking"

        def fit(self, dataset, *, rng):
            return self

    from costmodels import registry

    known = registry.kernel_model_class
    names = (*kernel_model_names(), "lacking")
    monkeypatch.setattr(registry, "kernel_model_names", lambda: names)
    monkeypatch.setattr(
        registry, "kernel_model_class", lambda name: Lacking if name == "lacking" else known(name)
    )
    done = CliRunner().invoke(app, ["models", "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "gbt" in json.loads(done.stdout)
    assert "Lacking lacks claims, graphs, is_fitted, load, paper, predict" in done.stderr


def test_explain_adds_up(halide, tmp_path):
    chart = tmp_path / "terms.png"
    result = run("explain", "zoo:mlp", "--cost-model", halide, "--json", "--chart", chart)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    total = sum(sum(stage["seconds"].values()) for stage in found["stages"])
    assert total == pytest.approx(found["latency_s"], rel=1e-4)
    assert found["low_s"] <= found["latency_s"] <= found["high_s"]
    names = {term.name for term in TERMS}
    assert all(set(stage["seconds"]) <= names for stage in found["stages"])
    assert "matmul" in {name for stage in found["stages"] for name in stage["operators"]}
    assert chart.read_bytes().startswith(b"\x89PNG")
    text = run("explain", "zoo:mlp", "--cost-model", halide, "--kernel", "matmul").stdout
    assert f"predicted by {halide} alone, not calibrated" in text.replace("\n", " ")
    assert "stage 1" in text
    assert "--kernel" not in text
    text = run("explain", "zoo:mlp", "--cost-model", halide).stdout
    assert "this one has most operations; --kernel NAME explains another" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel", "conv9"], "kernel must be a part of a kernel's name, got 'conv9'"),
        (["--chart", "folder.png"], "must be a file to write, got a folder"),
        (["--chart", "terms.gif"], "a chart must end in .png, .svg, .pdf, got 'terms.gif'"),
        (["--work-dir", "none"], "none must be the work directory of a tuning run"),
    ],
)
def test_what_cannot_be_explained_is_said(halide, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=message):
        run("explain", "zoo:mlp", "--cost-model", halide, *arguments, catch_exceptions=False)


def test_the_best_program_of_a_tuning_run_is_explained(halide, tuned_kernel):
    (kernel,) = {r.workload.mod for r in open_database(tuned_kernel).get_all_tuning_records()}
    fused = fuse(load_network("zoo:mlp").module, host_target())
    (name,) = [task.name for task in fused.tasks if structural_equal(task.mod, kernel)]
    arguments = ["explain", "zoo:mlp", "--cost-model", halide, "--json", "--kernel", name]
    found = json.loads(run(*arguments, "--work-dir", tuned_kernel).stdout)
    assert found["schedule"] == "best measured"
    assert found["stages"] != json.loads(run(*arguments).stdout)["stages"]
    other = next(task.name for task in fused.tasks if task.name != name)
    with pytest.raises(InputError, match=r"must hold a program of .*, got none: tune it first"):
        run(*arguments[:-1], other, "--work-dir", tuned_kernel, catch_exceptions=False)


def test_only_the_halide_style_model_explains(dataset, tmp_path):
    path = tmp_path / "gbt.ckpt"
    run("train", dataset, "--model", "gbt", "--out", path)
    with pytest.raises(InputError, match="must be a Halide-style one, got 'gbt'"):
        run("explain", "zoo:mlp", "--cost-model", path, catch_exceptions=False)


def test_an_unknown_pretrained_model_lists_those_there_are():
    with pytest.raises(InputError, match=r"a pretrained model must be one of .*, got 'none-such'"):
        load_kernel_model("pretrained:none-such", seed=0)
