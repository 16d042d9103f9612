"""One network in a process of its own: imported, fused, built once, measured whenever asked.

Importing networks by the hundred leaves memory behind, and what one of them does to a process
concerns no other.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costmodels.cores import usable_cpus
from costmodels.errors import CostModelError, InputError
from costmodels.json_text import from_values, parse_json
from costmodels.networks.fused_graph import FusedGraph
from tvm_integration.foreign_errors import one_line
from tvm_integration.identity import task_key, trace_text
from tvm_integration.workers.child import start_child

if TYPE_CHECKING:
    from tvm_integration.compat import Target
    from tvm_integration.compile.fusion import FusedNetwork
    from tvm_integration.tune.zero_trial import ChosenSchedule

READY_TIMEOUT_S = 1800.0
"""After which a network that is not built yet is given up; a search by a model takes minutes."""
TUNED_TIMEOUT_S = 4 * 3600.0
"""Likewise, where its kernels are tuned."""
MEASURE_TIMEOUT_S = 120.0
GOODBYE_TIMEOUT_S = 2.0
"""After which a process that was told to end is killed."""
END_TIMEOUT_S = 5.0
"""Between the end of a connection and that of its process."""
TUNED_BATCH = 16
"""Programs of a kernel that are measured at a time."""
SLOWEST_S = 2.0
"""Of a network that is measured; slower ones would hold up all others."""


@dataclass(frozen=True)
class BuiltKernel:
    """A kernel of a network that was built.

    Attributes
    ----------
    name : str
        TVM's name for it.
    weight : int
        How often it is called.
    workload : str
        TVM's JSON of the task.
    trace : str
        Of the program it was built with, as TVM's JSON; of an unscheduled one it is empty.
    """

    name: str
    weight: int
    workload: str
    trace: str


@dataclass(frozen=True)
class Tuning:
    """How a network's kernels are tuned before it is built.

    Attributes
    ----------
    work_dir : str
        Keeps what is measured: a run that was killed goes on.
    trials_each : int
        Of each kernel above 1 % of the network.
    """

    work_dir: str
    trials_each: int


@dataclass(frozen=True)
class KnownProgram:
    """A program of a kernel, as a data set has it.

    Attributes
    ----------
    workload : str
        TVM's JSON of the task that its trace was made for.
    trace : str
        As TVM's JSON.
    """

    workload: str
    trace: str


@dataclass(frozen=True)
class NetworkDescription:
    """What a process tells of its network once it is built.

    Attributes
    ----------
    graph : FusedGraph
        Launches; kernels by TVM's name.
    kernels : tuple of BuiltKernel
        Each once.
    footprint_bytes : int
        What one run of it touches.
    """

    graph: FusedGraph
    kernels: tuple[BuiltKernel, ...]
    footprint_bytes: int


class NetworkProcess:
    """Builds a network and measures it; a context manager.

    Parameters
    ----------
    model : str
        As `costmodels tune` takes it.
    target : str
        As TVM's JSON.
    schedules_by : str, optional
        A trained model that chooses schedules; by default kernels are unscheduled.
    programs : mapping, optional
        Instead of a model: key of a task -> the program that it is built with; others are
        unscheduled.
    fused : bool
        Whether operators are fused.
    as_tuned : bool
        Fuse as `costmodels tune` does: with vector math, and weights that can be rearranged.
    tuning : Tuning, optional
        Instead of a model: tune the kernels.
    seed : int
        Of weights, inputs and search.

    Raises
    ------
    InputError
        When the network cannot be imported, fused or built, or runs for more than two seconds.
    CostModelError
        When the process ended or did not answer.
    """

    def __init__(
        self,
        model: str,
        target: str,
        *,
        schedules_by: str | None = None,
        programs: Mapping[str, KnownProgram] | None = None,
        fused: bool = True,
        as_tuned: bool = False,
        tuning: Tuning | None = None,
        seed: int = 0,
    ) -> None:
        order = BuildRequest(
            model,
            target,
            schedules_by,
            dict(programs or {}),
            fused,
            seed,
            usable_cpus(),
            as_tuned,
            tuning,
        )
        self._process, self._connection = start_child(__name__)
        try:
            self._connection.send(order)
            values = self._answer(READY_TIMEOUT_S if tuning is None else TUNED_TIMEOUT_S)
        except BaseException:
            self.close()
            raise
        self.description = NetworkDescription(
            FusedGraph.from_json(values["graph"]),
            from_values(tuple[BuiltKernel, ...], values["kernels"], "kernels"),
            values["footprint_bytes"],
        )

    def measure_s(self, repeat: int) -> list[float]:
        """Seconds of so many repeats, at least 100 ms each."""
        with contextlib.suppress(OSError):  # it has ended: then there is no answer, either
            self._connection.send(repeat)
        found: list[float] = self._answer(MEASURE_TIMEOUT_S)
        return found

    def _answer(self, limit_s: float) -> Any:
        try:
            if not self._connection.poll(limit_s):
                raise CostModelError(f"a network must answer within {limit_s:g} s, got nothing")
            kind, value = self._connection.recv()
        except (EOFError, OSError):
            code = self._wait(END_TIMEOUT_S)
            raise CostModelError(f"the process of a network must live, got exit {code}") from None
        if kind == "refused":
            raise InputError(value)
        return value

    def close(self) -> None:
        """End the process."""
        self._connection.close()  # it hears of that when it waits for orders
        if self._wait(GOODBYE_TIMEOUT_S) is None:  # it may be building
            self._process.kill()
            self._process.wait()

    def _wait(self, limit_s: float) -> int | None:
        """Its exit code; None while it lives."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(limit_s)
        return None

    def __enter__(self) -> "NetworkProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class BuildRequest:
    """What a process shall build."""

    model: str
    target: str
    schedules_by: str | None
    programs: Mapping[str, KnownProgram]
    fused: bool
    seed: int
    cpus: frozenset[int]
    as_tuned: bool = False
    tuning: Tuning | None = None


