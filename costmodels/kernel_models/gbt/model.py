"""Gradient-boosted trees over stages with online retraining in bounded time: TVM's cost model.

Chen et al., "Learning to Optimize Tensor Programs", NeurIPS 2018 (arXiv 1805.08166), as in
MetaSchedule (Shao et al., NeurIPS 2022): a kernel's utility is the sum of the trees' outputs over
its stages. What is different here: labels are logarithms of latency with an offset per task, so
that they never move when a new best is found; training continues from the existing trees, with a
cap on their number; and the number of new trees is chosen on kernels held out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np
import xgboost
from numpy.typing import NDArray

from costmodels.checkpoint import Checkpoint, packed, unpacked
from costmodels.errors import InputError
from costmodels.features.roofline import log_bound
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.json_text import from_values
from costmodels.kernel import (
    FloatArray,
    KernelBatch,
    KernelDataset,
    KernelPrediction,
    Measurement,
    Unsupported,
)
from costmodels.kernel_models.gbt.config import Growth, TreesConfig
from costmodels.kernel_models.gbt.trees import (
    Labels,
    Objective,
    TreeTrainer,
    pairwise,
    predict_sum,
    squared_error,
)
from costmodels.learning.calibration import even_spread
from costmodels.learning.device_correction import FEW, DeviceCorrections
from costmodels.metrics import task_groups
from costmodels.model_state import Stored
from costmodels.protocol import Claims, FitProgress
from costmodels.replay import ReplayMemory
from costmodels.task_keys import canonical_key

MANY_TASKS = 5
"""From this many tasks on, validation holds out whole tasks; with fewer, the newest batch."""


class GradientBoostedTrees(Stored):
    """Boosted trees that rank the schedules of a task and estimate their seconds.

    Parameters
    ----------
    config : TreesConfig, optional
        How the trees are grown.
    rng : numpy.random.Generator, optional
        Draws the seed of all later randomness; without it the seed is 0.
    """

    name: ClassVar[str] = "gbt"
    paper: ClassVar[str] = "Chen et al., Learning to Optimize Tensor Programs, NeurIPS 2018"
    claims: ClassVar[Claims] = Claims(seconds=True)
    schema: ClassVar[FeatureSchema] = PER_STORE
    graphs: ClassVar[bool] = False

    def __init__(
        self, config: TreesConfig | None = None, *, rng: np.random.Generator | None = None
    ) -> None:
        self.config = config or TreesConfig()
        self._seed = 0 if rng is None else int(rng.integers(2**31))
        self._forget()

    def _forget(self) -> None:
        self._memory = ReplayMemory(self.config.memory)
        self._offsets: dict[str, float] = {}
        self._anchors: dict[str, float] = {}
        self._corrected = DeviceCorrections()
        self._measured: set[str] = set()  # tasks known from updates
        self._rank: xgboost.Booster | None = None
        self._seconds: xgboost.Booster | None = None
        self._seconds_intercept = 0.0
        self._base_trees = 0
        self._updates = 0
        self._seen = 0
        self._seen_at_refit = 0

    @property
    def is_fitted(self) -> bool:
        """Whether any measured kernel has been learned."""
        return self._rank is not None

    @property
    def n_trees(self) -> int:
        """Trees of the ranking head."""
        return 0 if self._rank is None else int(self._rank.num_boosted_rounds())

    def fit(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        validation: KernelDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Forget, then learn from a data set; its trees stay when updates add theirs.

        Parameters
        ----------
        dataset : KernelDataset
            Kernels of any number of tasks.
        rng : numpy.random.Generator
            Equal states give equal models.
        validation : KernelDataset, optional
            Kernels that choose the number of trees; of a part of the tasks by default.
        progress : FitProgress, optional
            Ignored: it takes seconds.

        Returns
        -------
        GradientBoostedTrees
            Itself.
        """
        del progress
        self.schema.require(dataset.batch.schema, owner=self.name)
        self._seed = int(rng.integers(2**31))
        self._forget()
        self._set_offsets(dataset)
        self._memory.add(dataset, rng=self._rng())
        self._seen = self._seen_at_refit = int(dataset.measured.sum())
        newest = np.arange(len(dataset))[-max(1, len(dataset) // 5) :]
        self._refit(dataset.batch, dataset.log_latency, newest, self.config.offline, validation)
        self._base_trees = self.n_trees
        return self

    def adapt(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        progress: FitProgress | None = None,
    ) -> Self:
        """Add trees learned from other kernels or another device, and from what is remembered.

        Of fewer than `FEW` kernels only the seconds on their devices are corrected: trees of so
        few make what the others say worse.

        Parameters
        ----------
        dataset : KernelDataset
            To learn from.
        rng : numpy.random.Generator
            Draws all randomness.
        progress : FitProgress, optional
            Ignored: it takes seconds.

        Returns
        -------
        GradientBoostedTrees
            Itself; later updates continue from these trees.

        Raises
        ------
        InputError
            When no kernel ran.
        """
        del progress
        if self._rank is None or self._seconds is None:
            return self.fit(dataset, rng=rng)
        self.schema.require(dataset.batch.schema, owner=self.name)
        dataset = dataset.take(np.flatnonzero(dataset.batch.row_counts > 0))
        if not np.any(dataset.measured):
            raise InputError(f"{self.name} must be given kernels that ran to learn from, got none")
        if np.sum(dataset.measured) < FEW:
            utility = predict_sum(self._rank, dataset.batch)
            predicted = self._log_seconds(dataset.batch, utility)
            self._corrected.learn(dataset, predicted, even_spread(len(dataset)), rng)
            return self
        self._corrected.forget(dataset.batch)
        self._updates += 1
        self._set_offsets(dataset)
        batch, log_latency = self._memory.with_dataset(dataset)
        labels, known = self._labels(batch, log_latency)
        batch, log_latency = batch.take(known), log_latency[known]
        trainer = TreeTrainer(batch, self.config.online.trees, self._seed + self._updates)
        rounds = self.config.first_rounds
        self._rank = trainer.grow(self._objective(labels, self._rng()), rounds, start=self._rank)
        self._seconds = trainer.grow(
            squared_error(self._seconds_labels(batch, log_latency)), rounds, start=self._seconds
        )
        self._memory.add(dataset, rng=self._rng())
        self._base_trees = self.n_trees
        self._set_anchors(batch, log_latency)
        return self

    def update(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Learn from new measurements in bounded time.

        A failed kernel is learned as no better than the slowest measured one of its task, and not
        at all while no kernel of its task has run.

        Parameters
        ----------
        batch : KernelBatch
            The kernels; may be empty.
        measurements : sequence of Measurement
            One per kernel.
        """
        self.schema.require(batch.schema, owner=self.name)
        dataset = KernelDataset(batch, tuple(measurements))
        dataset = dataset.take(np.flatnonzero(batch.row_counts > 0))
        if not len(dataset):
            return
        self._updates += 1
        self._set_offsets(dataset)
        newest = self._memory.add(dataset, rng=self._rng())
        self._seen += int(dataset.measured.sum())
        ran = np.unique(dataset.batch.task_index[dataset.measured])
        self._measured |= {dataset.batch.tasks[task].key for task in ran}
        if not any(task.key in self._offsets for task in dataset.batch.tasks):
            return  # nothing of these tasks has run yet: there is nothing to compare with
        full = (
            self.n_trees + self.config.rounds_per_update > self._base_trees + self.config.most_trees
        )
        grown = self._seen >= self.config.refit_growth * max(self._seen_at_refit, 1)
        if self._rank is None or grown or full:
            self._refit(self._memory.batch, self._memory.log_latency, newest, self.config.online)
            self._seen_at_refit = self._seen
        else:
            self._grow()

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Predict each kernel on its own.

        Parameters
        ----------
        batch : KernelBatch
            The kernels; may be empty.

        Returns
        -------
        KernelPrediction
            Utilities, and seconds: for a task that has been learned relative to its measured
            kernels, for others relative to the roofline. A kernel without rows is unsupported.
        """
        self.schema.require(batch.schema, owner=self.name)
        missing = np.flatnonzero(batch.row_counts == 0)
        unsupported = tuple(
            Unsupported(int(k), "it has no stage that writes data") for k in missing
        )
        if self._rank is None:
            unknown = np.full(len(batch), np.nan)
            return KernelPrediction(np.zeros(len(batch)), unknown, unsupported=unsupported)
        utility = predict_sum(self._rank, batch)
        log_latency = self._log_seconds(batch, utility)
        even = even_spread(len(batch))
        self._corrected.apply(batch, log_latency, even, measured=self._measured)
        latency_s = np.exp(log_latency)
        latency_s[missing] = np.nan
        return KernelPrediction(utility, latency_s, unsupported=unsupported)

    def state(self) -> Checkpoint:
        """Return what a checkpoint holds: trees, replay memory, counters."""
        arrays, memory = self._memory.state()
        by_task = {"anchors": self._anchors, "offsets": self._offsets}
        arrays["by_task"] = packed(json.dumps(by_task).encode())
        for name, booster in (("rank", self._rank), ("seconds", self._seconds)):
            if booster is not None:
                arrays[f"trees.{name}"] = packed(bytes(booster.save_raw("ubj")))
        settings = {
            "config": asdict(self.config),
            "memory": memory,
            "corrected": self._corrected.state(),
            "measured": sorted(self._measured),
            "state": {name: getattr(self, f"_{name}") for name in _STATE},
        }
        provenance = {"xgboost": xgboost.__version__, "kernels_seen": self._seen}
        return Checkpoint.of(
            self.name,
            self.schema,
            arrays=arrays,
            settings=settings,
            provenance=provenance,
        )

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        settings = state.settings
        model = cls(from_values(TreesConfig, settings["config"], "config"))
        for name in _STATE:
            setattr(model, f"_{name}", settings["state"][name])
        by_task = json.loads(unpacked(state.arrays["by_task"]))
        for name, values in by_task.items():
            setattr(model, f"_{name}", {canonical_key(key): each for key, each in values.items()})
        model._memory = ReplayMemory.from_state(
            model.config.memory, cls.schema, state.arrays, settings["memory"]
        )
        model._corrected = DeviceCorrections.from_state(settings.get("corrected", ()))
        model._measured = {canonical_key(key) for key in settings.get("measured", ())}
        model._rank = _booster(state.arrays, "trees.rank")
        model._seconds = _booster(state.arrays, "trees.seconds")
        return model

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._updates])

    def _set_offsets(self, dataset: KernelDataset) -> None:
        """Fix the origin of the labels of tasks that are new; it never moves again."""
        for group in task_groups(dataset.batch.task_index):
            task = dataset.batch.tasks[dataset.batch.task_index[group[0]]]
            ran = group[dataset.measured[group]]
            if len(ran):
                self._offsets.setdefault(task.key, float(dataset.log_latency[ran].mean()))

    def _labels(self, batch: KernelBatch, log_latency: FloatArray) -> tuple[Labels, NDArray[Any]]:
        """Labels of the kernels whose task has an origin, and which kernels these are."""
        by_task = np.array([self._offsets.get(task.key, np.nan) for task in batch.tasks])
        offset = by_task[batch.task_index]
        known = np.flatnonzero(np.isfinite(offset))
        log_speed = (offset - log_latency)[known]
        failed = np.isnan(log_speed)
        task_index = batch.task_index[known]
        slowest = np.full(len(batch.tasks), np.inf)
        np.minimum.at(slowest, task_index[~failed], log_speed[~failed])
        slowest[np.isinf(slowest)] = 0.0  # only failures are left of this task
        log_speed[failed] = slowest[task_index[failed]]
        return Labels(log_speed, failed, task_index), known

    def _refit(
        self,
        batch: KernelBatch,
        log_latency: FloatArray,
        newest: NDArray[Any],
        growth: Growth,
        validation: KernelDataset | None = None,
    ) -> None:
        """Grow new trees on the base trees: as many as rank held-out kernels best, or few."""
        labels, known = self._labels(batch, log_latency)
        batch = batch.take(known)
        rng = self._rng()
        base = self._base()
        held_out = self._held_out(labels, np.isin(known, newest), rng)
        if validation is not None:
            held_out = np.zeros(len(held_out), bool)
            judging = (validation.batch, _own_labels(validation))
        else:
            test = np.flatnonzero(held_out)
            judging = (batch.take(test), labels.take(test))
        rounds = self.config.first_rounds
        if len(judging[0]) and not held_out.all():
            learn = np.flatnonzero(~held_out)
            trainer = TreeTrainer(batch.take(learn), growth.trees, self._seed)
            rounds = trainer.best_rounds(
                self._objective(labels.take(learn), rng),
                growth.most_rounds,
                start=base,
                validation=judging,
                patience=self.config.patience,
            )
            # A search measures kernels that are much alike: few trees order those best, and
            # nothing else.
            rounds = max(rounds, self.config.first_rounds)
        trainer = TreeTrainer(batch, growth.trees, self._seed)
        self._rank = trainer.grow(self._objective(labels, rng), rounds, start=base)
        if base is None:  # what a data set taught of seconds, a tuning run does not know better
            self._fit_seconds(trainer, batch, log_latency[known], growth)
        self._set_anchors(batch, log_latency[known])

    def _grow(self) -> None:
        """Add a few trees learned from the whole memory."""
        batch, log_latency = self._memory.batch, self._memory.log_latency
        labels, known = self._labels(batch, log_latency)
        batch = batch.take(known)
        trainer = TreeTrainer(batch, self.config.online.trees, self._seed + self._updates)
        objective = self._objective(labels, self._rng())
        self._rank = trainer.grow(objective, self.config.rounds_per_update, start=self._rank)
        self._set_anchors(batch, log_latency[known])

    def _base(self) -> xgboost.Booster | None:
        if self._rank is None or self._base_trees == 0:
            return None
        return self._rank[: self._base_trees]

    def _objective(self, labels: Labels, rng: np.random.Generator) -> Objective:
        if self.config.objective == "pairwise":
            return pairwise(labels, rng=rng)
        return squared_error(labels)

    @staticmethod
    def _held_out(
        labels: Labels, newest: NDArray[np.bool_], rng: np.random.Generator
    ) -> NDArray[np.bool_]:
        tasks = np.unique(labels.task_index)
        if len(tasks) < MANY_TASKS:
            return newest
        chosen = rng.choice(tasks, len(tasks) // MANY_TASKS, replace=False)
        return np.isin(labels.task_index, chosen)

    def _fit_seconds(
        self, trainer: TreeTrainer, batch: KernelBatch, log_latency: FloatArray, growth: Growth
    ) -> None:
        """Learn log seconds relative to the roofline: for tasks that have never been measured."""
        excess = log_latency - log_bound(batch)
        failed = np.isnan(excess)
        self._seconds_intercept = float(np.median(excess[~failed]))
        labels = self._seconds_labels(batch, log_latency)
        self._seconds = trainer.grow(
            squared_error(labels), growth.seconds_rounds, eta=growth.seconds_eta
        )

    def _seconds_labels(self, batch: KernelBatch, log_latency: FloatArray) -> Labels:
        """Log speed relative to the roofline and the usual distance from it."""
        speed = self._seconds_intercept - (log_latency - log_bound(batch))
        failed = np.isnan(speed)
        # A failure says nothing of seconds: an upper bound that no prediction reaches.
        return Labels(np.where(failed, np.inf, speed), failed, batch.task_index)

    def _set_anchors(self, batch: KernelBatch, log_latency: FloatArray) -> None:
        """For each learned task, what to subtract a utility from to get log seconds."""
        assert self._rank is not None
        level = log_latency + predict_sum(self._rank, batch)
        for group in task_groups(batch.task_index):
            ran = group[np.isfinite(level[group])]
            if len(ran):
                key = batch.tasks[batch.task_index[group[0]]].key
                self._anchors[key] = float(level[ran].mean())

    def _log_seconds(self, batch: KernelBatch, utility: FloatArray) -> FloatArray:
        by_task = np.array([self._anchors.get(task.key, np.nan) for task in batch.tasks])
        anchor = by_task[batch.task_index] if len(batch) else np.empty(0)
        log_seconds = anchor - utility
        unknown = np.flatnonzero(np.isnan(anchor))
        if len(unknown) and self._seconds is not None:
            part = batch.take(unknown)
            excess = self._seconds_intercept - predict_sum(self._seconds, part)
            log_seconds[unknown] = log_bound(part) + excess
        return log_seconds


def _own_labels(dataset: KernelDataset) -> Labels:
    """Labels to judge an order by: their origin does not matter."""
    failed = ~dataset.measured
    return Labels(-dataset.log_latency, failed, dataset.batch.task_index)


_STATE = (
    "base_trees",
    "seconds_intercept",
    "seed",
    "seen",
    "seen_at_refit",
    "updates",
)


def _booster(arrays: Mapping[str, NDArray[Any]], name: str) -> xgboost.Booster | None:
    if name not in arrays:
        return None
    booster = xgboost.Booster()
    booster.load_model(bytearray(unpacked(arrays[name])))
    return booster
