"""The values that kernel cost models take and give: tasks, batches, measurements, predictions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.kernel_graph import StagedGraph
from costmodels.features.schema import DEVICE, FeatureSchema
from costmodels.ragged import gather, offsets_of

FloatArray: TypeAlias = NDArray[np.float64]
RowArray: TypeAlias = NDArray[np.float32]
IndexArray: TypeAlias = NDArray[np.int64]

CONTRADICTION = 2.0
"""Factor between two latencies of one program on one device above which one of them is wrong: noise
and drift stay below."""
LONGEST_S = 1e9
"""No kernel takes so many seconds; TVM writes a failure into its database as 1e10 s."""


@dataclass(frozen=True, slots=True)
class Task:
    """One workload on one target: the kernels that compete with each other.

    Parameters
    ----------
    key : str
        Identity by content; two tasks with one key are the same task.
    device : Device
        What its kernels run on.
    """

    key: str
    device: Device


@dataclass(frozen=True)
class KernelBatch:
    """The features of some kernels: ragged rows, one per stage, and for some models a graph.

    Parameters
    ----------
    schema : FeatureSchema
        Of the rows.
    rows : numpy.ndarray
        float32 [rows, columns]; the rows of kernel ``i`` are
        ``rows[row_offsets[i]:row_offsets[i + 1]]``. A kernel may have none.
    row_offsets : numpy.ndarray
        int64 [kernels + 1], from 0 to the number of rows, never falling.
    tasks : tuple of Task
        The tasks that occur, each once.
    task_index : numpy.ndarray
        int64 [kernels]; position in `tasks`.
    graphs : tuple of StagedGraph
        The graphs that occur; kernels of one task share most of them.
    graph_index : numpy.ndarray, optional
        int64 [kernels]; position in `graphs`. None where no graphs were extracted.

    Raises
    ------
    InputError
        When the shapes do not fit each other.
    SchemaError
        When the rows do not have the schema's columns.
    """

    schema: FeatureSchema
    rows: RowArray
    row_offsets: IndexArray
    tasks: tuple[Task, ...]
    task_index: IndexArray
    graphs: tuple[StagedGraph, ...] = ()
    graph_index: IndexArray | None = None

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape[1] != len(self.schema.columns):
            raise InputError(
                f"rows must be [rows, {len(self.schema.columns)}] for schema {self.schema}, "
                f"got {list(self.rows.shape)}: extract the features again"
            )
        offsets = self.row_offsets
        if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(self.rows):
            raise InputError(
                f"row_offsets must go from 0 to {len(self.rows)}, got "
                f"{offsets[:1].tolist()} to {offsets[-1:].tolist()}"
            )
        if np.any(np.diff(offsets) < 0):
            raise InputError("row_offsets must never fall")
        if len(self.task_index) != len(offsets) - 1:
            raise InputError(
                f"task_index must have {len(offsets) - 1} entries, got {len(self.task_index)}"
            )
        if len(self) and not 0 <= self.task_index.min() <= self.task_index.max() < len(self.tasks):
            raise InputError(f"task_index must point into {len(self.tasks)} tasks")
        if self.graph_index is not None:
            self._check_graphs(self.graph_index)

    def _check_graphs(self, index: IndexArray) -> None:
        if len(index) != len(self):
            raise InputError(f"graph_index must have {len(self)} entries, got {len(index)}")
        if not len(self):
            return
        if not 0 <= index.min() <= index.max() < len(self.graphs):
            raise InputError(f"graph_index must point into {len(self.graphs)} graphs")
        rows = np.array([graph.rows for graph in self.graphs], np.int64)[index]
        if np.any(rows != self.row_counts):
            kernel = int(np.flatnonzero(rows != self.row_counts)[0])
            raise InputError(
                f"the graph of kernel {kernel} must have its {self.row_counts[kernel]} rows, "
                f"got {rows[kernel]}"
            )

    def __len__(self) -> int:
        return len(self.row_offsets) - 1

    @cached_property
    def row_counts(self) -> IndexArray:
        """int64 [kernels]; rows of each kernel."""
        return np.diff(self.row_offsets)

    def require_graphs(self, owner: str) -> IndexArray:
        """The position of each kernel's graph.

        Parameters
        ----------
        owner : str
            Who needs graphs, for the message.

        Raises
        ------
        InputError
            When the batch has none.
        """
        if self.graph_index is not None:
            return self.graph_index
        if len(self):
            raise InputError(
                f"{owner} must be given kernels with graphs, got rows alone: extract the features "
                "again with graphs"
            )
        return np.zeros(0, np.int64)

    @cached_property
    def row_kernel(self) -> IndexArray:
        """int64 [rows]; the kernel that each row belongs to."""
        return np.repeat(np.arange(len(self)), self.row_counts)

    @cached_property
    def device_rows(self) -> RowArray:
        """float32 [kernels, 9]; the features of each kernel's device."""
        by_task = np.array([task.device.features() for task in self.tasks], np.float32)
        by_task = by_task.reshape(len(self.tasks), len(DEVICE.columns))
        return by_task[self.task_index]

    @cached_property
    def rows_with_device(self) -> RowArray:
        """float32 [rows, columns + 9]; each row with the features of its kernel's device."""
        return np.hstack([self.rows, self.device_rows[self.row_kernel]])

    def without_graphs(self) -> "KernelBatch":
        """The same kernels for a model that needs no graphs."""
        return replace(self, graphs=(), graph_index=None)

    def column(self, name: str) -> RowArray:
        """float32 [rows]; one column of the rows by its name in the schema."""
        return self.rows[:, self.schema.index[name]]

    def sum_rows(self, values: NDArray[np.floating]) -> FloatArray:
        """Add up a number per row to a number per kernel.

        Parameters
        ----------
        values : numpy.ndarray
            [rows].

        Returns
        -------
        numpy.ndarray
            float64 [kernels]; 0 for a kernel without rows.
        """
        return np.bincount(self.row_kernel, values, minlength=len(self)).astype(np.float64)

    def take(self, kernels: Sequence[int] | NDArray[np.integer]) -> "KernelBatch":
        """Some of the kernels, in the order given.

        Parameters
        ----------
        kernels : sequence of int
            Positions in this batch; may repeat.
        """
        wanted: IndexArray = np.array(kernels, np.int64)
        chosen, offsets = gather(self.row_offsets, wanted)
        rows = self.rows[chosen]
        used, index = np.unique(self.task_index[wanted], return_inverse=True)
        tasks = tuple(self.tasks[task] for task in used)
        batch = KernelBatch(self.schema, rows, offsets, tasks, index.astype(np.int64))
        if self.graph_index is None:
            return batch
        used, index = np.unique(self.graph_index[wanted], return_inverse=True)
        graphs = tuple(self.graphs[graph] for graph in used)
        return replace(batch, graphs=graphs, graph_index=index.astype(np.int64))


