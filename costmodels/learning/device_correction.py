"""What a few measured kernels tell of a device: by which factor predictions are off, and on which.

A model that never saw a device is off there as a whole, and differently for short and long kernels,
for parallel and serial ones, for those that compute and those that copy. A ridge regression of its
log errors on a handful of such properties learns that from some dozens of kernels, where training
networks or trees further would only move them about. Large errors count less (Huber, "Robust
Estimation of a Location Parameter", 1964).
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from costmodels.errors import InputError
from costmodels.features.roofline import log_bound
from costmodels.kernel import FloatArray, IndexArray, KernelBatch, KernelDataset
from costmodels.learning.calibration import Interval
from costmodels.learning.familiarity import DeviceKey, device_key

PENALTY = 3.0
"""Of each coefficient but the constant: as much as so many kernels count against it."""
CONSTANT_PENALTY = 0.1
LARGE_ERROR = 0.5
"""Log seconds from which on an error counts by its size, not by its square."""
ROUNDS = 8
"""Of weighing errors anew; then the coefficients do not move any more."""
SHORTEST, LONGEST = -16.0, 1.0
"""Log seconds between which the size of a kernel counts."""
FOLDS = 8
"""Parts of the tasks, each judged by what the others tell."""
FEW = 1024
"""Programs below which a device is corrected, and a model does not learn on from them."""
MIN_TASKS = 4
"""Without so many nothing is corrected but the constant."""
MIN_TASKS_OF_INTERVAL = 20
"""Fewer tell too little of how far off others are, so intervals stay as wide as the model has them.
Set after a look at three processors left out of training: with the width of nine or ten tasks
98 to 99.7 % held there, with the model's own 94 to 96 % (`scripts/few_shot.py`, 32 programs)."""

_LOOPS = ("parallel", "vectorize", "unroll")
_OPERATIONS = (
    ("functions", ("float_math_func", "float_other_func")),
    ("divisions", ("float_div_mod", "int_div_mod")),
    ("choices", ("float_cmp", "int_cmp", "bool_op", "select_op")),
    ("products", ("float_mul", "int_mul")),
)
PROPERTIES = (
    *("constant", "size", "size squared", "parallel", "vectorized", "unrolled"),
    *("pieces", "parallel size", "above roofline", "operations"),
    *(name for name, _ in _OPERATIONS),
    *("sums", "strides"),
)
"""Of the columns of `properties`."""


def properties(batch: KernelBatch, log_latency: FloatArray) -> FloatArray:
    """What errors on a device may hang on.

    Parameters
    ----------
    batch : KernelBatch
        Of the schema `costmodels.features.schema.PER_STORE`.
    log_latency : numpy.ndarray
        [kernels]; predicted log seconds.

    Returns
    -------
    numpy.ndarray
        float64 [kernels, len(`PROPERTIES`)]; each about 1 in size.
    """

    def total(*names: str) -> FloatArray:
        return batch.sum_rows(np.sum([batch.column(name) for name in names], axis=0, dtype=float))

    size = np.clip(log_latency, SHORTEST, LONGEST) + 8.0
    loops = [total(f"{kind}.loops") > 0 for kind in _LOOPS]
    columns = [
        np.ones(len(batch)),
        size,
        size**2 / 4.0,
        *loops,
        np.minimum(total("parallel.extent_product"), 10.0) / 5.0,
        loops[0] * size / 2.0,
        (log_latency - log_bound(batch)) / 2.0,
        np.minimum(total("total.operations"), 60.0) / 20.0,
        *(total(*(f"compute.{op}" for op in names)) > 0 for _, names in _OPERATIONS),
        total("sum.length") > 0,
        np.minimum(total("buffer0.stride"), 20.0) / 10.0,
    ]
    return np.column_stack(columns).astype(np.float64)


