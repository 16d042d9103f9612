"""Evolutionary search that never measures a program twice, also not after a restart."""

from collections.abc import Callable
from typing import Any

from tvm_integration.compat import (
    MeasureCandidate,
    PySearchStrategy,
    RunnerResult,
    Schedule,
    derived_object,
    meta_schedule,
)
from tvm_integration.identity import program_hash, record_hash
from tvm_integration.tune.search.asking import search_candidates

RANDOM_POPULATION = 128
"""Programs drawn to choose a batch from when nothing is known of them."""
ATTEMPTS = 3
"""Batches asked for when all programs of one were measured before."""


@derived_object
class UnrepeatedSearch(PySearchStrategy):
    """TVM's evolutionary search without programs that were measured in an earlier run.

    TVM's own set of measured programs begins empty, so that a resumed run would measure the best
    of the database again. While the cost model has learned nothing, candidates are drawn at
    random: evolution by even scores would only take time.

    Parameters
    ----------
    measured : set of int
        From `measured_programs`; not changed.
    is_informed : callable
        Whether the cost model has learned anything.
    trials_left : callable
        How many candidates may still be measured; larger batches are cut.
    on_failed : callable
        Told the name of a kernel that TVM cannot search.
    **evolution : Any
        Parameters of TVM's `EvolutionarySearch`.
    """

    def __init__(
        self,
        measured: set[int],
        is_informed: Callable[[], bool],
        trials_left: Callable[[], int],
        on_failed: Callable[[str], None] = lambda _: None,
        **evolution: Any,
    ) -> None:
        super().__init__()
        self._on_failed = on_failed
        self._measured = set(measured)
        self._is_informed = is_informed
        self._trials_left = trials_left
        self._evolution = evolution
        self._random = meta_schedule.search_strategy.EvolutionarySearch(
            population_size=RANDOM_POPULATION, genetic_num_iters=0
        )
        self._evolving = meta_schedule.search_strategy.EvolutionarySearch(**evolution)

    def _initialize_with_tune_context(self, context: meta_schedule.TuneContext) -> None:
        self._mod, self._name = context.mod, context.task_name
        for search in (self._random, self._evolving):
            search._initialize_with_tune_context(context)

    def pre_tuning(
        self,
        max_trials: int,
        num_trials_per_iter: int,
        design_spaces: list[Schedule],
        database: Any = None,
        cost_model: Any = None,
    ) -> None:
        """Hand on; called by TVM."""
        for search in (self._random, self._evolving):
            search.pre_tuning(max_trials, num_trials_per_iter, design_spaces, database, cost_model)

    def post_tuning(self) -> None:
        """Hand on; called by TVM."""
        for search in (self._random, self._evolving):
            search.post_tuning()

    def generate_measure_candidates(self) -> list[MeasureCandidate] | None:
        """Search for a batch; called by TVM.

        Returns
        -------
        list of MeasureCandidate or None
            None when the space is exhausted.
        """
        search = self._evolving if self._is_informed() else self._random
        for _ in range(ATTEMPTS):
            candidates = search_candidates(
                search.generate_measure_candidates, self._name, self._on_failed
            )
            if candidates is None:
                return None
            new = [c for c in candidates if self._is_new(c.sch)][: self._trials_left()]
            if new:
                return new
        return None

    def _is_new(self, schedule: Schedule) -> bool:
        identities = {program_hash(schedule), record_hash(self._mod, schedule.trace)}
        if identities & self._measured:
            return False
        self._measured |= identities
        return True

    def notify_runner_results(
        self, measure_candidates: list[MeasureCandidate], results: list[RunnerResult]
    ) -> None:
        """Hand on; called by TVM."""
        for search in (self._random, self._evolving):
            search.notify_runner_results(measure_candidates, results)

    def clone(self) -> "UnrepeatedSearch":
        """A fresh search with the same parameters."""
        return UnrepeatedSearch(
            self._measured,
            self._is_informed,
            self._trials_left,
            self._on_failed,
            **self._evolution,
        )
