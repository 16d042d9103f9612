"""Models are judged on what they have not learned, beside random picks and TVM's model."""

import json
from dataclasses import replace

import numpy as np
import pytest
from collected import collect, rows
from typer.testing import CliRunner

from costmodels.dataset.folder import read_dataset
from costmodels.dataset.splits import read_split, save_split, split_by_network
from costmodels.errors import InputError
from costmodels.evaluation import calls_by_network
from costmodels.kernel_models.gbt.model import GradientBoostedTrees
from tvm_integration.cli.app import app
from tvm_integration.collect.featurize import featurize
from tvm_integration.learn.evaluate import evaluate_models
from tvm_integration.learn.train import train_model

KEYS = {
    "top1",
    "top5",
    "top1_weighted",
    "top5_weighted",
    "top1_gain",
    "top5_gain",
    "kendall_tau",
    "pair_accuracy",
    "supported",
    "mape",
    "median_ape",
    "within_10pct",
    "coverage",
    "interval_width",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "d"
    collect(folder, rows(32, 48, 64, 40), per_task=16, batch=16)
    stored = read_dataset(folder)
    save_split(folder, split_by_network(stored.tasks, name="nets", test=["net48"]))
    return stored


def test_with_a_split(dataset):
    found = evaluate_models(dataset, ["gbt"], split="nets")
    assert set(found.models) == {"random", "stock", "gbt"}
    assert found.tasks == 1
    assert found.models["random"].top1_gain.value == pytest.approx(0.0, abs=1e-9)
    assert found.models["stock"].mape is None
    assert found.models["gbt"].mape is not None
    document = found.as_json()
    assert set(document) == {"tasks", "records", "split", "models", "learned_tasks"}
    assert document["learned_tasks"] == {}, "it was trained on the split"
    assert set(document["models"]["gbt"]) == KEYS


def test_a_split_that_trains_on_nothing(dataset):
    split = read_split(dataset, "nets")
    nothing = replace(split, name="nothing", train=frozenset())
    save_split(dataset.path, nothing)
    with pytest.raises(InputError, match="split nothing must have training programs that ran"):
        evaluate_models(dataset, ["gbt"], split="nothing")


def test_a_network_on_two_targets_is_two_networks():
    here = rows(32)[0]
    there = replace(here, key="there", target='{"kind": "llvm", "mcpu": "haswell"}')
    found = calls_by_network([here, there])
    assert list(found.values()) == [{here.key: 2}, {"there": 2}]


def test_without_a_split_only_what_is_trained(dataset, tmp_path):
    with pytest.raises(InputError, match="gbt must be a trained model's file"):
        evaluate_models(dataset, ["gbt"])
    path = tmp_path / "model.ckpt"
    kernels = featurize(dataset).kernels
    GradientBoostedTrees().fit(kernels, rng=np.random.default_rng(0)).save(path)
    found = evaluate_models(dataset, [str(path)])
    assert set(found.models) == {"random", str(path)}
    assert found.tasks == 5
    assert found.models[str(path)].kendall_tau.value > 0.3, "it was judged on what it learned"
    assert found.learned == {str(path): None}, "it was not trained by `train_model`, which tells"


def test_a_model_that_has_learned_what_judges_it(dataset, tmp_path):
    everything, honest, more = (tmp_path / f"{name}.ckpt" for name in "ehm")
    train_model(dataset, "gbt", everything)
    train_model(dataset, "gbt", honest, split="nets")
    train_model(dataset, str(honest), more)
    names = [str(each) for each in (everything, honest, more)]
    arguments = ["evaluate", str(dataset.path), "--split", "nets"]
    result = CliRunner().invoke(app, [*arguments, *(f"--model={name}" for name in names)])
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    for name, learned in zip(names, (True, False, True), strict=True):
        assert (f"{name} has learned 1 of these 1 kernels" in said) == learned


def test_the_command_prints_one_document(dataset):
    arguments = ["evaluate", str(dataset.path), "--model", "gbt", "--split", "nets", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["split"] == "nets"
    assert document["models"]["random"]["mape"] is None
