"""How good models are on a test set: per task first, then averaged, with bootstrap intervals.

The scores follow TenSet (Zheng et al., NeurIPS 2021, Datasets and Benchmarks): top-k is the best
latency of a task over the best among the k programs predicted fastest; weighted, the sum over a
network's tasks of weight times best over the sum of weight times the best picked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodels.errors import InputError
from costmodels.kernel import FloatArray, KernelDataset, KernelPrediction
from costmodels.metrics import (
    expected_pick_s,
    kendall_tau,
    mape,
    median_ape,
    pair_accuracy,
    task_groups,
    top_k_score,
    within,
)

BOOTSTRAP_DRAWS = 1000
BOOTSTRAP_COVERAGE = 0.95


@dataclass(frozen=True)
class TestSet:
    """Measured programs that judge models, and what networks make of their tasks.

    Parameters
    ----------
    kernels : KernelDataset
        Measured ones only.
    networks : mapping
        Network on a target -> key of a task -> how often the network calls it. Tasks that are not
        in `kernels` do not count.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    kernels: KernelDataset
    networks: Mapping[str, Mapping[str, int]]

    def __post_init__(self) -> None:
        if not len(self.kernels) or not np.all(self.kernels.measured):
            raise InputError(
                "a test set must have kernels, all of them measured, "
                f"got {len(self.kernels)} with {int(np.sum(~self.kernels.measured))} failures"
            )


