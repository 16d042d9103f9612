"""Losses of kernel models: on the order of the kernels of one task, and on seconds.

Rank losses take groups of kernels, each of one task: the order of kernels of different tasks means
nothing. A kernel that failed is slower than every kernel of its group that ran.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

MAX_GAP = 1.0
"""Gap in log speed from which a pair counts fully."""
SMALLEST_GAP = 0.02
"""Gap in log speed under which the order of a pair is noise."""
_NEVER = 1e9
"""In place of infinity where it would make gradients no numbers."""


@dataclass(frozen=True)
class RankTargets:
    """What is known of the kernels of some groups.

    Parameters
    ----------
    log_speed : Tensor
        float32 [groups, width]; of a failed kernel that of the slowest of its group minus
        `MAX_GAP`; arbitrary where there is no kernel.
    ran, failed : Tensor
        bool [groups, width]; both false where a group has no kernel.
    """

    log_speed: Tensor
    ran: Tensor
    failed: Tensor

    @property
    def known(self) -> Tensor:
        """bool [groups, width]; where there is a kernel."""
        return self.ran | self.failed


RankLoss: TypeAlias = Callable[[Tensor, RankTargets], Tensor]
"""(utility [groups, width], targets) -> the loss, a number."""


def squared_error(utility: Tensor, targets: RankTargets) -> Tensor:
    """Squared error on log speed after removing the mean error of each group; failures left out."""
    error = torch.where(targets.ran, utility - targets.log_speed, 0.0)
    count = targets.ran.sum(dim=1, keepdim=True).clamp_min(1)
    centred = torch.where(targets.ran, error - error.sum(dim=1, keepdim=True) / count, 0.0)
    return centred.square().sum() / targets.ran.sum().clamp_min(1)


def pairwise(utility: Tensor, targets: RankTargets) -> Tensor:
    """Logistic loss on pairs, weighted by their gap (RankNet, Burges et al., ICML 2005)."""
    gap = _gaps(targets)
    weight = torch.where(gap > SMALLEST_GAP, gap.clamp_max(MAX_GAP), 0.0)
    loss = functional.softplus(utility[:, None, :] - utility[:, :, None])
    return (weight * loss).sum() / weight.sum().clamp_min(1e-6)


def lambda_rank(utility: Tensor, targets: RankTargets) -> Tensor:
    """Logistic loss on pairs, weighted by what their exchange changes (Burges, MSR-TR-2010-82).

    The gain of a kernel is the latency of the best of its group over its own, the discount that of
    NDCG at the rank that the utilities give it now.
    """
    known = targets.known
    best = torch.where(known, targets.log_speed, -_NEVER).max(dim=1, keepdim=True).values
    gain = torch.where(known, torch.exp(targets.log_speed - best), 0.0)
    order = torch.where(known, utility.detach(), -_NEVER).argsort(dim=1, descending=True)
    rank = order.argsort(dim=1).to(utility.dtype)
    discount = 1.0 / torch.log2(rank + 2.0)
    ideal = (gain.sort(dim=1, descending=True).values * _discounts(gain)).sum(dim=1)
    change = (gain[:, :, None] - gain[:, None, :]) * (discount[:, :, None] - discount[:, None, :])
    weight = torch.where(_gaps(targets) > SMALLEST_GAP, change.abs(), 0.0)
    weight = weight / ideal.clamp_min(1e-6)[:, None, None]
    loss = functional.softplus(utility[:, None, :] - utility[:, :, None])
    return (weight * loss).sum() / known.any(dim=1).sum().clamp_min(1)


def list_wise(utility: Tensor, targets: RankTargets) -> Tensor:
    """Negative log likelihood of the true order (ListMLE, Xia et al., ICML 2008), per kernel."""
    known = targets.known
    order = torch.where(known, targets.log_speed, -_NEVER).argsort(dim=1, descending=True)
    there = known.gather(1, order)
    chosen = torch.where(there, utility.gather(1, order), -_NEVER)
    still_open = torch.logcumsumexp(chosen.flip(1), dim=1).flip(1)
    return torch.where(there, still_open - chosen, 0.0).sum() / known.sum().clamp_min(1)


def log_seconds_error(predicted: Tensor, log_latency: Tensor) -> Tensor:
    """Huber loss on log seconds, its bend at an error of e-fold; NaN targets are left out."""
    known = torch.isfinite(log_latency)
    if not known.any():
        return predicted.sum() * 0.0
    return functional.smooth_l1_loss(predicted[known], log_latency[known], beta=1.0)


RANK_LOSSES: Mapping[str, RankLoss] = {
    "squared_error": squared_error,
    "pairwise": pairwise,
    "lambda_rank": lambda_rank,
    "list_wise": list_wise,
}
"""Name -> loss."""


def _gaps(targets: RankTargets) -> Tensor:
    """[groups, width, width]: log speed of the first minus that of the second; 0 for no pair."""
    known = targets.known
    both = known[:, :, None] & known[:, None, :]
    return torch.where(both, targets.log_speed[:, :, None] - targets.log_speed[:, None, :], 0.0)


def _discounts(like: Tensor) -> Tensor:
    places = torch.arange(like.shape[1], dtype=like.dtype)
    return 1.0 / torch.log2(places + 2.0)
