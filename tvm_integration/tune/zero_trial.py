"""Schedules chosen by a cost model alone: nothing is measured, and nothing enters a database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvm_integration.compat import (
    MeasureCandidate,
    Schedule,
    Target,
    Trace,
    meta_schedule,
    structural_hash,
)
from tvm_integration.compile.fusion import FusedTask
from tvm_integration.tune.cost_model import MetaScheduleCostModel
from tvm_integration.tune.search.asking import search_candidates
from tvm_integration.tune.search.strategy import Effort, SketchSearch

EFFORT = Effort(first=256, rounds=10, per_round=64, parents=64, fresh=0.0, far=0.0)
"""More than of a search that is corrected by measurements."""
QUICK_EFFORT = Effort(first=48, rounds=3, per_round=24, fresh=0.0, far=0.0)
"""For dozens of networks: a seventh of the programs."""


@dataclass(frozen=True)
class ChosenSchedule:
    """What the model takes for the best program of a kernel.

    Attributes
    ----------
    trace : Trace, optional
        None where nothing is predicted to be faster than the unscheduled program.
    predicted_s : float, optional
        Its latency; None from a model without seconds. It was not measured.
    """

    trace: Trace | None
    predicted_s: float | None


def choose_schedules(
    tasks: Sequence[FusedTask],
    target: Target,
    cost_model: MetaScheduleCostModel,
    *,
    seed: int = 0,
    effort: Effort | None = None,
    library: bool = True,
    on_kernel: Callable[[int], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, ChosenSchedule]:
    """Search the design space of each kernel by a model alone.

    Parameters
    ----------
    tasks : sequence of FusedTask
        The kernels.
    target : Target
        What they are for.
    cost_model : MetaScheduleCostModel
        One that has learned.
    seed : int
        Of the search.
    effort : Effort, optional
        `EFFORT` by default.
    library : bool
        Judge the best known schedules of the same and of similar kernels, too.
    on_kernel : callable
        Told how many kernels are done.
    should_stop : callable
        Asked before each kernel.

    Returns
    -------
    dict
        Name of a kernel -> what was chosen; kernels that were not reached are left out.
    """
    found: dict[str, ChosenSchedule] = {}
    rng = np.random.default_rng(seed)
    search = SketchSearch(effort or EFFORT, library=library)
    for number, task in enumerate(tasks):
        if should_stop():
            break
        own_seed = int(rng.integers(1, 2**30))
        found[task.name] = _choose(task, target, cost_model, search, own_seed)
        on_kernel(number + 1)
    return found


def _choose(
    task: FusedTask,
    target: Target,
    cost_model: MetaScheduleCostModel,
    search: SketchSearch,
    seed: int,
) -> ChosenSchedule:
    context = meta_schedule.TuneContext(
        mod=task.mod,
        target=target,
        space_generator="post-order-apply",
        search_strategy=search,
        task_name=task.name,
        rand_state=seed,
    ).clone()
    spaces = context.generate_design_space()
    database = meta_schedule.database.MemoryDatabase()  # stays empty
    context.pre_tuning(1, 1, spaces, database, cost_model)
    try:
        candidates = search_candidates(context.generate_measure_candidates, task.name) or []
    finally:
        context.post_tuning()
    unscheduled = MeasureCandidate(Schedule(task.mod), [])
    everything = [unscheduled, *candidates]
    utility, seconds = cost_model.tuning.scores.predict(context, everything)
    best = int(np.argmax(utility))
    predicted_s = None if seconds is None else float(seconds[best])
    return ChosenSchedule(None if best == 0 else everything[best].sch.trace, predicted_s)


def schedule_database(
    tasks: Sequence[FusedTask], chosen: Mapping[str, ChosenSchedule]
) -> meta_schedule.database.ScheduleFnDatabase:
    """What TVM's passes ask for schedules: it applies those chosen, and holds no times.

    Parameters
    ----------
    tasks : sequence of FusedTask
        The kernels.
    chosen : mapping
        From `choose_schedules`.
    """
    traces = {
        int(structural_hash(task.mod["main"])): chosen[task.name].trace
        for task in tasks
        if task.name in chosen
    }

    def apply(schedule: Any) -> bool:
        # Of the function: TVM writes the name of the task into the module.
        trace = traces.get(int(structural_hash(schedule.mod["main"])))
        if trace is None:
            return False
        trace.apply_to_schedule(schedule, remove_postproc=False)
        return True

    return meta_schedule.database.ScheduleFnDatabase(apply)