def concatenate(batches: Sequence[KernelBatch]) -> KernelBatch:
    """Join batches of one schema; a task that occurs in several is kept once.

    Parameters
    ----------
    batches : sequence of KernelBatch
        At least one; all with graphs, or none.

    Raises
    ------
    InputError
        When only some have graphs.
    SchemaError
        When the schemas differ.
    """
    schema = batches[0].schema
    tasks: dict[str, Task] = {}
    for batch in batches:
        schema.require(batch.schema, owner="a joined batch")
        for task in batch.tasks:
            tasks.setdefault(task.key, task)
    position = {key: index for index, key in enumerate(tasks)}
    index = [np.array([position[t.key] for t in b.tasks], np.int64)[b.task_index] for b in batches]
    counts = np.concatenate([batch.row_counts for batch in batches])
    graphs, graph_index = _join_graphs(batches)
    return KernelBatch(
        schema,
        np.concatenate([batch.rows for batch in batches]),
        offsets_of(counts),
        tuple(tasks.values()),
        np.concatenate(index),
        graphs,
        graph_index,
    )


def _join_graphs(
    batches: Sequence[KernelBatch],
) -> tuple[tuple[StagedGraph, ...], IndexArray | None]:
    """The graphs of all batches, the same object once, and each kernel's position in them."""
    indices = [batch.graph_index for batch in batches]
    given = [index for index in indices if index is not None]
    if not given:
        return (), None
    if len(given) < len(indices):
        raise InputError(
            f"batches that are joined must all have graphs or none, got {len(given)} of "
            f"{len(indices)} with graphs: extract the features of the others again"
        )
    graphs = {id(graph): graph for batch in batches for graph in batch.graphs}
    position = {key: number for number, key in enumerate(graphs)}
    parts = [
        np.array([position[id(graph)] for graph in batch.graphs], np.int64)[index]
        for batch, index in zip(batches, given, strict=True)
    ]
    return tuple(graphs.values()), np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Measured:
    """A kernel that ran.

    Parameters
    ----------
    run_s : tuple of float
        Seconds of each repeat; all positive and finite, at least one.

    Raises
    ------
    InputError
        When a time is zero, negative, infinite or not a number, or none is given.
    """

    run_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.run_s or not all(math.isfinite(t) and t > 0 for t in self.run_s):
            raise InputError(f"run_s must be positive finite seconds, got {list(self.run_s)}")

    @property
    def latency_s(self) -> float:
        """Median of the repeats, in seconds."""
        return float(np.median(self.run_s))


