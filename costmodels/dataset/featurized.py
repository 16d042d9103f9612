"""Records of a data set with the features of their programs."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from costmodels.dataset.feature_cache import FeatureTable, kept_extractors, load_features
from costmodels.dataset.folder import StoredDataset
from costmodels.dataset.kernel_rows import RecordRow
from costmodels.dataset.splits import Split
from costmodels.errors import InputError
from costmodels.features.schema import PER_STORE
from costmodels.kernel import KernelBatch, KernelDataset, Task

NAMED = 20
"""Records whose trace no longer applies that are named; the others are counted."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeaturizedRecords:
    """Records with the features of their programs.

    Parameters
    ----------
    kernels : KernelDataset
        Features and measurements.
    records : tuple of RecordRow
        In the same order.
    """

    kernels: KernelDataset
    records: tuple[RecordRow, ...]

    def select(self, wanted: Callable[[RecordRow], bool]) -> KernelDataset:
        """The kernels of some of the records."""
        positions = [i for i, record in enumerate(self.records) if wanted(record)]
        return self.kernels.take(positions)

    def training_parts(self, split: Split) -> tuple[KernelDataset, KernelDataset | None]:
        """What a split lets a model learn from and stop by; the latter None without such tasks.

        Raises
        ------
        InputError
            When no program of its training tasks ran.
        """
        train = self.select(lambda record: record.task in split.train)
        if not np.any(train.measured):
            raise InputError(
                f"split {split.name} must have training programs that ran, got none: make another"
            )
        return train, self.select(lambda record: record.task in split.validation) or None


def join_features(dataset: StoredDataset, table: FeatureTable) -> FeaturizedRecords:
    """Put records and the features of their programs together.

    Parameters
    ----------
    dataset : StoredDataset
        As it was read.
    table : FeatureTable
        Of its records, in their order.

    Returns
    -------
    FeaturizedRecords
        In the order of the records; those whose trace no longer applies are named and left out.

    Raises
    ------
    InputError
        When the trace of none applies.
    """
    records = dataset.records
    applied = np.flatnonzero(table.applies)
    if not len(applied):
        raise InputError(
            f"a trace of data set {dataset.path} must apply to its workload, got none of "
            f"{len(records)}: `costmodels dataset verify` says why"
        )
    _name_broken(dataset, table)
    kept = tuple(records[int(i)] for i in applied)
    used = sorted({record.task for record in kept})
    index = {task: position for position, task in enumerate(used)}
    counts = np.diff(table.row_offsets)[applied]
    batch = KernelBatch(
        schema=PER_STORE,
        rows=np.asarray(table.rows),  # programs that do not apply have none
        row_offsets=np.cumsum([0, *counts], dtype=np.int64),
        tasks=tuple(Task(task, dataset.tasks[task].device) for task in used),
        task_index=np.array([index[record.task] for record in kept], np.int64),
        graphs=table.graphs,
        graph_index=np.asarray(table.graph_index)[applied],
    )
    return FeaturizedRecords(KernelDataset(batch, tuple(r.measurement for r in kept)), kept)


def kept_features(dataset: StoredDataset) -> FeaturizedRecords:
    """Return a data set's features that were extracted earlier; TVM is not needed.

    Parameters
    ----------
    dataset : StoredDataset
        As it was read.

    Raises
    ------
    InputError
        When none are in the cache, or the trace of none applies.
    """
    for extractor in kept_extractors():
        table = load_features(dataset.files_digest, len(dataset.records), extractor)
        if table is not None and dataset.files_digest:
            return join_features(dataset, table)
    raise InputError(
        f"features of data set {dataset.path} must be in the cache, got none: "
        f"`costmodels dataset featurize {dataset.path}` extracts them, which needs TVM"
    )


def _name_broken(dataset: StoredDataset, table: FeatureTable) -> None:
    broken = np.flatnonzero(~table.applies)
    for position in broken[:NAMED]:
        problem = dataset.problem(
            dataset.records[int(position)], "its trace must apply to its workload"
        )
        _log.warning("%s: %s; it is kept out", dataset.path, problem)
    if len(broken) > NAMED:
        _log.warning("%s: likewise %d more", dataset.path, len(broken) - NAMED)
