"""Scores for MetaSchedule's search from any kernel model, and what the model learns on the way.

MetaSchedule uses scores as sampling weights and compares those of different calls. So a score here
is a fixed map of a model's utility: with S the predicted speed-up over the unscheduled program of
the same task, it is S / (S + 1000). That lies in (0, 1), rises with S, is close to proportional to
S, as sampling wants, and depends on nothing but the candidate, its task and the model's state.
"""

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodels.device import Device
from costmodels.kernel import Failure, FloatArray, KernelBatch, Measured, Measurement, Task
from costmodels.metrics import kendall_tau, pair_accuracy, top_k_score
from costmodels.protocol import KernelCostModel
from tvm_integration.compat import (
    MeasureCandidate,
    RunnerResult,
    Schedule,
    meta_schedule,
)
from tvm_integration.identity import task_key
from tvm_integration.measure.outcomes import measurement_of
from tvm_integration.targets import device_of
from tvm_integration.tir.features import FeatureExtractor

logger = logging.getLogger(__name__)

EVEN_SCORE = 0.5
"""Given to every candidate when there is nothing to prefer one by."""
HALF_SCORE_SPEEDUP = 1000.0
"""Predicted speed-up over the unscheduled program at which the score is one half."""


@dataclass(frozen=True, slots=True)
class RoundReport:
    """One batch of measurements, predicted before it was learned.

    Parameters
    ----------
    task : str
        Name of the task.
    measured, failed, dropped : int
        Candidates that ran; that failed; whose times were zero, negative, infinite or no numbers.
    predicted : bool
        Whether the model had learned anything before; without that the metrics are NaN.
    top1, pair_accuracy : float
        See `costmodels.metrics`, over the measured candidates.
    kendall_tau : float
        Likewise, but over all candidates of the task that were predicted before they were measured,
        those of earlier batches too: within a batch of a model's own favorites order is chance.
    """

    task: str
    measured: int
    failed: int
    dropped: int
    predicted: bool
    top1: float
    pair_accuracy: float
    kendall_tau: float


def scores_from_utility(utility: FloatArray, unscheduled: float) -> FloatArray:
    """Map utilities to MetaSchedule's scores.

    Parameters
    ----------
    utility : numpy.ndarray
        [candidates]; in logarithms of speed.
    unscheduled : float
        Utility of the task's unscheduled program.

    Returns
    -------
    numpy.ndarray
        float64 [candidates] in (0, 1].
    """
    distance = np.clip(math.log(HALF_SCORE_SPEEDUP) - (utility - unscheduled), -700.0, 700.0)
    return 1.0 / (1.0 + np.exp(distance))


