"""What is known of the latency of one kernel of a network, and of how far off it may be."""

import math
from dataclasses import dataclass, replace

import numpy as np

from costmodels.errors import InputError
from costmodels.kernel import KernelPrediction, Measured
from costmodels.learning.calibration import NORMAL_REACH

MIN_REPEAT_SPREAD = 0.01
"""Of the log seconds of a measurement: repeats within one run agree better than runs do."""
SOURCES = ("measured", "looked up", "predicted")


@dataclass(frozen=True, slots=True)
class KernelLatency:
    """What is known of one kernel of a network.

    Parameters
    ----------
    latency_s, low_s, high_s : float
        Of one call; the interval holds 90 %.
    source : str
        One of `SOURCES`.
    """

    latency_s: float
    low_s: float
    high_s: float
    source: str

    def __post_init__(self) -> None:
        if not 0 < self.low_s <= self.latency_s <= self.high_s < math.inf:
            raise InputError(
                "a latency must be above 0 and lie in its interval, got "
                f"{self.low_s:g} <= {self.latency_s:g} <= {self.high_s:g}"
            )
        if self.source not in SOURCES:
            raise InputError(f"source must be one of {', '.join(SOURCES)}, got {self.source!r}")

    @property
    def deviation(self) -> float:
        """Standard deviation of the log seconds that the interval stands for."""
        return math.log(self.high_s / self.low_s) / (2 * NORMAL_REACH)

    def times(self, factor: float, spread: float = 1.0) -> "KernelLatency":
        """That of a kernel which takes so many times as long, its interval wider by the spread."""
        seconds = self.latency_s * factor
        return replace(
            self,
            latency_s=seconds,
            low_s=min(seconds, seconds * (self.low_s / self.latency_s) ** spread),
            high_s=max(seconds, seconds * (self.high_s / self.latency_s) ** spread),
        )


def predicted_latencies(prediction: KernelPrediction) -> list[KernelLatency | None]:
    """What a model that gives seconds says of each kernel; None for one it does not support.

    A model without intervals gives the prediction as both of their ends.
    """
    seconds = prediction.latency_s
    if seconds is None:
        raise InputError("latencies must come from a model that gives seconds, got one that ranks")
    low = seconds if prediction.low_s is None else prediction.low_s
    high = seconds if prediction.high_s is None else prediction.high_s
    return [
        KernelLatency(float(s), float(a), float(b), "predicted") if np.isfinite(s) else None
        for s, a, b in zip(seconds, low, high, strict=True)
    ]


def measured_latency(measured: Measured) -> KernelLatency:
    """A measurement with the interval that its repeats suggest."""
    seconds = measured.latency_s
    spread = max(MIN_REPEAT_SPREAD, float(np.std(np.log(measured.run_s))))
    reach = float(np.exp(NORMAL_REACH * spread))
    return KernelLatency(seconds, seconds / reach, seconds * reach, "measured")
