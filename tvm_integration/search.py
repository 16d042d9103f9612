"""Evolutionary search that never measures a program twice, also not after a restart."""

from collections.abc import Sequence
from typing import Any

from tvm_ffi import structural_hash

from tvm_integration.compat import (
    MeasureCandidate,
    PySearchStrategy,
    RunnerResult,
    Schedule,
    derived_object,
    meta_schedule,
)
from tvm_integration.work_dir import replay

ATTEMPTS = 3
"""Batches asked for when all programs of one were measured before."""


def program_hash(schedule: Schedule) -> int:
    """Identity of a scheduled program; equal programs reached by other traces have the same."""
    return int(structural_hash(schedule.mod))


def measured_programs(records: Sequence[meta_schedule.database.TuningRecord]) -> set[int]:
    """Identities of the programs of a database's records.

    Parameters
    ----------
    records : sequence of TuningRecord
        Those whose trace no longer applies are left out.
    """
    return {program_hash(c.sch) for _, c in replay(records) if c is not None}


@derived_object
class UnmeasuredSearch(PySearchStrategy):
    """TVM's evolutionary search without programs that were measured in an earlier run.

    TVM's own set of measured programs begins empty, so that a resumed run would measure the best
    of the database again.

    Parameters
    ----------
    measured : set of int
        From `measured_programs`; not changed.
    **evolution : Any
        Parameters of TVM's `EvolutionarySearch`.
    """

    def __init__(self, measured: set[int], **evolution: Any) -> None:
        super().__init__()
        self._measured = measured
        self._evolution = evolution
        self._inner = meta_schedule.search_strategy.EvolutionarySearch(**evolution)

    def _initialize_with_tune_context(self, context: meta_schedule.TuneContext) -> None:
        self._inner._initialize_with_tune_context(context)

    def pre_tuning(
        self,
        max_trials: int,
        num_trials_per_iter: int,
        design_spaces: list[Schedule],
        database: Any = None,
        cost_model: Any = None,
    ) -> None:
        """Hand on; called by TVM."""
        self._inner.pre_tuning(max_trials, num_trials_per_iter, design_spaces, database, cost_model)

    def post_tuning(self) -> None:
        """Hand on; called by TVM."""
        self._inner.post_tuning()

    def generate_measure_candidates(self) -> list[MeasureCandidate] | None:
        """Search for a batch; called by TVM.

        Returns
        -------
        list of MeasureCandidate or None
            None when the space is exhausted.
        """
        for _ in range(ATTEMPTS):
            candidates = self._inner.generate_measure_candidates()
            if candidates is None or not len(candidates):
                return candidates
            new = [c for c in candidates if program_hash(c.sch) not in self._measured]
            if new:
                return new
        return None

    def notify_runner_results(
        self, measure_candidates: list[MeasureCandidate], results: list[RunnerResult]
    ) -> None:
        """Hand on; called by TVM."""
        self._inner.notify_runner_results(measure_candidates, results)

    def clone(self) -> "UnmeasuredSearch":
        """A fresh search with the same parameters."""
        return UnmeasuredSearch(self._measured, **self._evolution)
