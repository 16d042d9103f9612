"""One tuning run of one kernel, for benchmark_sketches.py: of whichever build the interpreter has.

It may be one of before: nothing of this project is imported but what both have.
"""

import json
import sys
import tempfile
import time
from importlib import import_module
from typing import Any

from benchmark_tasks import TASKS
from benchmark_winners import best_of, record_text
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.cost_model import PyCostModel
from tvm.s_tir.meta_schedule.search_strategy import PySearchStrategy

from tvm_integration import MetaScheduleCostModel, WarmBuilder, WarmRunner
from tvm_integration.targets import host_target

TRIALS, BATCH = 64, 16
BEFORE_EVOLUTION = {"population_size": 256, "genetic_num_iters": 3}
"""What `costmodels tune` of fce22e0 gave TVM's evolution."""

spent = {"search": 0.0, "learn": 0.0}


@derived_object
class Clocked(PySearchStrategy):
    """Hands on to another search, and notes the time."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def _initialize_with_tune_context(self, context: Any) -> None:
        self.inner._initialize_with_tune_context(context)

    def pre_tuning(self, *arguments: Any) -> None:
        """Hand on."""
        self.inner.pre_tuning(*arguments)

    def post_tuning(self) -> None:
        """Hand on."""
        self.inner.post_tuning()

    def generate_measure_candidates(self) -> Any:
        """Hand on, and note the time."""
        start = time.perf_counter()
        found = self.inner.generate_measure_candidates()
        spent["search"] += time.perf_counter() - start
        return found

    def notify_runner_results(self, candidates: Any, results: Any) -> None:
        """Hand on."""
        self.inner.notify_runner_results(candidates, results)

    def clone(self) -> "Clocked":
        """One that hands on to a fresh search."""
        return Clocked(self.inner.clone())


@derived_object
class ClockedModel(PyCostModel):
    """Hands on to another model, and notes the time that learning takes."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def update(self, context: Any, candidates: Any, results: Any) -> None:
        """Hand on, and note the time."""
        start = time.perf_counter()
        self.inner.update(context, candidates, results)
        spent["learn"] += time.perf_counter() - start

    def predict(self, context: Any, candidates: Any) -> Any:
        """Hand on; the search is on the clock."""
        return self.inner.predict(context, candidates)

    def save(self, path: str) -> None:
        """Hand on."""
        self.inner.save(path)

    def load(self, path: str) -> None:
        """Hand on."""
        self.inner.load(path)


def search_of(run: str, model: Any) -> Any:
    """What `costmodels tune` searches by in this build, or in the one before."""
    if run == "now":
        from tvm_integration import SketchSearch

        return SketchSearch(library=False)
    build_before = import_module("tvm_integration.search")
    return build_before.UnmeasuredSearch(
        set(), lambda: bool(model.kernel_model.is_fitted), lambda: TRIALS, **BEFORE_EVOLUTION
    )


def main(run: str, model_name: str, task: str, seed: int) -> dict[str, object]:
    """Tune a kernel, and tell what it took and found."""
    with tempfile.TemporaryDirectory() as work_dir:
        model = MetaScheduleCostModel(model_name, work_dir=work_dir, seed=seed)
        start = time.perf_counter()
        database = ms.tir_integration.tune_tir(
            TASKS[task](),
            host_target(),
            work_dir,
            TRIALS,
            num_trials_per_iter=BATCH,
            builder=WarmBuilder(),
            runner=WarmRunner(),
            cost_model=ClockedModel(model),
            strategy=Clocked(search_of(run, model)),
            seed=seed,
        )
        wall_s = time.perf_counter() - start
        records = database.get_all_tuning_records()
        winners = [record_text(record) for record in best_of(records)]
    return {
        "winners": winners,
        "wall_s": wall_s,
        "search_s": spent["search"],
        "learn_s": spent["learn"],
        "trials": len(records),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))))
