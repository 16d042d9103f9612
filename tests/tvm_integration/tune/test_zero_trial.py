"""`costmodels tune --trials 0`: a model alone chooses, nothing is measured as if it had been."""

import io

import numpy as np
import pytest
from rich.console import Console
from search_tasks import TARGET, made_up_results, random_candidates, relu
from typer.testing import CliRunner

from costmodels.errors import InputError
from costmodels.kernel_models.graphsage import GraphSage, GraphSageShape
from costmodels.kernel_models.lookup_table import LookupTable
from costmodels.learning.kernel_training import TrainingConfig
from costmodels.learning.neural_model import NeuralConfig
from costmodels.testing.example_data import example_dataset
from tvm_integration import MetaScheduleCostModel
from tvm_integration.cli.app import app
from tvm_integration.cli.tune_display import print_result
from tvm_integration.compat import structural_hash
from tvm_integration.compile.fusion import FusedTask
from tvm_integration.frontends.load import load_network
from tvm_integration.records.database import RECORDS, WORKLOADS
from tvm_integration.targets import host_target
from tvm_integration.tune import zero_trial as model_search
from tvm_integration.tune.search.strategy import Effort
from tvm_integration.tune.session import tune_network
from tvm_integration.tune.state import TuneOptions
from tvm_integration.tune.zero_trial import choose_schedules, schedule_database


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A graph model that has learned made-up kernels: it works, and knows nothing."""
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    config = NeuralConfig(TrainingConfig(epochs=4), members=1)
    data = example_dataset(np.random.default_rng(0), tasks=8)
    model = GraphSage(GraphSageShape(size=16, layers=1), config)
    model.fit(data, rng=np.random.default_rng(0)).save(path)
    return path


@pytest.fixture
def small_search(monkeypatch):
    monkeypatch.setattr(model_search, "EFFORT", Effort(first=16, rounds=1, per_round=8))


def tune(work_dir, checkpoint, **options):
    return tune_network(
        load_network("zoo:mlp"),
        host_target(),
        TuneOptions(work_dir, trials=0, cost_model=str(checkpoint), **options),
    )


def test_the_network_is_built_with_what_the_model_chose(checkpoint, tmp_path, small_search):
    found = tune(tmp_path, checkpoint)
    assert found.trials == 0
    assert found.outputs_match
    assert found.tuned_s > 0
    assert found.built.tuned, "no kernel was built with a schedule"
    assert all(kernel.predicted_s > 0 for kernel in found.kernels)
    assert all(kernel.best_s is None for kernel in found.kernels)
    assert all(kernel.untuned_s is None for kernel in found.kernels)
    for name in (WORKLOADS, RECORDS):
        path = tmp_path / name
        assert not path.exists() or not path.read_text(), "a prediction passes for a measurement"
    console = Console(file=io.StringIO(), width=120)
    print_result(console, found)
    printed = console.file.getvalue()
    assert "predicted" in printed
    assert "the model alone chose the programs" in printed
    assert "sum of kernels" not in printed
    assert all(kernel["predicted_s"] > 0 for kernel in found.as_json()["kernels"])


@pytest.mark.exhaustive
def test_only_some_kernels(checkpoint, tmp_path, small_search):
    kernels = tune(tmp_path, checkpoint, tasks="1").kernels
    assert sum(kernel.predicted_s is not None for kernel in kernels) == 1


@pytest.mark.parametrize("name", ["gbt", "stock"])
def test_a_model_that_has_learned_nothing_is_refused(name, tmp_path):
    arguments = ["tune", "zoo:mlp", "--trials", "0", "--cost-model", name]
    work_dir = tmp_path / "work"
    with pytest.raises(InputError, match="must be one that has learned for 0 trials, got"):
        CliRunner().invoke(app, [*arguments, "--work-dir", str(work_dir)], catch_exceptions=False)
    assert not work_dir.exists()


def test_a_model_that_cannot_rank_is_refused(tmp_path):
    path = tmp_path / "table.ckpt"
    rng = np.random.default_rng(0)
    LookupTable().fit(example_dataset(rng, tasks=8), rng=rng).save(path)
    for name, kind in {str(path): "lookup_table", "random": "random"}.items():
        arguments = ["tune", "zoo:mlp", "--trials", "0", "--cost-model", name]
        with pytest.raises(InputError, match=f"tells the programs of a kernel apart .* a {kind}:"):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_the_best_of_what_was_searched_is_chosen(small_search):
    drawn = random_candidates()
    model = MetaScheduleCostModel("gbt")
    model.update(drawn.context, drawn.candidates, made_up_results(len(drawn.candidates)))
    task = FusedTask("matmul", 1, drawn.context.mod, ("matmul",), 1.0)
    told = []
    found = choose_schedules([task], TARGET, model, on_kernel=told.append)
    assert told == [1]
    trace = found["matmul"].trace
    assert trace is not None
    database = schedule_database([task], found)
    record = database.query_tuning_record(task.mod, TARGET, "matmul")
    assert structural_hash(record.as_measure_candidate().sch.mod) != structural_hash(task.mod)
    assert database.query_tuning_record(relu(), TARGET, "relu") is None


def test_stopping_leaves_the_other_kernels_out(small_search):
    task = FusedTask("matmul", 1, random_candidates().context.mod, ("matmul",), 1.0)
    model = MetaScheduleCostModel("random")
    assert choose_schedules([task], TARGET, model, should_stop=lambda: True) == {}
