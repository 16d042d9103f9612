"""Decisions -> programs: applied, post-processed, each once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodels.kernel import IndexArray
from tvm_integration.compat import IRModule, MeasureCandidate, Schedule, Trace, meta_schedule, tvm
from tvm_integration.identity import program_hash
from tvm_integration.tune.search.sketch import Sketch

_INAPPLICABLE = (ValueError, RuntimeError, TypeError, tvm.error.InternalError)
"""What TVM raises where a trace does not fit."""


@dataclass(frozen=True, eq=False)
class Program:
    """A program of a sketch.

    Parameters
    ----------
    sketch : str
        Its key.
    decisions : numpy.ndarray
        int64 [variables]; as they came out.
    candidate : MeasureCandidate
        What TVM measures and models score.
    identity : int
        See `tvm_integration.identity.program_hash`.
    """

    sketch: str
    decisions: IndexArray
    candidate: MeasureCandidate
    identity: int


class ProgramMaker:
    """Applies decisions to a workload, on several threads.

    Parameters
    ----------
    mod : IRModule
        The workload.
    postprocessors : sequence of Postproc
        Each must accept a program.
    threads : int
        How many; TVM gives Python's lock free while it applies a trace.
    rng : numpy.random.Generator
        Draws the seeds of what TVM decides itself.
    """

    def __init__(
        self,
        mod: IRModule,
        postprocessors: Sequence[Any],
        threads: int,
        rng: np.random.Generator,
    ) -> None:
        self._mod = mod
        self._postprocessors = list(postprocessors)
        self._threads = threads
        self._rng = rng
        self._known: set[int] = set()
        self.refused = 0
        """Decisions that do not fit, or whose program a post-processor refuses."""
        self.repeated = 0
        """Decisions whose program was made before."""

    def make(self, wanted: Sequence[tuple[Sketch, IndexArray]]) -> list[Program]:
        """Make the programs of some decisions that were not made before, in order.

        Parameters
        ----------
        wanted : sequence of (Sketch, numpy.ndarray)
            And the decisions [variables].
        """
        traces = [sketch.trace(decisions) for sketch, decisions in wanted]
        seeds = self._rng.integers(1, 2**30, size=len(traces)).tolist()
        with ThreadPoolExecutor(self._threads) as pool:
            applied = list(pool.map(self._apply, traces, seeds))
        found = []
        for (sketch, _), schedule in zip(wanted, applied, strict=True):
            program = self._program(sketch, schedule)
            if program is not None:
                found.append(program)
        return found

    def _apply(self, trace: Trace, seed: int) -> Schedule | None:
        schedule = Schedule(self._mod, seed=seed, error_render_level="none")
        try:
            trace.apply_to_schedule(schedule, remove_postproc=True)
            schedule.enter_postproc()
            if all(each.apply(schedule) for each in self._postprocessors):
                return schedule
        except _INAPPLICABLE:
            pass
        return None

    def _program(self, sketch: Sketch, schedule: Schedule | None) -> Program | None:
        """Register it; None for one that was made before or that is none."""
        decisions = None if schedule is None else sketch.read(schedule.trace)
        if schedule is None or decisions is None:
            self.refused += 1
            return None
        identity = program_hash(schedule)
        if identity in self._known:
            self.repeated += 1
            return None
        self._known.add(identity)
        # Of the program: with weight prepacking it takes its weights in another shape.
        arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(schedule.mod)
        return Program(sketch.key, decisions, MeasureCandidate(schedule, arguments), identity)
