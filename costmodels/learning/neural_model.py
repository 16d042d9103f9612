"""What every neural kernel model does: learn, learn on in bounded time, predict, keep its state."""

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from costmodels.checkpoint import Checkpoint
from costmodels.errors import InputError
from costmodels.features.roofline import log_bound
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.json_text import from_values
from costmodels.kernel import (
    FloatArray,
    IndexArray,
    KernelBatch,
    KernelDataset,
    KernelPrediction,
    Measurement,
    Unsupported,
)
from costmodels.learning.calibrated_seconds import CalibratedSeconds
from costmodels.learning.calibration import COVERAGE, even_spread, spread_of
from costmodels.learning.device_correction import FEW
from costmodels.learning.familiarity import Familiarity
from costmodels.learning.holding_out import hold_out
from costmodels.learning.kernel_network import KernelNetwork
from costmodels.learning.kernel_tensors import KernelEncoding, KernelInputs
from costmodels.learning.kernel_training import KernelExamples, LabelledKernels, TrainingConfig
from costmodels.learning.labels import KernelLabels
from costmodels.learning.loop import Epoch, train
from costmodels.metrics import task_groups
from costmodels.model_state import Stored
from costmodels.protocol import Claims, FitProgress
from costmodels.replay import ReplayMemory

PREDICTED_AT_ONCE = 1024
KEPT_OF_TASK = 16
"""Kernels of a task that a fit keeps to learn on from."""


@dataclass(frozen=True, slots=True)
class NeuralConfig:
    """How a neural model learns.

    Parameters
    ----------
    training : TrainingConfig
        From a data set.
    members : int
        Networks trained from different starts; the mean of their outputs counts.
    memory : int
        Kernels kept to learn on from; bounds the time of an update.
    emphasis : int
        Times that an update meets the kernels of the tasks just measured while it meets the others
        once.
    first_steps, later_steps : int
        Mini-batches, about, of an update of a model that was never fitted, and of one that was.
    later_learning_rate : float
        Of such a model.
    adapt_steps : int
        Mini-batches, about, of adapting to a data set.
    """

    training: TrainingConfig = field(default_factory=TrainingConfig)
    members: int = 1
    memory: int = 1024
    emphasis: int = 4
    first_steps: int = 120
    later_steps: int = 24
    later_learning_rate: float = 1e-3
    adapt_steps: int = 240

    def __post_init__(self) -> None:
        if self.members < 1:
            raise InputError(f"members must be at least 1, got {self.members}")


