"""The one training loop: mini-batches of groups, early stop on tasks held out, best weights."""

import copy
import io
import json
import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from costmodels.errors import InputError
from costmodels.files import write_atomically
from costmodels.kernel import IndexArray
from costmodels.learning.kernel_network import KernelNetwork
from costmodels.learning.kernel_tensors import KernelEncoding
from costmodels.learning.labels import KernelLabels, LabelledGroups, labelled_groups
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


@dataclass(frozen=True, slots=True)
class Epoch:
    """How far training has come.

    Parameters
    ----------
    number, most : int
        Passes done, and passes at most.
    training_loss, validation_loss : float
        Means; the latter NaN without kernels held out.
    """

    number: int
    most: int
    training_loss: float
    validation_loss: float


def train(
    network: KernelNetwork,
    training: LabelledKernels,
    config: TrainingConfig,
    *,
    rng: np.random.Generator,
    validation: LabelledKernels | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    unfinished: Path | None = None,
) -> float:
    """Train a network in place; it ends with the weights that did best on the kernels held out.

    Parameters
    ----------
    network : KernelNetwork
        With its inputs standardised.
    training : LabelledKernels
        To learn from.
    config : TrainingConfig
        How.
    rng : numpy.random.Generator
        Draws groups and their order.
    validation : LabelledKernels, optional
        Kernels of other tasks; without them the weights of the last epoch stay.
    on_epoch : callable
        Told after each epoch.
    unfinished : Path, optional
        Where to keep the state after each epoch; it goes on from there when the file holds that of
        the same training.

    Returns
    -------
    float
        Loss on the kernels held out; NaN without.
    """
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    state = _State(network, optimizer, rng)
    if unfinished is not None:
        state.restore(unfinished)
    steps = config.epochs * max(1, round(len(training.encoding) / config.kernels_per_batch))
    while state.epoch < config.epochs and state.epoch - state.best_epoch < config.patience:
        state.epoch += 1
        loss = _one_epoch(state, training, config, steps)
        held_out = math.nan if validation is None else mean_loss(network, validation, config)
        if not held_out >= state.best_loss:  # without kernels held out the last is the best
            state.best_loss, state.best_epoch = held_out, state.epoch
            state.best_weights = copy.deepcopy(network.state_dict())
        on_epoch(Epoch(state.epoch, config.epochs, loss, held_out))
        if unfinished is not None:
            state.save(unfinished)
    network.load_state_dict(state.best_weights)
    network.eval()
    return state.best_loss


class _State:
    """All that changes while a network is trained.

    Parameters
    ----------
    network : KernelNetwork
        At its start.
    optimizer : Optimizer
        Of its weights.
    rng : numpy.random.Generator
        Draws groups.
    """

    def __init__(
        self, network: KernelNetwork, optimizer: torch.optim.Optimizer, rng: np.random.Generator
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.rng = rng
        self.epoch = self.step = self.best_epoch = 0
        self.best_loss = math.inf
        self.best_weights = copy.deepcopy(network.state_dict())
        self._start = _digest(self.best_weights)

    def save(self, path: Path) -> None:
        """Write everything to a file."""
        held = io.BytesIO()
        values = {name: getattr(self, name) for name in _KEPT}
        values["start"] = self._start
        values["network"] = self.network.state_dict()
        values["optimizer"] = self.optimizer.state_dict()
        values["rng"] = json.dumps(self.rng.bit_generator.state)
        torch.save(values, held)
        write_atomically(path, held.getvalue())

    def restore(self, path: Path) -> None:
        """Read what `save` wrote, if it began with the same weights."""
        try:
            values = torch.load(path, weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
            return  # none, or damaged: from the beginning
        if not isinstance(values, dict) or values.get("start") != self._start:
            return
        for name in _KEPT:
            setattr(self, name, values[name])
        self.network.load_state_dict(values["network"])
        kept = "optimizer" if "optimizer" in values else "optimiser"  # as earlier releases had it
        self.optimizer.load_state_dict(values[kept])
        self.rng.bit_generator.state = json.loads(values["rng"])


_KEPT = ("epoch", "step", "best_epoch", "best_loss", "best_weights")


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Of the first weights, and so of the seed, the shape and the data's mean and deviation."""
    state = blake2b(digest_size=16)
    for name, value in weights.items():
        state.update(name.encode() + value.numpy().tobytes())
    return state.hexdigest()


def _one_epoch(
    state: _State, training: LabelledKernels, config: TrainingConfig, steps: int
) -> float:
    """Pass over the data once; return the mean loss."""
    network, optimizer = state.network, state.optimizer
    network.train()
    losses = []
    for groups in _mini_batches(training.labels, config.kernels_per_batch, state.rng):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(state.step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss = batch_loss(network, training.encoding, groups, config)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), config.largest_gradient)
        optimizer.step()
        state.step += 1
        losses.append(loss.item())
    return float(np.mean(losses))


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


def mean_loss(network: KernelNetwork, kernels: LabelledKernels, config: TrainingConfig) -> float:
    """Mean loss over mini-batches, with the network as it is used for predicting."""
    network.eval()
    losses, sizes = [], []
    with torch.no_grad():
        for groups in _mini_batches(kernels.labels, config.kernels_per_batch, None):
            losses.append(batch_loss(network, kernels.encoding, groups, config).item())
            sizes.append(len(groups.kernels))
    return float(np.average(losses, weights=sizes))


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


def _rate(progress: float) -> float:
    """Share of the learning rate: up within a twentieth of the steps, then down as a cosine."""
    warm_up = 0.05
    if progress < warm_up:
        return max(progress / warm_up, 0.02)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1.0 - warm_up)))) + 0.01
