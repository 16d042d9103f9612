"""The latency that an architecture search expects, as torch can differentiate it: FBNet's.

Wu et al., "FBNet", CVPR 2019: a layer is a mixture of candidate blocks, its weights drawn from a
Gumbel softmax; the expected latency is the sum over layers of the weighted latencies in a table.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from costmodels.errors import InputError

ALPHA, BETA = 0.2, 0.6
"""Of the paper's loss."""


class ExpectedLatency(nn.Module):
    """Sum over layers of the latencies of their candidates, each with its weight.

    Parameters
    ----------
    latency_s : sequence of sequence of float
        Of each candidate of each layer, in seconds; layers may have different numbers of them.

    Raises
    ------
    InputError
        When a layer has no candidate, or a latency is negative or not finite.

    Examples
    --------
    >>> expected = ExpectedLatency([[1e-3, 3e-3], [2e-3, 0.0]])
    >>> round(float(expected([torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])])), 4)
    0.004
    """

    def __init__(self, latency_s: Sequence[Sequence[float]]) -> None:
        super().__init__()
        for number, layer in enumerate(latency_s):
            values = torch.tensor(list(layer), dtype=torch.float32)
            if not len(values) or not bool(torch.all(torch.isfinite(values) & (values >= 0))):
                raise InputError(
                    f"layer {number} must have latencies of at least 0 seconds, got {list(layer)}"
                )
            self.register_buffer(f"layer{number}", values)
        self.layers = len(latency_s)

    def forward(self, weights: Sequence[Tensor]) -> Tensor:
        """Expected seconds.

        Parameters
        ----------
        weights : sequence of Tensor
            Of each layer, float [candidates] or [samples, candidates]; each sums to 1.

        Returns
        -------
        Tensor
            Float, [] or [samples].
        """
        if len(weights) != self.layers:
            raise InputError(f"weights must be of {self.layers} layers, got {len(weights)}")
        each = [own @ self.get_buffer(f"layer{number}") for number, own in enumerate(weights)]
        return torch.stack(each).sum(dim=0)


def latency_loss(
    cross_entropy: Tensor, latency_s: Tensor, *, alpha: float = ALPHA, beta: float = BETA
) -> Tensor:
    """Cross entropy times ``alpha * log(latency)**beta``, the latency in microseconds.

    Parameters
    ----------
    cross_entropy : Tensor
        Of the task.
    latency_s : Tensor
        Expected seconds; more than a microsecond.
    alpha, beta : float
        How much latency matters.
    """
    return cross_entropy * alpha * torch.log(latency_s * 1e6).clamp_min(1e-6) ** beta