class NeuralKernelModel(Stored):
    """A kernel model whose predictions come from networks; a subclass says from which.

    Parameters
    ----------
    shape : dataclass, optional
        Of the network; the subclass's own by default.
    config : NeuralConfig, optional
        How it learns.
    rng : numpy.random.Generator, optional
        Draws the seed of all later randomness; without it the seed is 0.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    claims: ClassVar[Claims] = Claims(seconds=True, interval=True)
    schema: ClassVar[FeatureSchema] = PER_STORE
    graphs: ClassVar[bool] = False
    members: ClassVar[int] = 1
    """Networks whose mean counts, where `config` does not say."""

    def __init__(
        self,
        shape: Any = None,
        config: NeuralConfig | None = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.shape = self.make_shape({}) if shape is None else shape
        self.config = config or NeuralConfig(members=self.members)
        self.seed = 0 if rng is None else int(rng.integers(2**31))
        self._forget()

    @classmethod
    @abstractmethod
    def make_shape(cls, values: Mapping[str, Any]) -> Any:
        """The dataclass of the network's shape from some of its fields, as JSON has them."""

    @abstractmethod
    def make_network(self) -> KernelNetwork:
        """A network with random weights."""

    @abstractmethod
    def inputs(self) -> KernelInputs:
        """What the network wants to be told."""

    def _forget(self) -> None:
        self._taught: list[KernelNetwork] = []
        self._adapted: list[KernelNetwork] = []
        self._memory = ReplayMemory(self.config.memory, graphs=self.graphs)
        self._seconds = CalibratedSeconds()
        self._updates = 0

    @property
    def is_fitted(self) -> bool:
        """Whether any measured kernel has been learned."""
        return bool(self._taught or self._adapted)

    def fit(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        validation: KernelDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Forget, then learn from a data set.

        Parameters
        ----------
        dataset : KernelDataset
            To learn from.
        rng : numpy.random.Generator
            Draws the seed of all randomness.
        validation : KernelDataset, optional
            Kernels of other tasks, to stop and to calibrate by; a part of the tasks by default.
        progress : FitProgress, optional
            Told of each pass over the data; a killed fit goes on at the pass it was in.

        Returns
        -------
        NeuralKernelModel
            Itself.

        Raises
        ------
        InputError
            When no kernel ran, or graphs are needed and not there.
        """
        self.schema.require(dataset.batch.schema, owner=self.name)
        self.seed = int(rng.integers(2**31))
        self._forget()
        rng = np.random.default_rng(self.seed)
        dataset = self._usable(dataset)
        self._seconds.familiar = Familiarity.of(dataset.batch)
        validation = None if validation is None else _with_rows(validation)
        if validation is None or not np.any(validation.measured):
            learned, held_out = hold_out(dataset, rng)
        else:
            learned, held_out = dataset, validation
        training = self._labelled(learned.batch, learned.log_latency)
        config = self.config.training
        judging = None
        if held_out is not None:
            labelled = self._labelled(held_out.batch, held_out.log_latency)
            judging = KernelExamples(labelled, config)
        progress = progress or FitProgress()
        kept = _unfinished(progress.unfinished, self.config.members)
        for number in range(self.config.members):
            network = self._new_network(rng)
            network.standardise(training.encoding)
            train(
                network,
                KernelExamples(training, config),
                config.loop,
                rng=rng,
                validation=judging,
                on_epoch=partial(self._tell, progress, number),
                unfinished=kept[number],
            )
            self._taught.append(network)
        for path in kept:
            if path is not None:
                path.unlink(missing_ok=True)
        self._memory.add(_sample(dataset, self.config.memory, rng), rng=rng)
        if held_out is not None:
            self._calibrate(held_out)
        return self

    def adapt(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        progress: FitProgress | None = None,
    ) -> Self:
        """Learn on from other kernels or another device, together with what is remembered.

        Of fewer than `FEW` kernels only the seconds on their devices are corrected: networks that
        learn on from so few get worse.

        Parameters
        ----------
        dataset : KernelDataset
            To learn from; from eight tasks on some of them calibrate the interval.
        rng : numpy.random.Generator
            Draws all randomness.
        progress : FitProgress, optional
            Told of each pass over the data and what is remembered.

        Returns
        -------
        NeuralKernelModel
            Itself. What tuning runs had added is forgotten, unless there were few kernels.

        Raises
        ------
        InputError
            When no kernel ran, or graphs are needed and not there.
        """
        if not self._taught:
            return self.fit(dataset, rng=rng, progress=progress)
        self.schema.require(dataset.batch.schema, owner=self.name)
        rng = np.random.default_rng(int(rng.integers(2**31)))
        dataset = self._usable(dataset)
        if np.sum(dataset.measured) < FEW:
            _, log_excess, spread = self._outputs(dataset.batch)
            log_latency = log_excess + log_bound(dataset.batch)
            self._seconds.correct_devices(dataset, log_latency, spread, rng)
            return self
        self._seconds.learn_on(dataset.batch)
        learned, held_out = hold_out(dataset, rng)
        known = self._labelled(*self._memory.with_dataset(learned))
        networks = copy.deepcopy(self._taught)
        self._learn_on(networks, known, self.config.adapt_steps, rng, progress=progress)
        self._taught, self._adapted = networks, []
        self._seconds.measured = set()
        self._memory.add(_sample(learned, self.config.memory, rng), rng=rng)
        if held_out is not None:
            self._calibrate(held_out)
        return self

    def _usable(self, dataset: KernelDataset) -> KernelDataset:
        """Kernels that have rows; some of them must have run."""
        found = _with_rows(dataset)
        if not np.any(found.measured):
            raise InputError(
                f"{self.name} must be given kernels that ran and have rows to learn from, got none "
                f"of {len(found)}"
            )
        return found

    def _calibrate(self, held_out: KernelDataset) -> None:
        _, log_excess, spread = self._outputs(held_out.batch)
        self._seconds.calibrate(held_out, log_excess + log_bound(held_out.batch), spread)

    def _learn_on(
        self,
        networks: Sequence[KernelNetwork],
        known: LabelledKernels,
        steps: int,
        rng: np.random.Generator,
        rate: float | None = None,
        progress: FitProgress | None = None,
    ) -> None:
        """Train networks further for about so many mini-batches."""
        config = self.config
        batches = max(1, round(len(known.encoding) / config.training.kernels_per_batch))
        training = replace(
            config.training,
            learning_rate=config.later_learning_rate if rate is None else rate,
            epochs=max(1, round(steps / batches)),
        )
        told = progress or FitProgress()
        examples = KernelExamples(known, training)
        for number, network in enumerate(networks):
            tell = partial(self._tell, told, number)
            train(network, examples, training.loop, rng=rng, on_epoch=tell)

    def parts(self, batch: KernelBatch) -> list[tuple[IndexArray, list[KernelNetwork]]]:
        """The kernels of a batch with the networks that predict them.

        What was learned on the way answers for the tasks that it was learned from, what the data
        set taught for all others: so nothing is forgotten by learning on.
        """
        measured = np.array([task.key in self._seconds.measured for task in batch.tasks], bool)
        adapted = measured[batch.task_index] if len(batch) else np.zeros(0, bool)
        if not self._taught:
            adapted[:] = True
        both = [(np.flatnonzero(adapted), self._adapted), (np.flatnonzero(~adapted), self._taught)]
        return [(kernels, networks) for kernels, networks in both if len(kernels)]

    def update(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Learn new measurements together with what is remembered of older ones."""
        self.schema.require(batch.schema, owner=self.name)
        dataset = _with_rows(KernelDataset(batch, tuple(measurements)))
        if not len(dataset):
            return
        if self.inputs().graphs:
            batch.require_graphs(self.name)
        self._updates += 1
        rng = np.random.default_rng([self.seed, self._updates])
        self._memory.add(dataset, rng=rng)
        if not np.any(np.isfinite(self._memory.log_latency)):
            return
        chosen = self._emphasised(dataset.batch)
        known = self._labelled(self._memory.batch.take(chosen), self._memory.log_latency[chosen])
        config = self.config
        if self._taught:
            self._adapted = self._adapted or copy.deepcopy(self._taught)
            self._learn_on(self._adapted, known, config.later_steps, rng)
        else:
            self._adapted = [self._new_network(rng) for _ in range(config.members)]
            for network in self._adapted:
                network.standardise(known.encoding)
            rate = config.training.learning_rate
            self._learn_on(self._adapted, known, config.first_steps, rng, rate)
        ran = dataset.batch.task_index[dataset.measured]
        self._seconds.measured |= {dataset.batch.tasks[task].key for task in np.unique(ran)}

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Predict each kernel on its own; one without rows is unsupported."""
        self.schema.require(batch.schema, owner=self.name)
        missing = np.flatnonzero(batch.row_counts == 0)
        unsupported = tuple(
            Unsupported(int(k), "it has no stage that writes data") for k in missing
        )
        if not self.is_fitted:
            unknown = np.full(len(batch), np.nan)
            return KernelPrediction(
                np.zeros(len(batch)), unknown, unknown.copy(), unknown.copy(), COVERAGE, unsupported
            )
        utility, log_excess, spread = self._outputs(batch)
        utility[missing] = 0.0
        log_latency = log_excess + log_bound(batch)
        log_latency[missing] = np.nan
        low_s, high_s = self._seconds.ends(batch, log_latency, spread)
        return KernelPrediction(utility, np.exp(log_latency), low_s, high_s, COVERAGE, unsupported)

    def state(self) -> Checkpoint:
        """Return what a checkpoint holds: networks, what is remembered, counters."""
        arrays, memory = self._memory.state()
        both = {"taught": self._taught, "adapted": self._adapted}
        for kind, networks in both.items():
            for number, network in enumerate(networks):
                for name, value in network.state_dict().items():
                    arrays[f"{kind}.{number}.{name}"] = value.numpy()
        settings = {
            "shape": asdict(self.shape),
            "config": asdict(self.config),
            "seed": self.seed,
            "updates": self._updates,
            "networks": {kind: len(networks) for kind, networks in both.items()},
            "memory": memory,
        }
        settings |= self._seconds.state()
        provenance = {"torch": torch.__version__}
        return Checkpoint.of(
            self.name,
            PER_STORE,
            arrays=arrays,
            settings=settings,
            provenance=provenance,
        )

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        config = from_values(NeuralConfig, state.settings["config"], "config")
        model = cls(cls.make_shape(state.settings["shape"]), config)
        model._restore(state)
        return model

    def _restore(self, checkpoint: Checkpoint) -> None:
        settings, arrays = checkpoint.settings, checkpoint.arrays
        self.seed = int(settings["seed"])
        self._updates = int(settings["updates"])
        self._seconds = CalibratedSeconds.from_state(settings)
        self._memory = ReplayMemory.from_state(
            self.config.memory, PER_STORE, arrays, settings["memory"], graphs=self.graphs
        )
        counts = settings["networks"]
        self._taught = [self._restored(arrays, f"taught.{n}.") for n in range(counts["taught"])]
        self._adapted = [self._restored(arrays, f"adapted.{n}.") for n in range(counts["adapted"])]

    def _restored(self, arrays: Mapping[str, NDArray[Any]], prefix: str) -> KernelNetwork:
        network = self._new_network(np.random.default_rng(0))
        weights = {
            name.removeprefix(prefix): torch.from_numpy(value.copy())
            for name, value in arrays.items()
            if name.startswith(prefix)
        }
        network.load_state_dict(weights)
        network.eval()
        return network

    def _emphasised(self, new: KernelBatch) -> IndexArray:
        """Kernels of the memory, those of the tasks just measured several times."""
        known = self._memory.batch
        keys = {task.key for task in new.tasks}
        is_new = np.array([task.key in keys for task in known.tasks])[known.task_index]
        times = np.where(is_new, self.config.emphasis, 1)
        return np.repeat(np.arange(len(known)), times)

    def _new_network(self, rng: np.random.Generator) -> KernelNetwork:
        """A network with random weights; torch's own generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            return self.make_network()

    def _tell(self, progress: FitProgress, member: int, epoch: Epoch) -> None:
        if progress.on_progress is None:
            return
        done, most = member * epoch.most + epoch.number, self.config.members * epoch.most
        text = f"loss {epoch.training_loss:.3f}"
        if np.isfinite(epoch.validation_loss):
            text += f", held out {epoch.validation_loss:.3f}"
        progress.on_progress(done, most, text)

    def _labelled(self, batch: KernelBatch, log_latency: FloatArray) -> LabelledKernels:
        labels = KernelLabels(batch.task_index, log_latency, log_latency - log_bound(batch))
        return LabelledKernels(KernelEncoding(batch, self.inputs()), labels)

    def _outputs(self, batch: KernelBatch) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean utility, mean log seconds above the roofline, their spread: float64 [kernels]."""
        encoding = KernelEncoding(batch, self.inputs())
        found: FloatArray = np.zeros((len(batch), 2))
        spread = even_spread(len(batch))
        with torch.no_grad():
            for kernels, networks in self.parts(batch):
                for start in range(0, len(kernels), PREDICTED_AT_ONCE):
                    some = kernels[start : start + PREDICTED_AT_ONCE]
                    tensors = encoding.tensors(some)
                    each = torch.stack([network(tensors) for network in networks]).double().numpy()
                    found[some] = each.mean(axis=0)
                    spread[some] = spread_of(each[:, :, 1])
        return found[:, 0].copy(), found[:, 1].copy(), spread


def _unfinished(path: Path | None, members: int) -> list[Path | None]:
    """A file of each network."""
    if path is None:
        return [None] * members
    return [path.with_name(f"{path.name}.{member}") for member in range(members)]


def _with_rows(dataset: KernelDataset) -> KernelDataset:
    return dataset.take(np.flatnonzero(dataset.batch.row_counts > 0))


def _sample(dataset: KernelDataset, size: int, rng: np.random.Generator) -> KernelDataset:
    """Some kernels of each of some tasks: one kernel of a task alone has no order."""
    chosen: list[IndexArray] = []
    groups = list(task_groups(dataset.batch.task_index))
    for number in rng.permutation(len(groups)):
        chosen.append(rng.permutation(groups[number])[:KEPT_OF_TASK])
        if sum(map(len, chosen)) >= size:
            break
    return dataset.take(np.sort(np.concatenate(chosen))[:size])
