"""What further trials will gain: a law of how the best of a kernel's programs improves.

Tuning curves say that twice the trials of a kernel shorten it by a share that falls slowly, as a
power of the trials it had; what the last trials gained tells little of the next:
`scripts/fit_expected_gain.py` fits the law, and compares schedulers that go by it on the same
curves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from costmodels.errors import InputError

WHOLE = 0.58
"""Log of a kernel's latency after one trial over that after any number of them."""
POWER = 0.32
"""What is left of it after n trials is the share n ** -POWER. Both fitted on searches whose trees
had learned before; nothing is known beyond 512 trials."""
SPREAD = 2.3
"""Standard deviation of such a gain over its mean: most doublings gain nothing, some much."""
REACH = 1.2816
"""Standard deviations above the mean that 90 % stay below."""


@dataclass(frozen=True, slots=True)
class Gain:
    """What as many trials again would gain, as shares of the network's latency.

    Attributes
    ----------
    expected : float
        On average.
    at_most : float
        In 90 % of the cases.
    """

    expected: float
    at_most: float


def log_gain(trials: int, more: int) -> float:
    """By how much the log of a kernel's latency is expected to fall with further trials.

    Parameters
    ----------
    trials : int
        Those it had, at least 1.
    more : int
        Those it would get.

    Returns
    -------
    float
        ``WHOLE * (trials ** -POWER - (trials + more) ** -POWER)``.

    Raises
    ------
    InputError
        When there were no trials.
    """
    if trials < 1:
        raise InputError(f"trials must be at least 1, got {trials}")
    before, after = (math.pow(count, -POWER) for count in (trials, trials + more))
    return WHOLE * (before - after)


def further_gain(trials: int, more: int) -> float:
    """Share of a kernel's latency that further trials are expected to save.

    Parameters
    ----------
    trials : int
        Those it had, at least 1.
    more : int
        Those it would get.

    Examples
    --------
    >>> further_gain(16, 16) > further_gain(64, 64) > further_gain(256, 256) > 0
    True
    """
    return -math.expm1(-log_gain(trials, more))


def gain_of_network(kernels: Sequence[tuple[float, int]]) -> Gain:
    """What twice the trials of each kernel would gain.

    Parameters
    ----------
    kernels : sequence of (float, int)
        Seconds of the network that each takes, and the trials that it had. Of one without any
        nothing is known: anything between nothing and all of it.

    Raises
    ------
    InputError
        When they take no time at all.
    """
    whole_s = sum(seconds for seconds, _ in kernels)
    if not whole_s > 0:
        raise InputError(f"kernels must take some time, got {whole_s} seconds")
    mean_s = variance = 0.0
    for seconds, trials in kernels:
        if trials:
            own_s = seconds * further_gain(trials, trials)
            mean_s += own_s
            variance += (SPREAD * own_s) ** 2
        else:  # evenly spread
            mean_s += seconds / 2
            variance += seconds**2 / 12
    return Gain(mean_s / whole_s, (mean_s + REACH * math.sqrt(variance)) / whole_s)
