"""`SketchSearch`: a search strategy for MetaSchedule that makes few programs, each for a reason.

TVM's evolution applies a trace, and asks the cost model, for each of thousands of programs. Here
they are drawn and mutated as rows of decisions; a regression of what the cost model said of others
sifts them; and only those that promise most become programs, which the cost model judges.
"""

from collections.abc import Callable, Collection
from typing import Any

from costmodels.checks import require_type
from tvm_integration.compat import (
    MeasureCandidate,
    PySearchStrategy,
    RunnerResult,
    Schedule,
    derived_object,
    meta_schedule,
)
from tvm_integration.records.schedule_library import ScheduleLibrary
from tvm_integration.tune.search.asking import search_candidates
from tvm_integration.tune.search.padding import padded_spaces
from tvm_integration.tune.search.task_search import DEFAULT_EFFORT, Effort, TaskSearch

__all__ = ["DEFAULT_EFFORT", "Effort", "SketchSearch"]


@derived_object
class SketchSearch(PySearchStrategy):
    """Searches a design space over its decisions; never gives a program twice.

    Works with any cost model of MetaSchedule. While that gives all programs the same score, as one
    that has learned nothing does, programs are drawn at random.

    Parameters
    ----------
    effort : Effort
        How much is searched for a batch.
    measured : collection of int
        Programs that were measured in earlier runs, from `measured_programs`.
    trials_left : callable, optional
        How many candidates may still be measured; larger batches are cut.
    on_failed : callable
        Told the name of a kernel that TVM cannot search.
    library : ScheduleLibrary or bool
        Known schedules to begin with, to which the best that are measured are added: by default
        those that ship and those of this user's runs of `costmodels tune`; none with False. A
        ``ScheduleLibrary(grows=True)`` keeps what is measured for later runs.
    """

    def __init__(
        self,
        effort: Effort = DEFAULT_EFFORT,
        measured: Collection[int] = (),
        trials_left: Callable[[], int] | None = None,
        on_failed: Callable[[str], None] = lambda _: None,
        library: ScheduleLibrary | bool = True,
    ) -> None:
        super().__init__()
        require_type("effort", effort, Effort)
        require_type("library", library, ScheduleLibrary | bool)
        self._library = library
        self._effort = effort
        self._measured = frozenset(measured)
        self._trials_left = trials_left
        self._on_failed = on_failed
        self._begin: Callable[[], TaskSearch] | None = None
        self._search: TaskSearch | None = None

    def _initialize_with_tune_context(self, context: meta_schedule.TuneContext) -> None:
        self._context = context

    def pre_tuning(
        self,
        max_trials: int,
        num_trials_per_iter: int,
        design_spaces: list[Schedule],
        database: Any = None,
        cost_model: Any = None,
    ) -> None:
        """Begin; called by TVM."""
        self._left, self._batch = int(max_trials), int(num_trials_per_iter)
        spaces = list(design_spaces)

        def begin() -> TaskSearch:
            if self._library is True:
                self._library = ScheduleLibrary()
            library = self._library or None
            search = TaskSearch(
                self._context,
                [*spaces, *padded_spaces(self._context)],
                cost_model,
                self._effort,
                self._measured,
                library,
            )
            if database is not None:
                search.begin_with(database)
            return search

        self._begin, self._search = begin, None

    def post_tuning(self) -> None:
        """Forget the programs; called by TVM."""
        self._begin = self._search = None

    def generate_measure_candidates(self) -> list[MeasureCandidate] | None:
        """Search for a batch; called by TVM.

        Returns
        -------
        list of MeasureCandidate or None
            None when the space or the trials are exhausted, and when TVM fails on the kernel.
        """
        begin = self._begin
        if begin is None:
            return None
        count = min(self._batch, self._left)
        if self._trials_left is not None:
            count = min(count, int(self._trials_left()))
        if count <= 0:
            return None

        def ask() -> list[MeasureCandidate]:
            if self._search is None:
                self._search = begin()
            return self._search.batch(count)

        found = search_candidates(ask, str(self._context.task_name), self._on_failed) or []
        self._left -= len(found)
        return found or None

    def notify_runner_results(
        self, measure_candidates: list[MeasureCandidate], results: list[RunnerResult]
    ) -> None:
        """Learn which programs were fast; called by TVM."""
        if self._search is not None:
            self._search.learn(measure_candidates, results)

    def clone(self) -> "SketchSearch":
        """A fresh search with the same parameters."""
        if self._library is True:
            self._library = ScheduleLibrary()  # read once for all kernels
        return SketchSearch(
            self._effort, self._measured, self._trials_left, self._on_failed, self._library
        )
