"""What kernels measured on a device tell of a model's errors on others that TVM builds untuned.

All of these have the same simple loops, so a model is off on a processor by how long a kernel's
sums are, by the steps in which it reads, and by whether it chooses between values (as padding
does): too fast for short sums, say. That is learned as a Gaussian process of the log errors
(Kennedy and O'Hagan, "Bayesian calibration of computer models", 2001, call it discrepancy): near
kernels that were measured it is what these say, far from them it is nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from costmodels.errors import InputError
from costmodels.kernel import FloatArray, IndexArray, KernelBatch
from costmodels.learning.calibration import COVERAGE, NORMAL_REACH
from costmodels.learning.device_correction import share_that_holds
from costmodels.networks.kernel_latency import KernelLatency

INPUTS = (("sum.length", 4.0), ("buffer0.stride", 8.0))
"""Columns of the largest stage that errors hang on, both logarithms to base 2, and what one unit of
them is. A third input is 1 where the kernel compares or chooses, or else 0. These and the numbers
below were chosen by hand, by the networks that `costmodels calibrate` measured on a Zen 4 that the
model did not know: each family predicted from the others was off by 8.2 % on average, 12.2 %
without. Errors on networks of timm were in sight meanwhile (docs/calibration.md); on those of a
Zen 5, by which nothing here was chosen, it brings 14.4 % to 13.6 % (docs/unseen_processor.md)."""
CHOICES = ("compute.float_cmp", "compute.int_cmp", "compute.bool_op", "compute.select_op")
SCALE = 2.0
"""Distance over which errors are alike."""
SIGNAL, NOISE = 0.3, 0.3
"""Standard deviations of log errors: of what is alike, and of single kernels."""
MAX_ERROR = 0.6
"""Log seconds; a larger error counts as this."""
SCHEDULED = ("parallel.loops", "vectorize.loops", "unroll.loops")
"""Columns of loops that an untuned program has none of."""
MIN_GROUPS = 4
MIN_SPREAD = 1e-3
LARGEST = 100.0
"""Of any number of a discrepancy; those of real ones are below 10."""


@dataclass(frozen=True)
class Discrepancy:
    """Log factors by which predictions of untuned kernels are off on one device.

    Parameters
    ----------
    inputs : tuple of tuple of float
        Of each kernel that was measured.
    weights : tuple of float
        Of each: the factor of another kernel is the sum of these times how alike they are.
    spread : float
        Times the deviation of predictions: how far corrected ones are off over what the model says.
    """

    inputs: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    spread: float = 1.0

    def __post_init__(self) -> None:
        widths = {len(each) for each in self.inputs}
        if widths - {len(INPUTS) + 1} or len(self.inputs) != len(self.weights):
            raise InputError(
                f"a discrepancy must have {len(INPUTS) + 1} inputs and a weight for each kernel, "
                f"got {len(self.inputs)} times {sorted(widths)} and {len(self.weights)}"
            )
        numbers = [self.spread, *self.weights, *(value for each in self.inputs for value in each)]
        wrong = [each for each in numbers if not _is_number(each)]
        if wrong or self.spread < MIN_SPREAD:
            raise InputError(
                f"a discrepancy must be of numbers from {-LARGEST:g} to {LARGEST:g}, its spread at "
                f"least {MIN_SPREAD:g}, got {(wrong or [self.spread])[0]!r}"
            )

    @classmethod
    def learn(
        cls,
        batch: KernelBatch,
        log_error: FloatArray,
        deviation: FloatArray,
        groups: Sequence[frozenset[str]],
    ) -> tuple[Self, FloatArray] | None:
        """Learn from measured kernels.

        Only as far as kernels of some groups are sure to tell those of the others: see
        `costmodels.learning.device_correction.share_that_holds`.

        Parameters
        ----------
        batch : KernelBatch
            Untuned kernels of one device.
        log_error : numpy.ndarray
            [kernels]; measured minus predicted log seconds, NaN where one is missing.
        deviation : numpy.ndarray
            [kernels]; of the log seconds, as the model says.
        groups : sequence of frozenset of str
            [kernels]; the families of networks that each is from.

        Returns
        -------
        tuple of Discrepancy and numpy.ndarray, or None
            The latter are log factors [kernels] in which kernels of its own groups have no part:
            how far off corrected predictions are elsewhere. None where no correction is sure to
            help, there are fewer than `MIN_GROUPS` groups, or most errors are too large to be
            told apart.
        """
        told = told_by_others(batch, log_error, groups)
        if told is None or abs(float(np.nanmedian(log_error))) > MAX_ERROR:
            return None
        firsts = [min(each) for each in groups]
        _, number = np.unique(firsts, return_inverse=True)
        share = share_that_holds(log_error, told, np.asarray(number))
        if share == 0.0:
            return None
        known = np.flatnonzero(np.isfinite(log_error))
        inputs = _inputs(batch.take(known))
        wide = known[deviation[known] > 0]
        rest = np.abs(log_error - share * told)[wide] / deviation[wide]
        spread = float(np.quantile(rest, COVERAGE)) / NORMAL_REACH if len(wide) else 1.0
        found = cls(
            tuple(tuple(map(float, each)) for each in inputs),
            tuple(map(float, share * _weights(inputs, log_error[known]))),
            min(max(spread, MIN_SPREAD), LARGEST),
        )
        return found, share * told

    def log_factor(self, batch: KernelBatch) -> FloatArray:
        """What is to be added to the log seconds [kernels]; 0 for kernels with a schedule."""
        found: FloatArray = np.zeros(len(batch))
        plain = np.flatnonzero(_is_untuned(batch))
        if len(plain) and self.weights:
            alike = _alike(_inputs(batch.take(plain)), np.array(self.inputs))
            told = alike @ np.array(self.weights)
            found[plain] = np.clip(told, -2.0 * MAX_ERROR, 2.0 * MAX_ERROR)
        return found

    def corrected(
        self, batch: KernelBatch, latencies: Sequence[KernelLatency | None]
    ) -> list[KernelLatency | None]:
        """Predictions [kernels] with what was learned; kernels with a schedule stay as they are."""
        factors, plain = self.log_factor(batch), _is_untuned(batch)
        return [
            latency
            if latency is None or latency.source != "predicted" or not plain[kernel]
            else latency.times(math.exp(factors[kernel]), self.spread)
            for kernel, latency in enumerate(latencies)
        ]


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -LARGEST <= value <= LARGEST


def told_by_others(
    batch: KernelBatch, log_error: FloatArray, groups: Sequence[frozenset[str]]
) -> FloatArray | None:
    """What the kernels of all other groups say is to be added to each.

    Parameters
    ----------
    batch, log_error, groups
        As of `Discrepancy.learn`.

    Returns
    -------
    numpy.ndarray or None
        [kernels]; log seconds. A kernel of several groups is told by what is in none of them. None
        for fewer groups than `MIN_GROUPS`.
    """
    names = sorted(set().union(*groups))
    if len(names) < MIN_GROUPS:
        return None
    inputs = _inputs(batch)
    told: FloatArray = np.zeros(len(batch))
    for own in dict.fromkeys(groups):
        judged = [kernel for kernel, each in enumerate(groups) if each == own]
        others: IndexArray = np.array(
            [
                kernel
                for kernel, each in enumerate(groups)
                if not each & own and np.isfinite(log_error[kernel])
            ],
            np.int64,
        )
        if len(others):
            weights = _weights(inputs[others], log_error[others])
            told[judged] = _alike(inputs[judged], inputs[others]) @ weights
    return told


def _weights(inputs: FloatArray, log_error: FloatArray) -> FloatArray:
    """Of the measured kernels in the mean of a Gaussian process."""
    covariance = _alike(inputs, inputs) + NOISE**2 * np.eye(len(inputs))
    error = np.clip(log_error, -MAX_ERROR, MAX_ERROR)
    return np.asarray(np.linalg.solve(covariance, error), np.float64)


def _alike(some: FloatArray, others: FloatArray) -> FloatArray:
    """Covariance [some, others] of the log errors."""
    squares = np.sum((some[:, None] - others[None]) ** 2, axis=-1)
    return np.asarray(SIGNAL**2 * np.exp(-squares / (2.0 * SCALE**2)), np.float64)


def _is_untuned(batch: KernelBatch) -> FloatArray:
    """Whether [kernels] each has only plain loops."""
    loops = np.sum([batch.column(name) for name in SCHEDULED], axis=0, dtype=float)
    return np.asarray(batch.sum_rows(loops) == 0)


def _inputs(batch: KernelBatch) -> FloatArray:
    """What log errors hang on, [kernels, inputs]."""
    order = np.lexsort((batch.column("total.operations"), batch.row_kernel))
    last = np.flatnonzero(np.diff(batch.row_kernel[order], append=-1))
    found: FloatArray = np.zeros((len(batch), len(INPUTS) + 1))
    largest = order[last]
    for place, (name, unit) in enumerate(INPUTS):
        found[batch.row_kernel[largest], place] = batch.column(name)[largest] / unit
    choices = np.sum([batch.column(name) for name in CHOICES], axis=0, dtype=float)
    found[:, -1] = batch.sum_rows(choices) > 0
    return found
