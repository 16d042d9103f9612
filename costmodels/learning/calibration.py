"""Intervals around predicted seconds that hold as often as they say: conformal prediction.

Two things make the errors of kernels unlike those that statistics books assume. They differ
between kernels: where models disagree they are larger, so an interval grows with the disagreement
(Papadopoulos et al., "Inductive Confidence Machines for Regression", ECML 2002). And those of one
task resemble each other: what is promised is a share of the kernels of a task never seen, so it is
tasks that count, not kernels (Dunn et al., "Distribution-Free Prediction Sets for Two-Layer
Hierarchical Models", JASA 2022). Short kernels, of which much is overhead, have larger errors than
long ones, and scheduled ones larger than those that are not: the promise can be kept for each kind
alone (Vovk et al., "Mondrian Confidence Machine", 2003).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from costmodels.kernel import FloatArray, IndexArray, KernelBatch

COVERAGE = 0.9
"""Share of kernels whose seconds an interval is meant to hold."""
NORMAL_REACH = 1.645
"""Standard deviations of a normal distribution, up and down, that hold such a share of it."""
SIZES_S = (1e-5, 1e-4)
"""Seconds between short, middling and long kernels."""
KINDS = 2 * (len(SIZES_S) + 1)
"""Of kernels, unscheduled ones first; see `kind_of`."""
MIN_TASKS = 50
"""Of a kind that has a reach of its own."""
MIN_SPREAD = 0.3
"""Disagreement of models that agree perfectly, in log seconds: they can be wrong together."""


def quantile_of_groups(values: FloatArray, group: NDArray[Any], share: float) -> float:
    """The least value that a share of all does not exceed; all groups count the same.

    Parameters
    ----------
    values : numpy.ndarray
        [entries]; at least one.
    group : numpy.ndarray
        [entries]; number or name of the group of each.
    share : float
        Above 1 gives the largest value.
    """
    _, number, sizes = np.unique(group, return_inverse=True, return_counts=True)
    order = np.argsort(values)
    reached = np.cumsum(1.0 / sizes[number[order]]) / len(sizes)
    place = min(int(np.searchsorted(reached, share)), len(values) - 1)
    return float(values[order[place]])


@dataclass(frozen=True, slots=True)
class Interval:
    """How far log seconds may lie from what is predicted.

    Parameters
    ----------
    reach : float
        In spreads, upwards and downwards; without anything to learn from it is wide.
    """

    reach: float = 10.0

    @classmethod
    def learn(cls, log_error: FloatArray, spread: FloatArray, task_index: IndexArray) -> Self:
        """Take the reach from kernels of tasks that nothing was learned from.

        With n tasks the quantile at (n + 1) / n of the share keeps the promise for one more task.

        Parameters
        ----------
        log_error : numpy.ndarray
            [kernels]; measured minus predicted log seconds; those that are not finite do not count.
            Without any the interval stays wide.
        spread : numpy.ndarray
            [kernels]; as of `spread_of`.
        task_index : numpy.ndarray
            int64 [kernels]; all tasks count the same.
        """
        known = np.isfinite(log_error)
        if not np.any(known):
            return cls()
        tasks = len(np.unique(task_index[known]))
        error = np.abs(log_error[known] / spread[known])
        return cls(quantile_of_groups(error, task_index[known], COVERAGE * (tasks + 1) / tasks))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `dataclasses.asdict`; the two ends in older checkpoints give the farther one."""
        if "reach" in values:
            return cls(float(values["reach"]))
        return cls(max(-values["low"], values["high"]) / MIN_SPREAD)

    def around(self, log_latency: FloatArray, spread: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The interval of each kernel.

        Parameters
        ----------
        log_latency : numpy.ndarray
            [kernels]; predicted log seconds.
        spread : numpy.ndarray
            [kernels]; as of `spread_of`.

        Returns
        -------
        tuple of numpy.ndarray
            Seconds: [kernels] its lower and its upper end.
        """
        reach = self.reach * spread
        with np.errstate(over="ignore"):  # an end that no number tells is infinite
            return np.exp(log_latency - reach), np.exp(log_latency + reach)


@dataclass(frozen=True, slots=True)
class MondrianInterval:
    """How far log seconds may lie from what is predicted, for kernels of each kind.

    Parameters
    ----------
    intervals : tuple of Interval
        Of each kind; see `kind_of`.
    """

    intervals: tuple[Interval, ...] = (Interval(),) * KINDS

    @classmethod
    def learn(
        cls, kind: IndexArray, log_error: FloatArray, spread: FloatArray, task_index: IndexArray
    ) -> Self:
        """Take the reach of each kind from its kernels, where these are of enough tasks.

        Parameters
        ----------
        kind : numpy.ndarray
            [kernels]; from `kind_of`.
        log_error, spread, task_index : numpy.ndarray
            As of `Interval.learn`.
        """
        of_all = Interval.learn(log_error, spread, task_index)
        found = []
        for number in range(KINDS):
            own = np.flatnonzero((kind == number) & np.isfinite(log_error))
            few = len(np.unique(task_index[own])) < MIN_TASKS
            found.append(
                of_all if few else Interval.learn(log_error[own], spread[own], task_index[own])
            )
        return cls(tuple(found))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `dataclasses.asdict`; one of all kinds, as in older checkpoints, is that of each."""
        if "intervals" in values:
            return cls(tuple(Interval.from_dict(each) for each in values["intervals"]))
        return cls((Interval.from_dict(values),) * KINDS)

    def around(
        self, kind: IndexArray, log_latency: FloatArray, spread: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """The interval of each kernel, as `Interval.around` gives it."""
        reach = np.array([each.reach for each in self.intervals])[kind]
        return Interval(1.0).around(log_latency, reach * spread)


def kind_of(batch: KernelBatch, log_latency: FloatArray) -> IndexArray:
    """Which kernels have errors of one size: scheduled or not, short, middling or long.

    Parameters
    ----------
    batch : KernelBatch
        The kernels.
    log_latency : numpy.ndarray
        [kernels]; predicted log seconds; those that are not known count as long.

    Returns
    -------
    numpy.ndarray
        int64 [kernels], below `KINDS`.
    """
    loops = ("parallel.loops", "vectorize.loops", "unroll.loops")
    is_marked = np.any([batch.column(name) > 0 for name in loops], axis=0)
    marked = batch.sum_rows(is_marked.astype(np.float64)) > 0
    size = np.searchsorted(np.log(SIZES_S), log_latency)
    return np.asarray(size + (len(SIZES_S) + 1) * marked)


def spread_of(log_latency: FloatArray) -> FloatArray:
    """How much models disagree on each kernel.

    Parameters
    ----------
    log_latency : numpy.ndarray
        [models, kernels]; log seconds that each model predicts, or all of them less the same.

    Returns
    -------
    numpy.ndarray
        [kernels]; log seconds between the highest and the lowest, and `MIN_SPREAD`.
    """
    spread: FloatArray = MIN_SPREAD + np.ptp(log_latency, axis=0)
    return spread


def even_spread(kernels: int) -> FloatArray:
    """[kernels]; of a model that is alone: `MIN_SPREAD`."""
    return np.full(kernels, MIN_SPREAD)