class CandidateScores:
    """Predicts and learns for a MetaSchedule cost model; never ends a tuning run by an error.

    Parameters
    ----------
    model : KernelCostModel
        Replaced by a copy that learned more at each `learn`.
    device : Device, optional
        What candidates run on; without it found out from each task's target.
    """

    def __init__(self, model: KernelCostModel, device: Device | None = None) -> None:
        self.model = model
        self.reports: list[RoundReport] = []
        self._device = device
        self._extractor = FeatureExtractor()
        self._tasks: dict[str, Task] = {}
        self._unscheduled: dict[str, tuple[KernelCostModel, float]] = {}
        self._reported: set[str] = set()
        self._judged: dict[str, tuple[FloatArray, FloatArray]] = {}

    def score(
        self, context: meta_schedule.TuneContext, candidates: Sequence[MeasureCandidate]
    ) -> FloatArray:
        """Scores of candidates, in (0, 1], higher for faster ones.

        Parameters
        ----------
        context : TuneContext
            The task.
        candidates : sequence of MeasureCandidate
            May be empty.

        Returns
        -------
        numpy.ndarray
            float64 [candidates]; all equal while the model has learned nothing, when its answer
            is of no use, and when it raises.
        """
        even = np.full(len(candidates), EVEN_SCORE)
        task = self._task(context)
        if not self.model.is_fitted or not candidates:
            return even
        try:
            batch = self._extract(context, candidates, task)
            utility = self.model.predict(batch).utility
            origin = self._unscheduled_utility(context, task)
        except Exception:  # hours of tuning must not end by an error in a model
            self._report_once("score", f"{self.model.name} raised in predict", error=True)
            return even
        if reason := _degenerate(utility, batch):
            self._report_once(reason, f"{self.model.name} {reason}; candidates get even scores")
            return even
        return scores_from_utility(utility, origin)

    def predict(
        self, context: meta_schedule.TuneContext, candidates: Sequence[MeasureCandidate]
    ) -> tuple[FloatArray, FloatArray | None]:
        """Utility of candidates, and seconds from models that claim them: each [candidates]."""
        prediction = self.model.predict(self._extract(context, candidates, self._task(context)))
        return prediction.utility, prediction.latency_s

    def learn(
        self,
        context: meta_schedule.TuneContext,
        candidates: Sequence[MeasureCandidate],
        results: Sequence[RunnerResult],
    ) -> bool:
        """Let the model learn what was measured.

        Parameters
        ----------
        context : TuneContext
            The task.
        candidates, results : sequence
            As TVM gives them: runs that failed among them, builds that failed not.

        Returns
        -------
        bool
            Whether the model changed. When it raises, it stays as it was before.
        """
        task = self._task(context)
        measurements = [measurement_of(result.run_secs) for result in results]
        kept = [i for i, measurement in enumerate(measurements) if measurement is not None]
        dropped = len(results) - len(kept)
        if dropped:
            logger.warning(
                "%s: %d of %d times were zero, negative, infinite or no numbers and were dropped",
                context.task_name,
                dropped,
                len(results),
            )
        if not kept:
            return False
        try:
            batch = self._extract(context, [candidates[i] for i in kept], task)
            known = [m for m in measurements if m is not None]
            self._report(context.task_name, batch, known, dropped)
            learned = copy.deepcopy(self.model)
            learned.update(batch, known)
        except Exception:  # hours of tuning must not end by an error in a model
            self._report_once("learn", f"{self.model.name} raised in update", error=True)
            return False
        self.model = learned
        return True

    def _extract(
        self,
        context: meta_schedule.TuneContext,
        candidates: Sequence[MeasureCandidate],
        task: Task,
    ) -> KernelBatch:
        return self._extractor.extract(context, candidates, task, graphs=self.model.graphs)

    def _report(
        self, name: str, batch: KernelBatch, measurements: Sequence[Measurement], dropped: int
    ) -> None:
        """Judge the model on a batch before it learns it."""
        ran = np.array([isinstance(m, Measured) for m in measurements])
        latency_s = np.array([m.latency_s for m in measurements if isinstance(m, Measured)])
        failed = sum(isinstance(m, Failure) for m in measurements)
        values = (math.nan, math.nan, math.nan)
        predicted = self.model.is_fitted
        if predicted and len(latency_s):
            utility = self.model.predict(batch).utility[ran]
            before = self._judged.get(batch.tasks[0].key, (np.empty(0), np.empty(0)))
            everything = (
                np.concatenate([before[0], utility]),
                np.concatenate([before[1], latency_s]),
            )
            self._judged[batch.tasks[0].key] = everything
            values = (
                top_k_score(utility, latency_s),
                pair_accuracy(utility, latency_s),
                kendall_tau(*everything),
            )
        report = RoundReport(name, len(latency_s), failed, dropped, predicted, *values)
        self.reports.append(report)
        logger.info(
            "%s: %d ran, %d failed; predicted before learned: top-1 %.2f, pairs %.2f, tau %.2f",
            name,
            report.measured,
            report.failed,
            *values,
        )

    def _task(self, context: meta_schedule.TuneContext) -> Task:
        key = task_key(context.mod, context.target)
        if key not in self._tasks:
            self._tasks[key] = Task(key, self._device or device_of(context.target))
        return self._tasks[key]

    def _unscheduled_utility(self, context: meta_schedule.TuneContext, task: Task) -> float:
        """What the model says of the task's unscheduled program; asked once for each state."""
        model, origin = self._unscheduled.get(task.key, (None, 0.0))
        if model is not self.model:
            candidate = MeasureCandidate(Schedule(context.mod), [])
            batch = self._extract(context, [candidate], task)
            (utility,) = self.model.predict(batch).utility
            origin = float(utility) if np.isfinite(utility) else 0.0
            self._unscheduled[task.key] = (self.model, origin)
        return origin

    def _report_once(self, kind: str, message: str, *, error: bool = False) -> None:
        if kind not in self._reported:
            self._reported.add(kind)
            logger.warning("%s (reported once)", message, exc_info=error)


def _degenerate(utility: FloatArray, batch: KernelBatch) -> str | None:
    """Why utilities are of no use; None when they are."""
    wanted = len(batch)
    if np.shape(utility) != (wanted,):
        return f"must give {wanted} utilities, got shape {list(np.shape(utility))}"
    if not np.all(np.isfinite(utility)):
        return "gave utilities that are not finite"
    if wanted > 1 and np.ptp(utility) == 0 and not _all_alike(batch):
        return "gave the same utility to every candidate"
    return None


def _all_alike(batch: KernelBatch) -> bool:
    """Whether all kernels have the same rows: a space of one program is no fault of the model."""
    if np.ptp(batch.row_counts) > 0:
        return False
    each = batch.rows.reshape(len(batch), -1)
    return bool(np.all(each == each[:1]))
