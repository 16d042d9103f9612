"""Networks and databases for the tests of fusing, building and running; made once a process."""

from functools import cache

from tvm_integration.compat import Target, meta_schedule
from tvm_integration.compile.build import FusedNetwork, FusedTask, fuse
from tvm_integration.frontends.load import Network, load_network

TARGET = Target({"kind": "llvm", "num-cores": 2, "opt-level": 0})
"""For what is built: a network takes LLVM a twentieth of the time when it does not optimize."""


@cache
def network(model: str) -> Network:
    return load_network(model, seed=0)


@cache
def fused(model: str) -> FusedNetwork:
    return fuse(network(model).module, TARGET)


def sample_record(task: FusedTask, *, seed: int = 1):
    """Return a record with a random schedule of the kind that tuning finds, unmeasured."""
    context = meta_schedule.TuneContext(
        mod=task.mod,
        target=TARGET,
        space_generator="post-order-apply",
        search_strategy="evolutionary",
        task_name=task.name,
        rand_state=seed,
        num_threads=1,
    )
    # The last sketch tiles the most.
    for schedule in reversed(context.generate_design_space()):
        if all(step.apply(schedule) for step in context.space_generator.postprocs):
            info = meta_schedule.arg_info.ArgInfo.from_entry_func(schedule.mod, True)
            workload = meta_schedule.database.Workload(task.mod)
            return meta_schedule.database.TuningRecord(
                schedule.trace, workload, [1e-3], TARGET, info
            )
    raise AssertionError(f"no valid schedule of {task.name} in this sample: change the seed")


def commit(database, task: FusedTask, *, run_s: float = 1e-3, seed: int = 1) -> None:
    record = sample_record(task, seed=seed)
    workload = database.commit_workload(task.mod)
    database.commit_tuning_record(
        meta_schedule.database.TuningRecord(
            record.trace, workload, [run_s], record.target, record.args_info
        )
    )


@cache
def sampled_database(model: str):
    """Return a database with one record of every task of a network."""
    database = meta_schedule.database.MemoryDatabase()
    for number, task in enumerate(fused(model).tasks):
        commit(database, task, seed=number + 1)
    return database
