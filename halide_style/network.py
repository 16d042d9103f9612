"""A small network that says how much each hand-made term counts (Adams et al., SIGGRAPH 2019).

As in Halide, one part reads the operator histogram, its weights squashed, the other the schedule;
joined they give each term a coefficient that is never negative. The cost of a stage is the dot
product of coefficients and terms, that of a kernel the sum over its stages: it stays a time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from costmodels.learning.kernel_network import KernelNetwork
from costmodels.learning.kernel_tensors import KernelEncoding, KernelTensors
from costmodels.learning.layers import Standardise, feed_forward, segment_sum
from halide_style.features import PARTS

MIN_COST = 1e-6
"""Of a kernel relative to its roofline: keeps the logarithm finite."""


@dataclass(frozen=True, slots=True)
class HalideShape:
    """Shape of the network.

    Parameters
    ----------
    histogram, schedule : int
        Size of what the parts for histogram and schedule give.
    joined : int
        Size of the layer that joins them.
    """

    histogram: int = 8
    schedule: int = 64
    joined: int = 64


class HalideNetwork(KernelNetwork):
    """Terms, histogram and schedule of stages -> utility, and log seconds above the roofline.

    Parameters
    ----------
    shape : HalideShape
        Its shape.
    """

    def __init__(self, shape: HalideShape) -> None:
        super().__init__()
        terms, histogram, schedule = PARTS
        self.histogram_weight = nn.Parameter(torch.randn(histogram, shape.histogram))
        self.scale = Standardise(schedule)
        self.schedule = feed_forward((schedule, 2 * shape.schedule, shape.schedule))
        self.coefficients = feed_forward((shape.histogram + shape.schedule, shape.joined, terms))

    def standardise(self, kernels: KernelEncoding) -> None:
        """Learn how the schedule's columns are distributed; terms keep their unit."""
        self.scale.learn(kernels.rows[:, -PARTS[2] :])

    def costs(self, rows: Tensor) -> Tensor:
        """[rows, inputs] -> [rows, terms]: what each term adds, relative to the roofline."""
        terms, histogram, schedule = torch.split(rows, list(PARTS), dim=1)
        kinds = histogram @ torch.sigmoid(self.histogram_weight)
        placed = torch.relu(self.schedule(self.scale(schedule)))
        coefficients = functional.softplus(self.coefficients(torch.cat([kinds, placed], dim=1)))
        found: Tensor = coefficients * terms
        return found

    def forward(self, kernels: KernelTensors) -> Tensor:
        """Predict; the utility is minus the log seconds."""
        stages = self.costs(kernels.rows).sum(dim=1, keepdim=True)
        cost = segment_sum(stages, kernels.row_kernel, kernels.kernels)
        log_cost = torch.log(cost[:, 0] + MIN_COST)
        return torch.stack([-log_cost - kernels.log_bound, log_cost], dim=1)
