"""What networks of kernels learn from in the training loop: groups of kernels of one task."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from costmodels.errors import InputError
from costmodels.kernel import IndexArray
from costmodels.learning.kernel_network import KernelNetwork
from costmodels.learning.kernel_tensors import KernelEncoding
from costmodels.learning.labels import KernelLabels, LabelledGroups, labelled_groups
from costmodels.learning.loop import Examples, LoopConfig
from costmodels.learning.losses import RANK_LOSSES, log_seconds_error


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How a network is trained.

    Parameters
    ----------
    loss : str
        On the order of the kernels of a task; one of `costmodels.learning.losses.RANK_LOSSES`.
    centred_weight : float
        Weight of the squared error on log speed within a task beside it, which keeps utilities in
        units of log speed.
    seconds_weight : float
        Weight of the error on log seconds.
    epochs, patience : int
        Passes over the data at most; passes without improvement on the tasks held out after which
        it stops.
    kernels_per_batch : int
        Kernels of a mini-batch.
    learning_rate, weight_decay, largest_gradient : float
        Of AdamW with one cycle of the learning rate; norm at which gradients are cut.
    """

    loss: str = "pairwise"
    centred_weight: float = 0.3
    seconds_weight: float = 0.3
    epochs: int = 60
    patience: int = 15
    kernels_per_batch: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    largest_gradient: float = 1.0

    def __post_init__(self) -> None:
        if self.loss not in RANK_LOSSES:
            raise InputError(f"loss must be one of {', '.join(RANK_LOSSES)}, got {self.loss!r}")

    @property
    def loop(self) -> LoopConfig:
        """What of it is of the loop alone."""
        return LoopConfig(
            self.epochs,
            self.patience,
            self.learning_rate,
            self.weight_decay,
            self.largest_gradient,
        )


@dataclass(frozen=True)
class LabelledKernels:
    """Kernels to learn from or to judge by.

    Parameters
    ----------
    encoding : KernelEncoding
        The kernels.
    labels : KernelLabels
        What was measured of them.
    """

    encoding: KernelEncoding
    labels: KernelLabels


class KernelExamples(Examples[KernelNetwork, LabelledGroups]):
    """Kernels in mini-batches of whole groups.

    Parameters
    ----------
    kernels : LabelledKernels
        All of them.
    config : TrainingConfig
        Loss, and size of a mini-batch.
    """

    def __init__(self, kernels: LabelledKernels, config: TrainingConfig) -> None:
        self._kernels = kernels
        self._config = config

    @property
    def batch_count(self) -> int:
        """About how many mini-batches a pass has."""
        return max(1, round(len(self._kernels.encoding) / self._config.kernels_per_batch))

    def batches(self, rng: np.random.Generator | None) -> Iterator[tuple[LabelledGroups, int]]:
        """Yield groups until they have enough kernels, groups drawn anew with `rng`."""
        labels, size = self._kernels.labels, self._config.kernels_per_batch
        for groups in _mini_batches(labels, size, rng):
            yield groups, len(groups.kernels)

    def loss(self, network: KernelNetwork, batch: LabelledGroups) -> Tensor:
        """On the order within groups, and on seconds."""
        return batch_loss(network, self._kernels.encoding, batch, self._config)


def batch_loss(
    network: KernelNetwork,
    encoding: KernelEncoding,
    groups: LabelledGroups,
    config: TrainingConfig,
) -> Tensor:
    """Loss of a network on some groups of kernels."""
    found = network(encoding.tensors(groups.kernels))
    utility = found[:, 0].index_select(0, groups.place.flatten()).reshape(groups.place.shape)
    loss = RANK_LOSSES[config.loss](utility, groups.targets)
    if config.centred_weight:
        centred = RANK_LOSSES["squared_error"](utility, groups.targets)
        loss = loss + config.centred_weight * centred
    if config.seconds_weight:
        seconds = log_seconds_error(found[:, 1], groups.log_excess)
        loss = loss + config.seconds_weight * seconds
    return loss


def _mini_batches(
    labels: KernelLabels, size: int, rng: np.random.Generator | None
) -> Iterator[LabelledGroups]:
    groups = labels.groups(rng)
    order = np.arange(len(groups)) if rng is None else rng.permutation(len(groups))
    taken: list[IndexArray] = []
    kernels = 0
    for number in order:
        taken.append(groups[number])
        kernels += len(groups[number])
        if kernels >= size:
            yield labelled_groups(labels, taken)
            taken, kernels = [], 0
    if taken:
        yield labelled_groups(labels, taken)
