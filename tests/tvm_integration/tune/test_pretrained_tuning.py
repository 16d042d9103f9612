"""Shipped models tune a network, through TVM's own `tune_relax` or through ours; others do, too."""

import numpy as np
import pytest

from tvm_integration import MetaScheduleCostModel, WarmBuilder, WarmRunner
from tvm_integration.compat import meta_schedule, relax, tvm
from tvm_integration.compile.fusion import fuse
from tvm_integration.frontends.load import load_network
from tvm_integration.targets import host_target
from tvm_integration.tune.session import tune_network
from tvm_integration.tune.state import TuneOptions

NETWORK = "zoo:mlp"
SMALL_SEARCH = {"population_size": 64, "genetic_num_iters": 2}


def test_tune_relax(tmp_path):
    target = host_target()
    fused = fuse(load_network(NETWORK).module, target, prepack_weights=False)
    cost_model = MetaScheduleCostModel("pretrained:graphsage", work_dir=tmp_path)
    database = meta_schedule.relax_integration.tune_relax(
        fused.module,
        {},
        target,
        str(tmp_path),
        max_trials_global=24,
        num_trials_per_iter=8,
        strategy=meta_schedule.search_strategy.EvolutionarySearch(**SMALL_SEARCH),
        builder=WarmBuilder(),
        runner=WarmRunner(),
        cost_model=cost_model,
    )
    reports = cost_model.reports
    assert len(reports) == len(fused.tasks) == 3
    assert all(report.predicted for report in reports), "the first batch is predicted already"
    library = meta_schedule.relax_integration.compile_relax(database, fused.module, target, {})
    machine = relax.VirtualMachine(library, tvm.cpu())
    (given,) = fused.inputs
    x = np.random.default_rng(0).normal(size=given.shape).astype(given.dtype)
    assert np.all(np.isfinite(machine["main"](tvm.runtime.tensor(x)).numpy()))


@pytest.mark.exhaustive
def test_tune(tmp_path):
    """The best has one of each kind in it."""
    options = TuneOptions(tmp_path, 8, 4, tasks="1", cost_model="pretrained:best")
    found = tune_network(load_network(NETWORK), host_target(), options)
    assert found.outputs_match
    assert found.trials_by_model == found.trials > 0
    assert found.tuned_s < found.untuned_s


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["stock", "random"])
def test_models_that_learned_nothing_tune_too(name, tmp_path):
    options = TuneOptions(tmp_path, 4, 4, tasks="1", cost_model=name)
    found = tune_network(load_network(NETWORK), host_target(), options)
    assert found.outputs_match
    assert found.trials > 0