@dataclass(frozen=True, slots=True)
class Failure:
    """A kernel that could not be built or run.

    Parameters
    ----------
    kind : str
        ``"build"``, ``"run"``, ``"timeout"``, ``"crash"`` or ``"unknown"``.
    reason : str
        For people.
    """

    kind: str
    reason: str


Measurement: TypeAlias = Measured | Failure


@dataclass(frozen=True)
class KernelDataset:
    """Kernels with what was measured of each.

    Parameters
    ----------
    batch : KernelBatch
        The kernels.
    measurements : tuple of Measurement
        One per kernel.

    Raises
    ------
    InputError
        When the two have different lengths.
    """

    batch: KernelBatch
    measurements: tuple[Measurement, ...]

    def __post_init__(self) -> None:
        if len(self.batch) != len(self.measurements):
            raise InputError(
                f"measurements must be one per kernel ({len(self.batch)}), "
                f"got {len(self.measurements)}"
            )

    def __len__(self) -> int:
        return len(self.measurements)

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """bool [kernels]; which kernels ran."""
        return np.array([isinstance(m, Measured) for m in self.measurements], dtype=bool)

    @cached_property
    def log_latency(self) -> FloatArray:
        """float64 [kernels]; natural logarithm of the seconds, NaN where a kernel failed."""
        return np.array(
            [
                math.log(m.latency_s) if isinstance(m, Measured) else math.nan
                for m in self.measurements
            ]
        )

    def take(self, kernels: Sequence[int] | NDArray[np.integer]) -> "KernelDataset":
        """Some of the kernels, in the order given."""
        measurements = tuple(self.measurements[kernel] for kernel in kernels)
        return KernelDataset(self.batch.take(kernels), measurements)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A kernel that a model cannot handle.

    Parameters
    ----------
    kernel : int
        Position in the batch.
    reason : str
        For people.
    """

    kernel: int
    reason: str


def check_prediction(prediction: Any) -> None:
    """Raise InputError unless what a prediction gives, of kernels or networks, fits together.

    Parameters
    ----------
    prediction
        With `utility`, `latency_s`, `low_s`, `high_s` [kernels or networks] and `coverage`.
    """
    size = len(prediction.utility)
    for name in ("latency_s", "low_s", "high_s"):
        values = getattr(prediction, name)
        if values is not None and values.shape != prediction.utility.shape:
            raise InputError(f"{name} must be [{size}] like utility, got {list(values.shape)}")
    interval = (prediction.low_s is None, prediction.high_s is None, prediction.coverage is None)
    if len(set(interval)) != 1:
        raise InputError("low_s, high_s and coverage must be given together")


@dataclass(frozen=True)
class KernelPrediction:
    """What a model says of the kernels of a batch.

    Parameters
    ----------
    utility : numpy.ndarray
        float64 [kernels], finite; higher is faster. In units of the logarithm of speed: two kernels
        of one task whose utilities differ by 1 are predicted to differ e-fold in speed. It orders
        the kernels of one task and means nothing between tasks, and it is never a time. 0 for an
        unsupported kernel.
    latency_s : numpy.ndarray, optional
        float64 [kernels], seconds; NaN for an unsupported kernel. None from a model that
        only ranks.
    low_s, high_s : numpy.ndarray, optional
        float64 [kernels]; interval around `latency_s`, from models that claim one.
    coverage : float, optional
        Share of kernels whose latency the interval is meant to hold.
    unsupported : tuple of Unsupported
        Kernels that the model cannot handle, each with the reason.

    Raises
    ------
    InputError
        When lengths differ or an interval comes without its coverage.
    """

    utility: FloatArray
    latency_s: FloatArray | None = None
    low_s: FloatArray | None = None
    high_s: FloatArray | None = None
    coverage: float | None = None
    unsupported: tuple[Unsupported, ...] = field(default=())

    def __post_init__(self) -> None:
        check_prediction(self)

    def __len__(self) -> int:
        return len(self.utility)
