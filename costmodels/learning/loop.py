"""The one training loop: mini-batches, early stop on examples held out, best weights.

What examples are, kernels or networks, and what is lost on them, is the caller's to say.
"""

import copy
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from costmodels.files import write_atomically

_Network = TypeVar("_Network", bound=nn.Module)
_Batch = TypeVar("_Batch")


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How the weights of a network are found.

    Parameters
    ----------
    epochs, patience : int
        Passes over the data at most; passes without improvement on the examples held out after
        which it stops.
    learning_rate, weight_decay, largest_gradient : float
        Of AdamW with one cycle of the learning rate; norm at which gradients are cut.
    """

    epochs: int = 60
    patience: int = 15
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    largest_gradient: float = 1.0


class Examples(ABC, Generic[_Network, _Batch]):
    """What a network learns from, or is judged by, in mini-batches."""

    @property
    @abstractmethod
    def batch_count(self) -> int:
        """About how many mini-batches a pass has; at least 1."""

    @abstractmethod
    def batches(self, rng: np.random.Generator | None) -> Iterator[tuple[_Batch, int]]:
        """Yield mini-batches and how many examples each has.

        Parameters
        ----------
        rng : numpy.random.Generator, optional
            Draws their order; without it that is always the same.
        """

    @abstractmethod
    def loss(self, network: _Network, batch: _Batch) -> Tensor:
        """What a network loses on a mini-batch, on the mean of its examples: a scalar."""


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
    network: _Network,
    training: Examples[_Network, _Batch],
    config: LoopConfig,
    *,
    rng: np.random.Generator,
    validation: Examples[_Network, _Batch] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    unfinished: Path | None = None,
) -> float:
    """Train a network in place; it ends with the weights that did best on what was held out.

    Parameters
    ----------
    network : torch.nn.Module
        With its inputs standardised.
    training : Examples
        To learn from.
    config : LoopConfig
        How.
    rng : numpy.random.Generator
        Draws the order of examples.
    validation : Examples, optional
        To stop by; without them the weights of the last epoch stay.
    on_epoch : callable
        Told after each epoch.
    unfinished : Path, optional
        Where to keep the state after each epoch; it goes on from there when the file holds that of
        the same training.

    Returns
    -------
    float
        Loss on what was held out; NaN without.
    """
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    state = _State(network, optimizer, rng)
    if unfinished is not None:
        state.restore(unfinished)
    while state.epoch < config.epochs and state.epoch - state.best_epoch < config.patience:
        state.epoch += 1
        loss = _one_epoch(network, state, training, config)
        held_out = math.nan if validation is None else mean_loss(network, validation)
        if validation is None or held_out < state.best_loss:  # without any the last is the best
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
    network : torch.nn.Module
        At its start.
    optimizer : Optimizer
        Of its weights.
    rng : numpy.random.Generator
        Draws the order of examples.
    """

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, rng: np.random.Generator
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
        except Exception:  # damage can make its reader raise anything
            return  # none, or damaged: from the beginning
        if not isinstance(values, dict) or values.get("start") != self._start:
            return
        if not values.keys() >= {*_KEPT, "network", "rng"}:
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
    network: _Network, state: _State, training: Examples[_Network, _Batch], config: LoopConfig
) -> float:
    """Pass over the data once; return the mean loss."""
    optimizer = state.optimizer
    steps = config.epochs * training.batch_count
    network.train()
    losses = []
    for batch, _ in training.batches(state.rng):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate(state.step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss = training.loss(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), config.largest_gradient)
        optimizer.step()
        state.step += 1
        losses.append(loss.item())
    return float(np.mean(losses))


def mean_loss(network: _Network, examples: Examples[_Network, _Batch]) -> float:
    """Mean loss over mini-batches, with the network as it is used for predicting."""
    network.eval()
    losses, sizes = [], []
    with torch.no_grad():
        for batch, size in examples.batches(None):
            losses.append(examples.loss(network, batch).item())
            sizes.append(size)
    return float(np.average(losses, weights=sizes)) if sizes else math.nan


def _rate(progress: float) -> float:
    """Share of the learning rate: up within a twentieth of the steps, then down as a cosine."""
    warm_up = 0.05
    if progress < warm_up:
        return max(progress / warm_up, 0.02)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1.0 - warm_up)))) + 0.01