def serve(connection: Connection) -> None:
    """Be the process: tell what was built, then measure as often as asked."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the user's process
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # TVM prints warnings of C++
    os.dup2(quiet, 2)
    try:
        built, inputs, description = _build(connection.recv())
        from tvm_integration.compile.execution import measure_s

        (once,) = measure_s(built, inputs, repeat=1, min_repeat_ms=1)
        if once > SLOWEST_S:
            raise InputError(
                f"it must run within {SLOWEST_S:g} s, got {once:.1f} s: take a smaller one"
            )
        connection.send(("built", description))
        while True:
            connection.send(("measured", measure_s(built, inputs, repeat=connection.recv())))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # who asked has ended
        return
    except Exception as error:  # whatever it is, the other process must hear of it
        reason = str(error) if isinstance(error, CostModelError) else one_line(error)
        connection.send(("refused", reason))


def _build(order: BuildRequest) -> tuple[Any, Any, Mapping[str, Any]]:
    from tvm_integration.compat import Target, save_json
    from tvm_integration.compile.build import build, fuse
    from tvm_integration.compile.fused_graph import fused_graph
    from tvm_integration.compile.vector_math import with_vector_math
    from tvm_integration.frontends.load import load_network
    from tvm_integration.threads import set_threads, thread_count

    parsed = Target(parse_json(order.target))
    os.sched_setaffinity(0, order.cpus)  # the thread that started this process may be bound
    set_threads(thread_count(parsed))
    network = load_network(order.model, seed=order.seed)
    fused = fuse(network.module, parsed, prepack_weights=order.as_tuned, fuse_operators=order.fused)
    if order.as_tuned:
        fused = with_vector_math(fused)
    traces: dict[str, str] = {}
    database = None
    if order.tuning is not None:
        database, traces = _tuned(order, order.tuning, fused)
    elif order.schedules_by is not None or order.programs:
        from tvm_integration.tune.zero_trial import schedule_database

        chosen = _chosen(order, fused, parsed)
        database = schedule_database(fused.tasks, chosen)
        traces = {
            name: trace_text(each.trace) for name, each in chosen.items() if each.trace is not None
        }
    built = build(fused, database)
    kernels = [
        {
            "name": task.name,
            "weight": task.weight,
            "workload": save_json(task.mod),
            "trace": traces.get(task.name, ""),
        }
        for task in fused.tasks
    ]
    description = {
        "graph": fused_graph(fused).as_json(),
        "kernels": kernels,
        "footprint_bytes": fused.footprint_bytes,
    }
    return built, network.inputs, description


def _tuned(
    order: BuildRequest, tuning: Tuning, fused: "FusedNetwork"
) -> tuple[Any, dict[str, str]]:
    """Tune the kernels: a database of the programs to build with, and their traces by name."""
    from tvm_integration.tune.network_timing import fastest_record
    from tvm_integration.tune.session import tune_kernels
    from tvm_integration.tune.state import TuneOptions

    options = TuneOptions(
        work_dir=Path(tuning.work_dir),
        trials_each=tuning.trials_each,
        trials_per_iter=TUNED_BATCH,
        seed=order.seed,
        library=False,  # what it leads to must not hang on what was tuned before
    )
    asked_by = os.getppid()

    def end_if_orphaned(_: object) -> None:
        # It reads no orders for minutes, and so does not hear that nobody waits any more.
        if os.getppid() != asked_by:
            os._exit(1)

    _, database = tune_kernels(fused, options, end_if_orphaned)
    records = {task.name: fastest_record(database, task.mod) for task in fused.tasks}
    return database, {
        name: trace_text(record.trace) for name, record in records.items() if record is not None
    }


def _chosen(
    order: BuildRequest, fused: "FusedNetwork", target: "Target"
) -> dict[str, "ChosenSchedule"]:
    """What kernels are built with, by name: as a model chooses, or as a data set has them."""
    from tvm_integration.compat import save_json
    from tvm_integration.records.rows import schedule_of, trace_for
    from tvm_integration.tune.cost_model import MetaScheduleCostModel
    from tvm_integration.tune.zero_trial import QUICK_EFFORT, ChosenSchedule, choose_schedules

    if order.schedules_by is not None:
        cost_model = MetaScheduleCostModel(order.schedules_by, seed=order.seed)
        return choose_schedules(
            fused.tasks,
            target,
            cost_model,
            seed=order.seed,
            effort=QUICK_EFFORT,
            library=False,  # what is collected judges models, which have not measured anything
        )
    found = {}
    for task in fused.tasks:
        program = order.programs.get(task_key(task.mod, target))
        if program is not None:
            trace = trace_for(program.trace, program.workload, save_json(task.mod))
            found[task.name] = ChosenSchedule(schedule_of(task.mod, trace).trace, None)
    return found


def by_key(graph: FusedGraph, keys: Mapping[str, str]) -> FusedGraph:
    """The same graph, its kernels called by the keys of their tasks."""
    return FusedGraph(
        tuple(replace(each, name=keys.get(each.name, each.name)) for each in graph.launches)
    )