@dataclass(frozen=True, slots=True)
class Score:
    """A figure and what it could as well have been.

    Parameters
    ----------
    value : float
        Over all tasks.
    low, high : float
        95 % bootstrap interval over tasks (over networks for weighted scores).
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model achieves; None where it claims nothing of the kind.

    Parameters
    ----------
    top1, top5 : Score
        Mean over tasks of the top-k score; higher is better, 1 is perfect.
    top1_weighted, top5_weighted : Score or None
        Mean over networks on a target, as TenSet weights them; None without networks.
    top1_gain, top5_gain : Score
        (top-k - that of random picks) / (1 - that of random picks), of the means.
    kendall_tau, pair_accuracy : Score
        Means over tasks.
    supported : Score or None
        Share of kernels that the model has seconds for; the others do not count in what follows.
    mape, median_ape, within_10pct : Score or None
        Of the seconds, pooled over kernels; None where it has none.
    coverage, interval_width : Score or None
        Share of kernels inside their interval; median of (high - low) / measured.
    """

    top1: Score
    top5: Score
    top1_weighted: Score | None
    top5_weighted: Score | None
    top1_gain: Score
    top5_gain: Score
    kendall_tau: Score
    pair_accuracy: Score
    supported: Score | None
    mape: Score | None
    median_ape: Score | None
    within_10pct: Score | None
    coverage: Score | None
    interval_width: Score | None

    def values(self) -> dict[str, float | None]:
        """Name -> value alone."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: None if score is None else score.value for name, score in found.items()}


Groups: TypeAlias = Sequence[NDArray[np.int64]]
_PerTask: TypeAlias = Callable[[FloatArray, FloatArray], float]


def score_prediction(
    prediction: KernelPrediction, test: TestSet, *, rng: np.random.Generator
) -> Scores:
    """Judge the predictions of one model.

    Parameters
    ----------
    prediction : KernelPrediction
        Of the kernels of `test`, in their order.
    test : TestSet
        What was measured.
    rng : numpy.random.Generator
        Draws the bootstrap samples.

    Raises
    ------
    InputError
        When there is not one prediction a kernel.
    """
    if len(prediction) != len(test.kernels):
        raise InputError(
            f"there must be one prediction for each of {len(test.kernels)} kernels, "
            f"got {len(prediction)}"
        )
    latency_s = np.exp(test.kernels.log_latency)
    groups = list(task_groups(test.kernels.batch.task_index))
    utility = prediction.utility

    def by_task(metric: _PerTask, values: FloatArray) -> FloatArray:
        return np.array([metric(values[group], latency_s[group]) for group in groups])

    even = np.zeros(len(utility))
    found: dict[str, Score | None] = {}
    for k in (1, 5):
        top = by_task(_top(k), utility)
        chance = by_task(_top(k), even)
        found[f"top{k}"] = _bootstrap([top], _mean, rng)
        found[f"top{k}_gain"] = _bootstrap([top, chance], _gain, rng)
        found[f"top{k}_weighted"] = _weighted(utility, latency_s, groups, test, k, rng)
    found["kendall_tau"] = _bootstrap([by_task(kendall_tau, utility)], _mean, rng)
    found["pair_accuracy"] = _bootstrap([by_task(pair_accuracy, utility)], _mean, rng)
    return Scores(**found, **_seconds(prediction, latency_s, groups, rng))  # type: ignore[arg-type]


def _top(k: int) -> _PerTask:
    return lambda utility, latency_s: top_k_score(utility, latency_s, k)


def _mean(values: FloatArray) -> float:
    return float(np.nanmean(values)) if np.any(np.isfinite(values)) else float("nan")


def _gain(top: FloatArray, chance: FloatArray) -> float:
    by_chance = _mean(chance)
    return (_mean(top) - by_chance) / (1.0 - by_chance) if by_chance < 1.0 else float("nan")


def _bootstrap(
    parts: Sequence[FloatArray], statistic: Callable[..., float], rng: np.random.Generator
) -> Score:
    """A statistic of per-task values, and its interval over tasks drawn anew."""
    count = len(parts[0])
    draws = []
    for _ in range(BOOTSTRAP_DRAWS if count > 1 else 0):
        drawn = rng.integers(count, size=count)
        draws.append(statistic(*(part[drawn] for part in parts)))
    return _score(statistic(*parts), draws)


def _score(value: float, draws: Sequence[float]) -> Score:
    known = [draw for draw in draws if np.isfinite(draw)] or [value]
    tail = (1 - BOOTSTRAP_COVERAGE) / 2
    low, high = np.quantile(known, (tail, 1 - tail))
    return Score(value, float(low), float(high))


def _weighted(
    utility: FloatArray,
    latency_s: FloatArray,
    groups: Groups,
    test: TestSet,
    k: int,
    rng: np.random.Generator,
) -> Score | None:
    batch = test.kernels.batch
    best_s, picked_s = {}, {}
    for group in groups:
        key = batch.tasks[batch.task_index[group[0]]].key
        best_s[key] = float(latency_s[group].min())
        picked_s[key] = expected_pick_s(utility[group], latency_s[group], k)
    ratios = []
    for weights in test.networks.values():
        known = {key: weight for key, weight in weights.items() if key in best_s}
        if known:
            best = sum(weight * best_s[key] for key, weight in known.items())
            ratios.append(best / sum(weight * picked_s[key] for key, weight in known.items()))
    return _bootstrap([np.array(ratios)], _mean, rng) if ratios else None


def _seconds(
    prediction: KernelPrediction,
    latency_s: FloatArray,
    groups: Groups,
    rng: np.random.Generator,
) -> dict[str, Score | None]:
    predicted, low, high = prediction.latency_s, prediction.low_s, prediction.high_s
    found: dict[str, Score | None] = dict.fromkeys(
        ("supported", "mape", "median_ape", "within_10pct", "coverage", "interval_width")
    )
    if predicted is None:
        return found
    seconds = predicted
    known = np.isfinite(seconds)

    def pooled(metric: Callable[[NDArray[np.int64]], float], parts: Groups) -> Score:
        draws = []
        for _ in range(BOOTSTRAP_DRAWS if len(parts) > 1 else 0):
            drawn = rng.integers(len(parts), size=len(parts))
            draws.append(metric(np.concatenate([parts[task] for task in drawn])))
        return _score(metric(np.concatenate(parts)), draws)

    found["supported"] = pooled(lambda kernels: float(np.mean(known[kernels])), groups)
    answered = [group[known[group]] for group in groups if np.any(known[group])]
    if not answered:
        return found

    def error(metric: Callable[[FloatArray, FloatArray], float]) -> Score:
        return pooled(lambda kernels: metric(seconds[kernels], latency_s[kernels]), answered)

    found |= {"mape": error(mape), "median_ape": error(median_ape)}
    found["within_10pct"] = error(within)
    if low is not None and high is not None:
        inside = ((low <= latency_s) & (latency_s <= high)).astype(np.float64)
        width = (high - low) / latency_s
        found["coverage"] = pooled(lambda kernels: float(np.mean(inside[kernels])), answered)
        found["interval_width"] = pooled(lambda k: float(np.median(width[k])), answered)
    return found
