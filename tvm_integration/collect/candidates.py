"""Programs of a task to measure: the unscheduled one, random ones, mutations of good ones."""

from collections.abc import Sequence

import numpy as np

from tvm_integration.compat import (
    IRModule,
    MeasureCandidate,
    Schedule,
    Target,
    Trace,
    meta_schedule,
    tvm,
)
from tvm_integration.identity import program_hash
from tvm_integration.tune.search.asking import search_candidates

THREADS_PER_BLOCK = 256
"""Of the unscheduled program on a GPU."""
_DRAWS_AT_ONCE = 8
_FUTILE_DRAWS = 12
"""Draws in a row without a new program after which a space counts as exhausted."""
_TRIES_PER_MUTATION = 8


class CandidateSource:
    """Draws programs of one task; never gives the same program twice.

    Parameters
    ----------
    mod : IRModule
        The task: one function `main`.
    target : Target
        What it is for.
    name : str
        Of the task, for TVM's log.
    rng : numpy.random.Generator
        Draws the seeds.
    known : iterable of int, optional
        Hashes of programs not to give.
    """

    def __init__(
        self,
        mod: IRModule,
        target: Target,
        *,
        name: str,
        rng: np.random.Generator,
        known: Sequence[int] = (),
    ) -> None:
        self.context = meta_schedule.TuneContext(
            mod=mod,
            target=target,
            space_generator="post-order-apply",
            search_strategy=meta_schedule.search_strategy.ReplayTrace(),
            task_name=name,
            rand_state=int(rng.integers(1, 2**30)),
        ).clone()
        self.is_exhausted = False
        self._rng = rng
        self._seen = set(known)
        self._spaces = self.context.generate_design_space()
        self._is_drawing = False

    def default(self) -> list[MeasureCandidate]:
        """The program as TVM builds it without a schedule; empty if it was given before.

        Plain loops on a CPU; on a GPU the spatial loops of each stage bound to threads.
        """
        schedule = Schedule(self.context.mod, enable_check=False)
        if "gpu" in self.context.target.keys:
            _bind_threads(schedule)
        return self._new([schedule])

    def random(self, count: int) -> list[MeasureCandidate]:
        """Random points of the design space.

        Parameters
        ----------
        count : int
            How many are wanted; fewer when the space has no more.
        """
        found: list[MeasureCandidate] = []
        futile = 0
        while len(found) < count and futile < _FUTILE_DRAWS:
            new = self._new([candidate.sch for candidate in self._draw()])
            futile = 0 if new else futile + 1
            found += new
        self.is_exhausted = futile == _FUTILE_DRAWS
        self.give_back(found[count:])
        return found[:count]

    def give_back(self, candidates: Sequence[MeasureCandidate]) -> None:
        """Allow programs that were not used to be given again."""
        self._seen -= {program_hash(candidate.sch) for candidate in candidates}

    def _draw(self) -> list[MeasureCandidate]:
        if not self._is_drawing:
            self.context.pre_tuning(
                2**30,
                _DRAWS_AT_ONCE,
                self._spaces,
                meta_schedule.database.MemoryDatabase(),
                meta_schedule.cost_model.RandomModel(),
            )
            self._is_drawing = True
        return (
            search_candidates(self.context.generate_measure_candidates, self.context.task_name)
            or []
        )

    def mutations(self, traces: Sequence[Trace], count: int) -> list[MeasureCandidate]:
        """Programs one decision away from given ones.

        Parameters
        ----------
        traces : sequence of Trace
            Of the programs to mutate, each as likely as the others.
        count : int
            How many are wanted; fewer when mutations fail or lead to known programs.
        """
        mutators = self.context.space_generator.mutator_probs
        if not traces or not mutators:
            return []
        kinds = list(mutators)
        weights = np.array([float(mutators[kind]) for kind in kinds])
        found: list[MeasureCandidate] = []
        for _ in range(_TRIES_PER_MUTATION * count):
            if len(found) == count:
                break
            kind = kinds[int(self._rng.choice(len(kinds), p=weights / weights.sum()))]
            trace = kind.apply(traces[int(self._rng.integers(len(traces)))])
            schedule = None if trace is None else self._apply(trace)
            if schedule is not None:
                found += self._new([schedule])
        return found

    def _apply(self, trace: Trace) -> Schedule | None:
        """Apply a trace and the postprocessing that every program of the space gets."""
        schedule = Schedule(
            self.context.mod, seed=int(self._rng.integers(1, 2**30)), enable_check=False
        )
        try:
            trace.apply_to_schedule(schedule, remove_postproc=True)
            schedule.enter_postproc()
            if all(each.apply(schedule) for each in self.context.space_generator.postprocs):
                return schedule
        except (ValueError, RuntimeError, TypeError, tvm.error.InternalError):
            pass  # the decision that was changed does not go with another
        return None

    def _new(self, schedules: Sequence[Schedule]) -> list[MeasureCandidate]:
        found = []
        for schedule in schedules:
            program = program_hash(schedule)
            if program not in self._seen:
                self._seen.add(program)
                arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(
                    schedule.mod, remove_preproc=True
                )
                found.append(MeasureCandidate(schedule, arguments))
        return found


def _bind_threads(schedule: Schedule) -> None:
    """Bind the outer spatial loops of each stage, as TVM does for a kernel without a schedule."""
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        spatial = []
        for loop, variable in zip(
            schedule.get_loops(block), schedule.get(block).iter_vars, strict=False
        ):
            if variable.iter_type != tvm.tirx.IterVar.DataPar:
                break
            spatial.append(loop)
        if not spatial:
            spatial = [schedule.add_unit_loop(block)]
        fused = schedule.fuse(*spatial) if len(spatial) > 1 else spatial[0]
        outer, inner = schedule.split(fused, [None, THREADS_PER_BLOCK])
        schedule.bind(outer, "blockIdx.x")
        schedule.bind(inner, "threadIdx.x")
