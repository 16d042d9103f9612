"""Small tasks with candidates, for tests that need no measuring."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from tvm_integration.compat import (
    IRModule,
    MeasureCandidate,
    RunnerResult,
    Schedule,
    Target,
    meta_schedule,
    tvm,
)

TARGET = Target({"kind": "llvm", "mcpu": "haswell", "num-cores": 2})
te = tvm.te


def matmul(size: int = 64, dtype: str = "float32", name: str = "C", inputs: str = "AB") -> IRModule:
    a, b = (te.placeholder((size, size), dtype, name=letter) for letter in inputs)
    k = te.reduce_axis((0, size), name="k")
    sum_type = "int32" if dtype == "int8" else dtype

    def body(i, j):
        return te.sum(a[i, k].astype(sum_type) * b[k, j].astype(sum_type), axis=k)

    return IRModule(
        {"main": te.create_prim_func([a, b, te.compute((size, size), body, name=name)])}
    )


def relu(size: int = 256) -> IRModule:
    a = te.placeholder((size, size), name="A")
    b = te.compute((size, size), lambda i, j: te.max(a[i, j], tvm.tirx.const(0.0)), name="B")
    return IRModule({"main": te.create_prim_func([a, b])})


def full(size: int = 64) -> IRModule:
    """Writes a constant: TVM's extractor gives no row for it."""
    a = te.placeholder((size,), name="A")
    b = te.compute((size,), lambda i: tvm.tirx.const(1.0, "float32"), name="B")
    return IRModule({"main": te.create_prim_func([a, b])})


@dataclass(frozen=True)
class SearchTask:
    context: meta_schedule.TuneContext
    candidates: list[MeasureCandidate]


def candidate(module: IRModule) -> MeasureCandidate:
    """The unscheduled program, without a trace."""
    arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(module, remove_preproc=True)
    return MeasureCandidate(Schedule(module, enable_check=False), arguments)


@cache
def random_candidates(kind: str = "matmul", count: int = 24) -> SearchTask:
    """Random schedules of a task, with its context."""
    return draw({"matmul": matmul, "relu": relu}[kind](), count=count, name=kind)


def draw(module: IRModule, target: Target = TARGET, *, count: int, name: str = "x") -> SearchTask:
    """Random schedules of a module."""
    context = meta_schedule.TuneContext(
        mod=module,
        target=target,
        space_generator="post-order-apply",
        search_strategy=meta_schedule.search_strategy.ReplayTrace(),
        task_name=name,
        rand_state=3,
        num_threads=2,
    ).clone()
    context.pre_tuning(
        count,
        count,
        context.generate_design_space(),
        meta_schedule.database.MemoryDatabase(),
        meta_schedule.cost_model.RandomModel(),
    )
    return SearchTask(context, list(context.generate_measure_candidates()))


def context_for(module: IRModule, name: str = "task") -> meta_schedule.TuneContext:
    return meta_schedule.TuneContext(mod=module, target=TARGET, task_name=name, num_threads=2)


def made_up_results(count: int, seed: int = 0) -> list[RunnerResult]:
    times = np.random.default_rng(seed).uniform(1e-4, 1e-2, size=count)
    return [RunnerResult([float(t), float(t) * 1.01], None) for t in times]


def write_database(work_dir, task, results, target=TARGET):
    database = meta_schedule.database.JSONDatabase(work_dir=str(work_dir))
    workload = database.commit_workload(task.context.mod)
    for chosen, result in zip(task.candidates, results, strict=True):
        times = [1e10] if result.run_secs is None else result.run_secs
        database.commit_tuning_record(
            meta_schedule.database.TuningRecord(
                chosen.sch.trace, workload, times, target, chosen.args_info
            )
        )
