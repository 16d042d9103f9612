"""Intervals around predicted seconds that hold as often as they say: split conformal prediction."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from costmodels.kernel import FloatArray

COVERAGE = 0.9
"""Share of kernels whose seconds an interval is meant to hold."""


@dataclass(frozen=True, slots=True)
class Interval:
    """How far log seconds may lie from what is predicted.

    Parameters
    ----------
    low, high : float
        Added to predicted log seconds; ``low <= 0 <= high``.
    """

    low: float = -3.0
    high: float = 3.0

    @classmethod
    def learn(cls, log_error: FloatArray) -> Self:
        """Take the interval from kernels of tasks that nothing was learned from.

        Vovk et al., "Algorithmic Learning in a Random World", 2005: with n errors the quantile at
        (n + 1) / n of the share keeps the promise for kernels drawn alike.

        Parameters
        ----------
        log_error : numpy.ndarray
            [kernels]; measured minus predicted log seconds; those that are not finite do not count.
            Without any the widest interval stays.
        """
        known = log_error[np.isfinite(log_error)]
        if not len(known):
            return cls()
        tail = (1.0 - COVERAGE) / 2
        share = min(1.0, (1.0 - tail) * (len(known) + 1) / len(known))
        low, high = np.quantile(known, (1.0 - share, share))
        return cls(min(float(low), 0.0), max(float(high), 0.0))
