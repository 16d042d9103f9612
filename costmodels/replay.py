"""A bounded memory of measured kernels, from which online models learn again what they know."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodels.checkpoint import packed, unpacked
from costmodels.device import Device
from costmodels.features.kernel_graph import StagedGraph
from costmodels.features.kernel_graph_json import graphs_from_json, graphs_to_json
from costmodels.features.schema import FeatureSchema
from costmodels.kernel import (
    FloatArray,
    IndexArray,
    KernelBatch,
    KernelDataset,
    Task,
    concatenate,
)
from costmodels.metrics import task_groups
from costmodels.task_keys import canonical_key

PROTECTED_SHARE = 0.25
"""Share of a task's places that its fastest kernels keep: a search works near the best."""


MAX_ROW = 6e4
"""Of a number in half precision."""


class ReplayMemory:
    """Measured and failed kernels with a cap, spread evenly over tasks.

    When it is full, the tasks with most kernels lose kernels at random, but never their fastest
    quarter.

    Parameters
    ----------
    capacity : int
        Kernels at most.
    graphs : bool
        Whether to keep their graphs; a data set has them, a search extracts them only where they
        are needed.
    """

    def __init__(self, capacity: int, *, graphs: bool = False) -> None:
        self.capacity = capacity
        self._graphs = graphs
        self._batch: KernelBatch | None = None
        self.log_latency: FloatArray = np.empty(0)
        """float64 [kernels]; natural logarithm of seconds, NaN for a kernel that failed."""

    def __len__(self) -> int:
        return len(self.log_latency)

    @property
    def batch(self) -> KernelBatch:
        """The kernels, the newest last; an error when there are none yet."""
        assert self._batch is not None, "the memory is empty"
        if self._batch.rows.dtype != np.float32:
            self._batch = replace(self._batch, rows=self._batch.rows.astype(np.float32))
        return self._batch

    def add(self, dataset: KernelDataset, *, rng: np.random.Generator) -> IndexArray:
        """Remember kernels, forgetting others when there is no room.

        Parameters
        ----------
        dataset : KernelDataset
            What was measured; of the memory's schema.
        rng : numpy.random.Generator
            Chooses what is forgotten.

        Returns
        -------
        numpy.ndarray
            int64; positions in the memory of those of the new kernels that it kept.
        """
        if not len(dataset):
            return np.empty(0, np.int64)
        before = len(self)
        # Half precision is plenty for logarithms, and a checkpoint holds all of them.
        finite = np.nan_to_num(dataset.batch.rows, nan=0.0)
        rows = np.clip(finite, -MAX_ROW, MAX_ROW).astype(np.float16)
        batch = replace(dataset.batch, rows=rows.astype(np.float32))
        dataset = replace(dataset, batch=batch if self._graphs else batch.without_graphs())
        known = [] if self._batch is None else [self.batch]
        self._batch = concatenate([*known, dataset.batch])
        self.log_latency = np.concatenate([self.log_latency, dataset.log_latency])
        if len(self) <= self.capacity:
            return np.arange(before, len(self))
        kept = self._choose(rng)
        self._batch = self._batch.take(kept)
        self.log_latency = self.log_latency[kept]
        return np.flatnonzero(kept >= before)

    def with_dataset(self, dataset: KernelDataset) -> tuple[KernelBatch, FloatArray]:
        """What is remembered and a data set, whose kernels repeat so that both weigh alike.

        Parameters
        ----------
        dataset : KernelDataset
            Of the memory's schema; not added to it.

        Returns
        -------
        KernelBatch
            With graphs where the memory keeps them.
        numpy.ndarray
            float64 [kernels]; log seconds, NaN for a failure.
        """
        remembered = len(self)
        new = dataset.batch if self._graphs else dataset.batch.without_graphs()
        joined = concatenate([self.batch, new])
        log_latency = np.concatenate([self.log_latency, dataset.log_latency])
        times = max(1, remembered // len(dataset))
        again = np.tile(np.arange(remembered, len(joined)), times)
        chosen = np.concatenate([np.arange(remembered), again])
        return joined.take(chosen), log_latency[chosen]

    def _choose(self, rng: np.random.Generator) -> NDArray[np.int64]:
        groups = list(task_groups(self.batch.task_index))
        quota = _fair_quota(np.array([len(group) for group in groups]), self.capacity)
        kept = []
        for group, places in zip(groups, quota, strict=True):
            protected = int(places * PROTECTED_SHARE)
            by_speed = group[np.argsort(self.log_latency[group])]  # NaN, a failure, comes last
            others = rng.permutation(by_speed[protected:])[: places - protected]
            kept.append(np.concatenate([by_speed[:protected], others]))
        return np.sort(np.concatenate(kept))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What a checkpoint needs to hold: arrays and JSON values."""
        if self._batch is None:
            return {}, {"devices": []}
        arrays: dict[str, NDArray[Any]] = {
            "memory.rows": packed(self._batch.rows.astype(np.float16).tobytes()),
            "memory.row_counts": self._batch.row_counts,
            "memory.task_index": self._batch.task_index,
            "memory.log_latency": self.log_latency,
        }
        if self._batch.graph_index is not None:
            arrays["memory.graphs"] = packed(graphs_to_json(self._batch.graphs).encode())
            arrays["memory.graph_index"] = self._batch.graph_index
        devices = list(dict.fromkeys(task.device for task in self._batch.tasks))
        tasks = [[task.key, devices.index(task.device)] for task in self._batch.tasks]
        arrays["memory.tasks"] = packed(json.dumps(tasks).encode())
        return arrays, {"devices": [device.as_dict() for device in devices]}

    @classmethod
    def from_state(
        cls,
        capacity: int,
        schema: FeatureSchema,
        arrays: Mapping[str, NDArray[Any]],
        settings: Mapping[str, Any],
        *,
        graphs: bool = False,
    ) -> "ReplayMemory":
        """Rebuild a memory from what `state` returned."""
        memory = cls(capacity, graphs=graphs)
        devices = [Device(**device) for device in settings["devices"]]
        if devices:
            tasks = json.loads(unpacked(arrays["memory.tasks"]))
            rows: NDArray[Any] = np.frombuffer(unpacked(arrays["memory.rows"]), np.float16)
            offsets = np.concatenate([[0], np.cumsum(arrays["memory.row_counts"])])
            memory._batch = KernelBatch(
                schema,
                rows.reshape(-1, len(schema.columns)),  # wider once it is learned from
                offsets.astype(np.int64),
                tuple(Task(canonical_key(key), devices[number]) for key, number in tasks),
                arrays["memory.task_index"],
                *(_graphs(arrays) if graphs else ()),
            )
            memory.log_latency = arrays["memory.log_latency"]
        return memory


def _graphs(
    arrays: Mapping[str, NDArray[Any]],
) -> tuple[tuple[StagedGraph, ...], IndexArray | None]:
    if "memory.graphs" not in arrays:
        return (), None
    graphs = graphs_from_json(unpacked(arrays["memory.graphs"]).decode())
    return graphs, arrays["memory.graph_index"]


def _fair_quota(counts: NDArray[np.int64], capacity: int) -> NDArray[np.int64]:
    """Places for each task: all it has, or an equal share of what the smaller tasks leave."""
    quota = np.zeros_like(counts)
    left, open_tasks = capacity, len(counts)
    for task in np.argsort(counts, kind="stable"):
        quota[task] = min(counts[task], left // open_tasks)
        left -= int(quota[task])
        open_tasks -= 1
    return quota
