"""What networks learn of measured kernels, and in which groups they meet them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from costmodels.kernel import FloatArray, IndexArray
from costmodels.learning.losses import MAX_GAP, RankTargets
from costmodels.metrics import task_groups

GROUP = 32
"""Kernels of one task that are compared with each other at a time: pairs grow with its square."""


@dataclass(frozen=True)
class KernelLabels:
    """Measurements of kernels as networks learn them.

    Parameters
    ----------
    task_index : numpy.ndarray
        int64 [kernels].
    log_latency : numpy.ndarray
        float64 [kernels]; natural logarithm of seconds, NaN for a kernel that failed.
    log_excess : numpy.ndarray
        float64 [kernels]; log latency minus that of the roofline; NaN for a kernel that failed.
    """

    task_index: IndexArray
    log_latency: FloatArray
    log_excess: FloatArray

    def groups(self, rng: np.random.Generator | None = None) -> list[IndexArray]:
        """Kernels of each task in groups of at most 32, drawn anew with `rng`."""
        found: list[IndexArray] = []
        for group in task_groups(self.task_index):
            mixed = group if rng is None else rng.permutation(group)
            found += np.array_split(mixed, -(-len(mixed) // GROUP))
        return found


@dataclass(frozen=True)
class LabelledGroups:
    """The labels of a mini-batch.

    Parameters
    ----------
    kernels : numpy.ndarray
        int64 [kernels]; positions among all kernels, group after group.
    place : Tensor
        int64 [groups, width]; position in `kernels`, or 0 where a group has no kernel.
    targets : RankTargets
        Of the groups.
    log_excess : Tensor
        float32 [kernels].
    """

    kernels: IndexArray
    place: Tensor
    targets: RankTargets
    log_excess: Tensor


def labelled_groups(labels: KernelLabels, groups: list[IndexArray]) -> LabelledGroups:
    """Labels of some groups of kernels.

    Parameters
    ----------
    labels : KernelLabels
        Of all kernels.
    groups : list of numpy.ndarray
        int64; at least one, none empty.
    """
    width = max(map(len, groups))
    place = np.zeros((len(groups), width), np.int64)
    there = np.zeros((len(groups), width), bool)
    start = 0
    for number, group in enumerate(groups):
        place[number, : len(group)] = np.arange(start, start + len(group))
        there[number, : len(group)] = True
        start += len(group)
    kernels = np.concatenate(groups)
    log_speed = -labels.log_latency[kernels][place]
    failed = there & np.isnan(log_speed)
    ran = there & ~failed
    slowest = np.where(ran, log_speed, np.inf).min(axis=1, keepdims=True)
    slowest[np.isinf(slowest)] = 0.0  # all of the group failed
    filled = np.where(ran, log_speed, slowest - MAX_GAP)
    # Relative to each group's mean: logarithms of seconds would cost float32 its digits.
    filled -= filled.mean(axis=1, keepdims=True)
    return LabelledGroups(
        kernels,
        torch.from_numpy(place),
        RankTargets(
            torch.from_numpy(filled).float(), torch.from_numpy(ran), torch.from_numpy(failed)
        ),
        torch.from_numpy(labels.log_excess[kernels]).float(),
    )
