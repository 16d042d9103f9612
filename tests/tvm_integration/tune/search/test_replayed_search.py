"""The searches beside each other on the shipped data, without its hardware."""

import math

import pytest
from search_tasks import matmul

from costmodels.device import read_device
from tvm_integration.compat import PyCostModel, Target, derived_object, meta_schedule
from tvm_integration.measure.replay_runner import ReplayBuilder, ReplayRunner
from tvm_integration.tune.cost_model import MetaScheduleCostModel
from tvm_integration.tune.search.evolution import UnrepeatedSearch
from tvm_integration.tune.search.strategy import SketchSearch

TARGET = Target({"kind": "llvm", "mcpu": "znver4", "num-cores": 2})
TRIALS, BATCH = 48, 16


@derived_object
class Counted(PyCostModel):
    """Hands on, and counts the programs that it is asked about."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.asked = 0

    def predict(self, context, candidates):
        self.asked += len(candidates)
        return self.inner.predict(context, candidates)

    def update(self, context, candidates, results):
        self.inner.update(context, candidates, results)


def best_of(search, size, seed, folder):
    """Best replayed latency in seconds, and how many programs the cost model was asked about."""
    model = Counted(MetaScheduleCostModel("gbt", work_dir=folder, seed=seed))
    database = meta_schedule.tir_integration.tune_tir(
        matmul(size),
        TARGET,
        str(folder),
        TRIALS,
        num_trials_per_iter=BATCH,
        builder=ReplayBuilder(
            "shipped:cpu", "pretrained:gbt", device=read_device("amd-epyc-zen4-2-cores")
        ),
        runner=ReplayRunner(),
        cost_model=model,
        strategy=search,
        num_tuning_cores=1,
        seed=seed,
    )
    records = database.get_all_tuning_records()
    assert len(records) == TRIALS
    return min(float(record.run_secs[0]) for record in records), model.asked


@pytest.mark.slow
def test_it_finds_as_fast_programs_as_evolution_with_a_part_of_the_predictions(tmp_path):
    ratios, asked = [], {"ours": 0, "evolution": 0}
    for number, (size, seed) in enumerate(((128, 1), (256, 2))):
        evolution = UnrepeatedSearch(
            set(), lambda: True, lambda: TRIALS, population_size=256, genetic_num_iters=3
        )
        ours = SketchSearch(library=False)  # which ships what is replayed
        found = {}
        for name, search in (("ours", ours), ("evolution", evolution)):
            found[name], count = best_of(search, size, seed, tmp_path / f"{name}{number}")
            asked[name] += count
        ratios.append(found["ours"] / found["evolution"])
    assert math.prod(ratios) ** (1 / len(ratios)) < 1.2
    assert asked["ours"] < asked["evolution"] / 4
