"""PALEO: seconds of a kernel from its operations and bytes, without learning from measurements.

Qi et al., "Paleo: A Performance Model for Deep Neural Networks", ICLR 2017: the time to read the
inputs, to compute, and to write the outputs, added up, as nothing overlaps. A platform reaches some
percent of its peak only; that share is known or fitted.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import numpy as np

from costmodels.checkpoint import Checkpoint
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph, Operator
from costmodels.features.operator_costs import Cost, flop, kernel_cost
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.json_text import from_values
from costmodels.kernel import (
    FloatArray,
    KernelBatch,
    KernelDataset,
    KernelPrediction,
    Measurement,
    Unsupported,
)
from costmodels.learning.calibration import COVERAGE, Interval, even_spread
from costmodels.model_state import Stored
from costmodels.protocol import Claims, FitProgress

ALGORITHMS = ("gemm", "fft")
FFT_TILE = 32
"""Side of the square tiles that a convolution by FFT is cut into, as in the authors' code."""
MIN_SHARE, MAX_SHARE = 1e-3, 1.0


@dataclass(frozen=True, slots=True)
class Platform:
    """How much of its peaks a platform, hardware and software together, reaches.

    Parameters
    ----------
    compute_share, memory_share : float
        Of peak arithmetic and of peak bandwidth, above 0 to 1 ("platform percent of peak").
    algorithm : str
        Of convolutions: ``"gemm"``, which is also what direct loops cost, or ``"fft"``.
    """

    compute_share: float = 1.0
    memory_share: float = 1.0
    algorithm: str = "gemm"

    def __post_init__(self) -> None:
        for name in ("compute_share", "memory_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
        if self.algorithm not in ALGORITHMS:
            raise InputError(
                f"algorithm must be one of {', '.join(ALGORITHMS)}, got {self.algorithm!r}"
            )


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of a kernel by what they are for.

    Parameters
    ----------
    read_s, compute_s, write_s : float
        They do not overlap.
    """

    read_s: float
    compute_s: float
    write_s: float

    @property
    def total_s(self) -> float:
        """Their sum."""
        return self.read_s + self.compute_s + self.write_s


FULL_PEAK = Platform()


def time_of(cost: Cost, device: Device, platform: Platform = FULL_PEAK) -> Parts:
    """Seconds of what has a known cost; each part that is there takes a cycle at least.

    Parameters
    ----------
    cost : Cost
        Of an operator or of a kernel.
    device : Device
        What runs it.
    platform : Platform
        How much of its peaks it reaches.
    """
    cycle_s = 1.0 / device.clock_hz
    peak = device.peak_flop_per_s * platform.compute_share
    rate = device.bandwidth_byte_per_s * platform.memory_share
    found = (cost.read_bytes / rate, cost.flop / peak, cost.written_bytes / rate)
    return Parts(*(max(seconds, cycle_s) if seconds else 0.0 for seconds in found))


def kernel_cost_by(graph: KernelGraph, algorithm: str) -> Cost:
    """Cost of a kernel whose convolutions are computed by some algorithm.

    By FFT (Mathieu et al., ICLR 2014, as the authors count it) a convolution with stride 1 takes
    the transforms of inputs, filters and outputs in tiles, and products of complex numbers.

    Parameters
    ----------
    graph : KernelGraph
        The kernel.
    algorithm : str
        One of `ALGORITHMS`.
    """
    cost = kernel_cost(graph)
    if algorithm == "gemm":
        return cost
    arithmetic = cost.flop
    for each in graph.operators:
        found = _fft_flop(each)
        if found is not None:
            arithmetic += found - flop(each)
    return Cost(arithmetic, cost.read_bytes, cost.written_bytes)


def _fft_flop(operator: Operator) -> float | None:
    """Operations of a convolution by FFT; None for what cannot be computed so."""
    if operator.opcode != "conv" or len(operator.window) != 2 or len(operator.shape) != 4:
        return None
    if set(operator.stride) != {1} or math.prod(operator.window) == 1:
        return None
    side = FFT_TILE - max(operator.window) + 1  # of the part of a tile that is output
    if side < 1:
        return None
    images, channels, *extents = operator.shape
    tiles = images * math.prod(math.ceil(extent / side) for extent in extents)
    inputs = math.prod(operator.reduction) // math.prod(operator.window)
    transform = 5.0 * FFT_TILE**2 * math.log2(FFT_TILE)
    products = 4.0 * FFT_TILE**2 * tiles * inputs * channels
    return products + transform * (tiles * (inputs + channels) + inputs * channels)


class Paleo(Stored):
    """PALEO as a kernel model: it cannot tell the schedules of one kernel apart.

    Parameters
    ----------
    platform : Platform, optional
        By default all of both peaks, until `fit` finds what is reached.
    rng : numpy.random.Generator, optional
        Ignored: nothing is random.
    """

    name: ClassVar[str] = "paleo"
    paper: ClassVar[str] = "Qi et al., Paleo, ICLR 2017"
    claims: ClassVar[Claims] = Claims(ranks=False, seconds=True, interval=True)
    schema: ClassVar[FeatureSchema] = PER_STORE
    graphs: ClassVar[bool] = True

    def __init__(
        self, platform: Platform | None = None, *, rng: np.random.Generator | None = None
    ) -> None:
        del rng
        self.platform = platform or Platform()
        self._interval = Interval()

    @property
    def is_fitted(self) -> bool:
        """Always: its predictions carry information before anything was measured."""
        return True

    def fit(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        validation: KernelDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Fit the two shares of peak: those with the least mean error of log seconds.

        Parameters
        ----------
        dataset : KernelDataset
            With graphs.
        rng : numpy.random.Generator
            Ignored: nothing is random.
        validation : KernelDataset, optional
            Kernels of other tasks, which calibrate the interval; those of `dataset` by default.
        progress : FitProgress, optional
            Ignored: it takes seconds.
        """
        from scipy.optimize import minimize

        del rng, progress
        self.schema.require(dataset.batch.schema, owner=self.name)
        ran = dataset.take(np.flatnonzero(dataset.measured))
        if not len(ran):
            raise InputError(f"{self.name} must be given kernels that ran to learn from, got none")
        parts = self._parts(ran.batch)
        compute_s, memory_s = parts[:, 1], parts[:, 0] + parts[:, 2]

        def error(log_shares: FloatArray) -> float:
            compute, memory = np.exp(log_shares)
            return float(np.mean(np.abs(ran.log_latency - np.log(_total(compute, memory)))))

        def _total(compute: float, memory: float) -> FloatArray:
            total: FloatArray = compute_s / compute + memory_s / memory
            return total

        bounds = [(math.log(MIN_SHARE), math.log(MAX_SHARE))] * 2
        starts = [np.log([share, other]) for share in (0.02, 0.2) for other in (0.05, 0.5)]
        fits = [minimize(error, start, method="Nelder-Mead", bounds=bounds) for start in starts]
        best = min(fits, key=lambda found: float(found.fun))
        compute, memory = (float(share) for share in np.exp(best.x))
        self.platform = Platform(
            min(compute, MAX_SHARE), min(memory, MAX_SHARE), self.platform.algorithm
        )
        judging = ran if validation is None or not np.any(validation.measured) else validation
        found = self._log_seconds(judging.batch)
        self._interval = Interval.learn(
            judging.log_latency - found, even_spread(len(found)), judging.batch.task_index
        )
        return self

    def update(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Learn nothing: a few schedules of one kernel say little of a platform."""
        del measurements
        self.schema.require(batch.schema, owner=self.name)

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Predict each kernel from its graph.

        Raises
        ------
        InputError
            When the batch has no graphs.
        """
        self.schema.require(batch.schema, owner=self.name)
        log_latency = self._log_seconds(batch)
        unknown = np.flatnonzero(np.isnan(log_latency))
        low_s, high_s = self._interval.around(log_latency, even_spread(len(log_latency)))
        reason = "it neither computes nor moves anything"
        return KernelPrediction(
            np.nan_to_num(-log_latency),
            np.exp(log_latency),
            low_s,
            high_s,
            COVERAGE,
            tuple(Unsupported(int(kernel), reason) for kernel in unknown),
        )

    def parts(self, batch: KernelBatch) -> FloatArray:
        """Seconds of each kernel for reading, computing and writing: float64 [kernels, 3]."""
        shares = np.array(
            [self.platform.memory_share, self.platform.compute_share, self.platform.memory_share]
        )
        found: FloatArray = self._parts(batch) / shares
        return found

    def state(self) -> Checkpoint:
        """Return what a checkpoint holds."""
        settings = {"platform": asdict(self.platform), "interval": asdict(self._interval)}
        return Checkpoint.of(self.name, self.schema, settings=settings)

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        model = cls(from_values(Platform, state.settings["platform"], "platform"))
        model._interval = Interval.from_dict(state.settings["interval"])
        return model

    def _log_seconds(self, batch: KernelBatch) -> FloatArray:
        total = self.parts(batch).sum(axis=1)
        return np.log(np.where(total > 0, total, np.nan))

    def _parts(self, batch: KernelBatch) -> FloatArray:
        """Seconds at full peak: float64 [kernels, 3]."""
        index = batch.require_graphs(self.name)
        known: dict[tuple[int, int], Parts] = {}
        found = np.empty((len(batch), 3))
        full = Platform(algorithm=self.platform.algorithm)
        for kernel, (graph, task) in enumerate(zip(index, batch.task_index, strict=True)):
            own = batch.graphs[graph].graph
            key = id(own), int(task)
            if key not in known:
                cost = kernel_cost_by(own, full.algorithm)
                known[key] = time_of(cost, batch.tasks[task].device, full)
            each = known[key]
            found[kernel] = each.read_s, each.compute_s, each.write_s
        return found
