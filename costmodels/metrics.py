"""How good predictions are: each metric exists once, here.

Ranking metrics are of one task: `per_task` computes them for each task of a batch, so that they can
be averaged. Where every kernel of a task ties, the expected value under random order counts.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodels.kernel import FloatArray, IndexArray

RankMetric: TypeAlias = Callable[[FloatArray, FloatArray], float]
"""(utility [kernels], latency_s [kernels]) -> value, for the kernels of one task."""


def top_k_score(utility: FloatArray, latency_s: FloatArray, k: int = 1) -> float:
    """Best latency over the best latency among the `k` kernels predicted fastest.

    Parameters
    ----------
    utility : numpy.ndarray
        [kernels]; higher is faster.
    latency_s : numpy.ndarray
        [kernels]; measured seconds.
    k : int
        How many one is willing to measure.

    Returns
    -------
    float
        In (0, 1]; 1 is perfect. NaN without kernels. As in TenSet (Zheng et al., NeurIPS 2021) for
        a single task. Kernels tied at the k-th place are equally likely to be picked, and the
        expected value counts.
    """
    if len(utility) == 0:
        return float("nan")
    seconds, chance = _best_of_picked(utility, latency_s, k)
    return float(np.sum(chance * latency_s.min() / seconds))


def expected_pick_s(utility: FloatArray, latency_s: FloatArray, k: int = 1) -> float:
    """Best latency among the `k` kernels predicted fastest, in seconds.

    Parameters
    ----------
    utility, latency_s, k
        As of `top_k_score`, and with ties as there. NaN without kernels.
    """
    if len(utility) == 0:
        return float("nan")
    seconds, chance = _best_of_picked(utility, latency_s, k)
    return float(np.sum(chance * seconds))


def _best_of_picked(
    utility: FloatArray, latency_s: FloatArray, k: int
) -> tuple[FloatArray, FloatArray]:
    """What the best of the `k` picked kernels may take, and how likely each of these is."""
    k = min(k, len(utility))
    threshold = np.sort(utility)[::-1][k - 1]
    sure = latency_s[utility > threshold]
    tied = np.sort(latency_s[utility == threshold])
    places = k - len(sure)
    best_sure = sure.min() if len(sure) else np.inf
    # Chance that the i-th fastest tied kernel is the fastest of `places` drawn ones.
    n = len(tied)
    chance = np.empty(n)
    none_before = 1.0
    for i in range(n):
        hit = places / (n - i) if n - i > places else 1.0
        chance[i] = none_before * hit
        none_before *= 1.0 - hit
    return np.minimum(tied, best_sure), chance


def pair_accuracy(utility: FloatArray, latency_s: FloatArray) -> float:
    """Share of pairs of different latency that are in the right order; a tied pair counts half.

    Returns
    -------
    float
        In [0, 1]; 0.5 is chance. NaN when no two latencies differ.
    """
    faster = latency_s[:, None] < latency_s[None, :]
    pairs = int(faster.sum())
    if pairs == 0:
        return float("nan")
    gap = utility[:, None] - utility[None, :]
    right = np.sum(faster & (gap > 0)) + 0.5 * np.sum(faster & (gap == 0))
    return float(right / pairs)


def kendall_tau(utility: FloatArray, latency_s: FloatArray) -> float:
    """Kendall's tau-b between utility and speed.

    Returns
    -------
    float
        In [-1, 1]; 0 is chance, and what a constant prediction gets. NaN when no two latencies
        differ.
    """
    if len(np.unique(latency_s)) < 2:
        return float("nan")
    if len(np.unique(utility)) < 2:
        return 0.0
    from scipy import stats  # 60 MB that predicting does not need

    return float(stats.kendalltau(utility, -latency_s).statistic)


def mape(predicted_s: FloatArray, latency_s: FloatArray) -> float:
    """Mean of |predicted - measured| / measured; pooled over all kernels given."""
    return float(np.mean(np.abs(predicted_s - latency_s) / latency_s))


def median_ape(predicted_s: FloatArray, latency_s: FloatArray) -> float:
    """Median of |predicted - measured| / measured; pooled over all kernels given."""
    return float(np.median(np.abs(predicted_s - latency_s) / latency_s))


def within(predicted_s: FloatArray, latency_s: FloatArray, share: float = 0.1) -> float:
    """Share of kernels predicted to within `share` of the measured latency; pooled."""
    return float(np.mean(np.abs(predicted_s - latency_s) <= share * latency_s))


def task_groups(task_index: IndexArray) -> Iterator[NDArray[np.int64]]:
    """Positions of the kernels of each task in turn."""
    order = np.argsort(task_index, kind="stable")
    borders = np.flatnonzero(np.diff(task_index[order])) + 1
    yield from (group for group in np.split(order, borders) if len(group))


def per_task(
    metric: RankMetric, utility: FloatArray, latency_s: FloatArray, task_index: IndexArray
) -> FloatArray:
    """A ranking metric for each task; average it with `numpy.nanmean`.

    Returns
    -------
    numpy.ndarray
        float64 [tasks that occur], in the order of their index.
    """
    groups = task_groups(task_index)
    return np.array([metric(utility[group], latency_s[group]) for group in groups])
