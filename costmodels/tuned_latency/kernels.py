"""The latency that a kernel will have once it is tuned, from the kernel, its device and the trials.

No schedule is known, and none is searched for: trees learn from tuning runs how far above its bound
the best of the first 1, 2, 4, ... programs of a kernel was. Quantiles give the interval, widened
until it holds on kernels of networks that were left out (conformalized quantile regression: Romano
et al., NeurIPS 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from costmodels.checkpoint import Checkpoint, packed, unpacked
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph
from costmodels.features.kernel_summary import KERNEL_SUMMARY, kernel_summary
from costmodels.features.operator_costs import kernel_cost
from costmodels.features.schema import FeatureSchema
from costmodels.kernel import FloatArray, RowArray
from costmodels.learning.calibration import COVERAGE, NORMAL_REACH, quantile_of_groups
from costmodels.model_state import Stored
from costmodels.networks.kernel_latency import KernelLatency
from costmodels.tuned_latency.gain import SPREAD, log_gain

QUANTILES = (0.05, 0.5, 0.95)
SHORTEST_S = 2e-7
"""Added to the bound: even a kernel that computes nothing takes so long."""
MIN_WIDTH = 0.05
"""Of the interval that quantiles give, as a logarithm."""
ROUNDS = 150
PARAMETERS: dict[str, Any] = {
    "objective": "reg:quantileerror",
    "quantile_alpha": list(QUANTILES),
    "max_depth": 4,
    "eta": 0.05,
    "min_child_weight": 8.0,
    "lambda": 1.0,
    "subsample": 0.8,
    "colsample_bytree": 0.7,
    "max_bin": 128,
    "tree_method": "hist",
    "nthread": 1,  # so few rows that threads only wait for each other
    "verbosity": 0,
}


@dataclass(frozen=True)
class TunedKernel:
    """How tuning a kernel went.

    Parameters
    ----------
    graph : KernelGraph
        The kernel, before scheduling.
    device : Device
        What it ran on.
    run_s : tuple of float
        Latency of each program in seconds, in the order in which they were tried; infinite for one
        that failed.
    group : str
        What is left out together when the interval is judged: the network, or its family.
    searched : bool
        Whether a search chose the programs, each after it had learned from those before. Others
        are learned from, and intervals are not judged by them.
    """

    graph: KernelGraph
    device: Device
    run_s: tuple[float, ...]
    group: str
    searched: bool = True

    def best_after(self) -> list[tuple[int, float]]:
        """Trials, doubled each time and all of them, and the best latency after so many."""
        best = np.minimum.accumulate(self.run_s)
        counts = [2**power for power in range(len(best).bit_length()) if 2**power <= len(best)]
        return [
            (count, float(best[count - 1]))
            for count in dict.fromkeys([*counts, len(best)])
            if np.isfinite(best[count - 1])
        ]


class TunedLatency(Stored):
    """Predicts latencies after tuning.

    Parameters
    ----------
    rng : numpy.random.Generator, optional
        Of the trees.
    """

    name: ClassVar[str] = "tuned_latency"
    schema: ClassVar[FeatureSchema] = KERNEL_SUMMARY

    def __init__(self, *, rng: np.random.Generator | None = None) -> None:
        self._rng = rng or np.random.default_rng(0)
        self._trees = b""
        self._widening = 0.0
        self._most_trials = 0

    @property
    def is_fitted(self) -> bool:
        """Whether it has learned."""
        return bool(self._trees)

    @property
    def most_trials(self) -> int:
        """Of a kernel that it learned from."""
        return self._most_trials

    def fit(self, kernels: Sequence[TunedKernel], *, folds: int = 5) -> Self:
        """Forget, then learn from tuning runs.

        Parameters
        ----------
        kernels : sequence of TunedKernel
            Of at least `folds` groups.
        folds : int
            Parts of the groups; each is left out once to judge the interval.

        Raises
        ------
        InputError
            When there are fewer groups.
        """
        rows, labels, groups = _examples(kernels)
        is_judged = rows[:, -1] == 1
        names = np.unique(groups[is_judged])
        if len(names) < folds:
            raise InputError(
                f"tuned kernels must be of at least {folds} networks, got {len(names)}"
            )
        fold_of = dict(
            zip(self._rng.permutation(names), np.arange(len(names)) % folds, strict=True)
        )
        fold = np.array([fold_of.get(each, -1) for each in groups])
        missed = np.empty(len(labels))
        for number in range(folds):
            out = (fold == number) & is_judged
            low, _, high = _sorted(_predict(_train(rows[~out], labels[~out], self._rng), rows[out]))
            missed[out] = np.maximum(low - labels[out], labels[out] - high) / _width(low, high)
        self._widening = quantile_of_groups(missed[is_judged], groups[is_judged], COVERAGE)
        self._trees = _train(rows, labels, self._rng)
        self._most_trials = max(len(each.run_s) for each in kernels if each.searched)
        return self

    def predict(
        self, graphs: Sequence[KernelGraph], device: Device, trials: int
    ) -> list[KernelLatency]:
        """Latency of each kernel after so many trials of it, with an interval that holds 90 %.

        Parameters
        ----------
        graphs : sequence of KernelGraph
            The kernels.
        device : Device
            What they run on.
        trials : int
            At least 1; what those above `most_trials` gain is `costmodels.tuned_latency.gain`'s
            to say.

        Raises
        ------
        InputError
            When nothing was learned, or there are no trials.
        """
        if not self.is_fitted:
            raise InputError("a model of tuned latencies must have learned, got one that has not")
        if trials < 1:
            raise InputError(f"trials must be at least 1, got {trials}")
        if not graphs:
            return []
        counted = min(trials, self._most_trials)
        rows = np.stack([_row(kernel_summary(each, device), counted) for each in graphs])
        low, middle, high = _sorted(_predict(self._trees, rows))
        bounds = np.array([bound_s(graph, device) for graph in graphs])
        gain = log_gain(counted, trials - counted)
        # Narrowing, where quantiles were too wide, must not turn an interval inside out.
        wider = self._widening * _width(low, high)
        low, high = np.minimum(low - wider, middle), np.maximum(high + wider, middle)
        middle, low = middle - gain, low - gain * (1 + NORMAL_REACH * SPREAD)
        seconds = bounds[:, None] * np.exp(np.column_stack([middle, low, high]))
        return [KernelLatency(m, a, b, "predicted") for m, a, b in seconds.tolist()]

    def state(self) -> Checkpoint:
        """What a checkpoint of it holds."""
        return Checkpoint.of(
            self.name,
            self.schema,
            arrays={"trees": packed(self._trees)},
            settings={"widening": self._widening, "most_trials": self._most_trials},
        )

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        model = cls()
        model._trees = unpacked(state.arrays["trees"])
        model._widening = float(state.settings["widening"])
        model._most_trials = int(state.settings["most_trials"])
        return model


def bound_s(graph: KernelGraph, device: Device) -> float:
    """What latencies are told relative to: seconds at the peaks of the device, and some more."""
    cost = kernel_cost(graph)
    return (
        cost.flop / device.peak_flop_per_s
        + cost.moved_bytes / device.bandwidth_byte_per_s
        + SHORTEST_S
    )


def _row(summary: RowArray, trials: int, *, searched: bool = True) -> RowArray:
    return np.concatenate([summary, np.array([np.log2(trials), searched], np.float32)])


def _examples(kernels: Sequence[TunedKernel]) -> tuple[RowArray, FloatArray, NDArray[np.str_]]:
    rows, labels, groups = [], [], []
    for kernel in kernels:
        bound = bound_s(kernel.graph, kernel.device)
        summary = kernel_summary(kernel.graph, kernel.device)
        for trials, seconds in kernel.best_after():
            rows.append(_row(summary, trials, searched=kernel.searched))
            labels.append(np.log(seconds / bound))
            groups.append(kernel.group)
    return np.array(rows, np.float32), np.array(labels), np.array(groups)


def _train(rows: RowArray, labels: FloatArray, rng: np.random.Generator) -> bytes:
    import xgboost as xgb  # every estimate imports this file, and few ask for tuned latencies

    more_trials_never_slower = [0] * len(KERNEL_SUMMARY.columns) + [-1, 0]
    parameters = PARAMETERS | {
        "seed": int(rng.integers(2**31)),
        "monotone_constraints": tuple(more_trials_never_slower),
    }
    data = xgb.QuantileDMatrix(rows, labels, max_bin=PARAMETERS["max_bin"])
    return bytes(xgb.train(parameters, data, ROUNDS).save_raw("ubj"))


def _predict(trees: bytes, rows: RowArray) -> FloatArray:
    """Quantiles [rows, quantiles]."""
    import xgboost as xgb

    found: FloatArray = xgb.Booster(model_file=bytearray(trees)).inplace_predict(rows)
    return found.astype(np.float64).reshape(len(rows), len(QUANTILES))


def _width(low: FloatArray, high: FloatArray) -> FloatArray:
    """Intervals are widened in proportion: after few trials much is open, after many little."""
    return np.maximum(high - low, MIN_WIDTH)


def _sorted(quantiles: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Each [rows], in order: trees of one quantile may cross those of another."""
    low, middle, high = np.sort(quantiles, axis=1).T
    return low, middle, high
