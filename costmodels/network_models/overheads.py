"""What a sum of kernels leaves out, on one target: each of these is one number.

They are fitted on whole networks by `costmodels.network_models.overheads_fit`.
"""

import math
from dataclasses import dataclass
from typing import Any

from costmodels.errors import InputError
from costmodels.network_models.discrepancy import Discrepancy

MAX_PARAMETER = 1e3
"""Seconds of a launch, or times the bytes of cold weights: more is a damaged file."""
MIN_RESIDUAL = 0.01
"""Of a network's latency: what is left unexplained where nothing is known of it."""
THREADS_FROM_S = 5e-6
"""A scheduled kernel that takes so long is taken to run on all threads, of shorter ones a part."""


def _check(name: str, value: Any, least: float, most: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most or value == math.inf:
        bounds = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise InputError(f"{name} of overheads must be a number {bounds}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A fitted number and its standard deviation."""

    value: float = 0.0
    deviation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("value", "deviation"):
            _check(name, getattr(self, name), 0.0, MAX_PARAMETER)


@dataclass(frozen=True, slots=True)
class Overheads:
    """What a sum of kernels leaves out, on one target.

    Parameters
    ----------
    launch_s : Parameter
        Seconds of a launch beyond the kernel: dispatch, allocation.
    cold_share : Parameter
        Share of the time that fetching cold weights at the device's bandwidth takes, by which a
        kernel takes longer than in a loop. May be above 1.
    threads_s : Parameter
        Seconds that a launch on several threads takes beyond another one in a network, as far as
        `on_threads` says that a kernel is one: its threads wait for each other's data.
    residual : float
        Standard deviation of what is then left unexplained, over the network's latency.
    common_error : float
        Correlation of the errors of predicted kernels of one network, 0 to 1.
    bias : float
        Log of the measured over the predicted sum, on average, as far as it is believed: for
        models that are off on a target as a whole. It counts for predicted kernels alone.
    unseen_factor : float
        Times the deviation of the sum of predicted kernels: how much farther off networks of
        families are that the model never saw; see `costmodels.network_models.unseen_families`.
    device_error : float
        Standard deviation of the log of the factor by which all predicted kernels are off together;
        on a device that the model never saw and that was not calibrated.
    networks : int
        On how many it was fitted; 0 for what is assumed.
    kernels : int
        On how many kernels, measured alone, the bias was fitted where no whole network was.
    disturbance : float
        How much longer the same program took at its slowest than at its fastest while all this
        was measured: 0.2 is a fifth.
    discrepancy : Discrepancy, optional
        By which factors predictions of untuned kernels are off, before the bias. It is the caller
        of `add_up` who corrects them.
    """

    launch_s: Parameter = Parameter()
    cold_share: Parameter = Parameter()
    threads_s: Parameter = Parameter()
    residual: float = MIN_RESIDUAL
    common_error: float = 0.5
    bias: float = 0.0
    unseen_factor: float = 1.0
    device_error: float = 0.0
    networks: int = 0
    kernels: int = 0
    disturbance: float = 0.0
    discrepancy: Discrepancy | None = None

    def __post_init__(self) -> None:
        _check("residual", self.residual, 0.0, 10.0)
        _check("common_error", self.common_error, 0.0, 1.0)
        _check("bias", self.bias, -20.0, 20.0)
        _check("unseen_factor", self.unseen_factor, 0.0, MAX_PARAMETER)
        _check("device_error", self.device_error, 0.0, 10.0)
        _check("networks", self.networks, 0, math.inf)
        _check("kernels", self.kernels, 0, math.inf)
        _check("disturbance", self.disturbance, 0.0, math.inf)

    @property
    def is_calibrated(self) -> bool:
        """Whether anything of it was measured on the device."""
        return self.networks > 0 or self.kernels > 0


NO_OVERHEADS = Overheads()
"""The plain sum."""
DEFAULT_OVERHEADS = Overheads(
    launch_s=Parameter(0.4e-6, 0.5e-6), cold_share=Parameter(0.5, 0.5), residual=0.06
)
"""Of a CPU that was never calibrated: what fits the networks of `shipped:networks` with chosen
schedules, which ran on one thread, with room for other machines; the residual is 0.02 with default
ones."""
UNSEEN_DEVICE_ERROR = 0.45
"""`Overheads.device_error` where a model never saw the device. The logs of 25 networks of timm on a
Zen 4 that was left out of training (2026-11-29) have a root mean square of 0.12, those of seven on
an Intel Xeon that earlier models did not know one of 0.23; but 14 on a Zen 4 that models of one
thread hardly knew were off by a factor of 1.53 at the median, and on one core of a Zen 5 without
AVX networks are off by one of 2.2, beyond what this allows for."""