@dataclass(frozen=True)
class DeviceCorrection:
    """Coefficients of what to add to predicted log seconds on one device.

    Parameters
    ----------
    coefficients : tuple of float
        One for each of `PROPERTIES`.
    """

    coefficients: tuple[float, ...] = (0.0,) * len(PROPERTIES)

    @classmethod
    def learn(cls, batch: KernelBatch, log_latency: FloatArray, log_error: FloatArray) -> Self:
        """Fit the coefficients.

        Parameters
        ----------
        batch : KernelBatch
            Kernels of one device.
        log_latency : numpy.ndarray
            [kernels]; predicted log seconds.
        log_error : numpy.ndarray
            [kernels]; measured minus predicted log seconds; those that are not finite do not count.

        Raises
        ------
        InputError
            When no error is known.
        """
        known = np.flatnonzero(np.isfinite(log_error) & np.isfinite(log_latency))
        if not len(known):
            raise InputError("a correction must be learned from kernels that ran, got none")
        columns = properties(batch.take(known), log_latency[known])
        penalty = np.full(len(PROPERTIES), PENALTY)
        penalty[0] = CONSTANT_PENALTY
        if len(np.unique(batch.task_index[known])) < MIN_TASKS:
            penalty[1:] = 1e9
        error, weight = log_error[known], np.ones(len(known))
        found: FloatArray = np.zeros(len(PROPERTIES))
        for _ in range(ROUNDS):
            weighted = columns * weight[:, None]
            gram = weighted.T @ columns + np.diag(penalty)
            found = np.asarray(np.linalg.solve(gram, weighted.T @ error), np.float64)
            rest = np.abs(error - columns @ found)
            weight = np.minimum(1.0, LARGE_ERROR / np.maximum(rest, 1e-9))
        return cls(tuple(float(value) for value in found))

    def apply(self, batch: KernelBatch, log_latency: FloatArray) -> FloatArray:
        """Corrected log seconds [kernels] of kernels of the device; unknown ones stay unknown."""
        known = np.where(np.isfinite(log_latency), log_latency, 0.0)
        added: FloatArray = properties(batch, known) @ np.array(self.coefficients)
        return log_latency + added

    def times(self, share: float) -> "DeviceCorrection":
        """A share of the correction."""
        return DeviceCorrection(tuple(share * each for each in self.coefficients))

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return dict(zip(PROPERTIES, self.coefficients, strict=True))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `as_dict`.

        Raises
        ------
        InputError
            When a coefficient is missing, unknown, or no number.
        """
        try:
            if values.keys() != set(PROPERTIES):
                raise ValueError(f"{', '.join(values)}")
            return cls(tuple(float(values[name]) for name in PROPERTIES))
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(
                f"a correction must have a number for each of {', '.join(PROPERTIES)}, got {error}"
            ) from None


def told_by_others(
    batch: KernelBatch, log_latency: FloatArray, log_error: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """What the kernels of all other tasks say is to be added to each.

    Parameters
    ----------
    batch, log_latency, log_error
        As of `DeviceCorrection.learn`.
    rng : numpy.random.Generator
        Draws which tasks are judged together.

    Returns
    -------
    numpy.ndarray
        [kernels]; log seconds, NaN where nothing is known, and for fewer tasks than `MIN_TASKS`.
    """
    told: FloatArray = np.full(len(batch), np.nan)
    tasks = np.unique(batch.task_index)
    if len(tasks) < MIN_TASKS:
        return told
    for part in np.array_split(rng.permutation(tasks), min(FOLDS, len(tasks))):
        judged: IndexArray = np.flatnonzero(np.isin(batch.task_index, part))
        others = np.flatnonzero(~np.isin(batch.task_index, part))
        if not np.any(np.isfinite(log_error[others])):
            continue
        found = DeviceCorrection.learn(batch.take(others), log_latency[others], log_error[others])
        told[judged] = found.apply(batch.take(judged), log_latency[judged]) - log_latency[judged]
    return told


def share_that_holds(log_error: FloatArray, told: FloatArray, task_index: IndexArray) -> float:
    """Which share of what other tasks tell is sure to come nearer to the errors: stacking.

    A device on which a model is right already must not be made worse by what a few of its kernels
    happen to say (Wolpert, "Stacked Generalization", 1992: the share of one regressor is its
    regression coefficient; less one standard error, as Breiman et al. choose trees in
    "Classification and Regression Trees", 1984).

    Parameters
    ----------
    log_error : numpy.ndarray
        [kernels]; measured minus predicted log seconds.
    told : numpy.ndarray
        [kernels]; from `told_by_others`.
    task_index : numpy.ndarray
        [kernels]; kernels of one task err together.

    Returns
    -------
    float
        0 to 1; 1 when too little is known to tell.
    """
    known = np.isfinite(log_error) & np.isfinite(told)
    error, told = log_error[known], told[known]
    if not np.any(told):
        return 1.0
    _, task = np.unique(task_index[known], return_inverse=True)
    share = 1.0
    for _ in range(ROUNDS):
        weight = np.minimum(1.0, LARGE_ERROR / np.maximum(np.abs(error - share * told), 1e-9))
        size = float(np.sum(weight * told**2))
        share = float(np.sum(weight * told * error)) / size
    by_task = np.bincount(task, weight * told * (error - share * told))
    doubt = float(np.sqrt(np.sum(by_task**2))) / size
    return min(max(share - doubt, 0.0), 1.0)


@dataclass(frozen=True)
class OnDevice:
    """What few programs told of a device.

    Parameters
    ----------
    correction : DeviceCorrection
        Of the seconds that a model predicts there.
    interval : Interval or None
        Around what is corrected; None for as wide as the model says.
    """

    correction: DeviceCorrection
    interval: Interval | None


class DeviceCorrections:
    """What few programs of some devices told of the errors of a model there."""

    def __init__(self) -> None:
        self._known: dict[DeviceKey, OnDevice] = {}

    def learn(
        self,
        dataset: KernelDataset,
        log_latency: FloatArray,
        spread: FloatArray,
        rng: np.random.Generator,
    ) -> None:
        """Learn of each device of a data set; what was known of it is forgotten.

        Parameters
        ----------
        dataset : KernelDataset
            Programs, some of which ran.
        log_latency : numpy.ndarray
            [kernels]; log seconds as the model predicts them without corrections.
        spread : numpy.ndarray
            [kernels]; how much the model's parts disagree.
        rng : numpy.random.Generator
            Draws which tasks are judged together.
        """
        keys = [device_key(task.device) for task in dataset.batch.tasks]
        usable = dataset.measured & np.isfinite(log_latency)
        for key in dict.fromkeys(keys):
            own = np.array([each == key for each in keys], bool)
            some = np.flatnonzero(own[dataset.batch.task_index] & usable)
            if not len(some):
                continue
            batch, predicted = dataset.batch.take(some), log_latency[some]
            error = dataset.log_latency[some] - predicted
            told = told_by_others(batch, predicted, error, rng)
            share = share_that_holds(error, told, batch.task_index)
            correction = DeviceCorrection.learn(batch, predicted, error).times(share)
            interval = None
            if len(np.unique(batch.task_index)) >= MIN_TASKS_OF_INTERVAL:
                rest = error - share * told
                interval = Interval.learn(rest, spread[some], batch.task_index)
            self._known[key] = OnDevice(correction, interval)

    def forget(self, batch: KernelBatch) -> None:
        """Forget what is known of the devices of a batch."""
        for task in batch.tasks:
            self._known.pop(device_key(task.device), None)

    def apply(
        self,
        batch: KernelBatch,
        log_latency: FloatArray,
        spread: FloatArray,
        ends: tuple[FloatArray, FloatArray] | None = None,
        *,
        measured: Container[str] = (),
    ) -> None:
        """Correct, in place, the kernels of a batch that are on known devices.

        Parameters
        ----------
        batch : KernelBatch
            The kernels.
        log_latency : numpy.ndarray
            [kernels]; predicted log seconds, which change.
        spread : numpy.ndarray
            [kernels]; how much the model's parts disagree.
        ends : tuple of numpy.ndarray, optional
            Seconds: [kernels] lower and upper ends of intervals, which become those of the device.
        measured : container of str
            Keys of tasks that the model knows from measurements made since: not those.
        """
        for known, kernels in self._places(batch, measured):
            before = log_latency[kernels]
            log_latency[kernels] = known.correction.apply(batch.take(kernels), before)
            if ends is not None and known.interval is None:
                for end in ends:
                    end[kernels] *= np.exp(log_latency[kernels] - before)
            elif ends is not None and known.interval is not None:
                around = known.interval.around(log_latency[kernels], spread[kernels])
                for end, own in zip(ends, around, strict=True):
                    end[kernels] = own

    def _places(
        self, batch: KernelBatch, measured: Container[str]
    ) -> Iterator[tuple[OnDevice, IndexArray]]:
        if not self._known:
            return
        keys = [device_key(task.device) for task in batch.tasks]
        for key, known in self._known.items():
            own = np.array(
                [
                    each == key and task.key not in measured
                    for each, task in zip(keys, batch.tasks, strict=True)
                ],
                bool,
            )
            kernels = np.flatnonzero(own[batch.task_index])
            if len(kernels):
                yield known, kernels

    def state(self) -> list[dict[str, Any]]:
        """JSON values."""
        return [
            {
                "device": list(key),
                "correction": known.correction.as_dict(),
                "interval": None if known.interval is None else asdict(known.interval),
            }
            for key, known in self._known.items()
        ]

    @classmethod
    def from_state(cls, state: Sequence[Mapping[str, Any]]) -> Self:
        """Undo `state`."""
        found = cls()
        for each in state:
            interval = each["interval"]
            found._known[tuple(each["device"])] = OnDevice(
                DeviceCorrection.from_dict(each["correction"]),
                None if interval is None else Interval.from_dict(interval),
            )
        return found
