"""Data set -> features: worker processes apply the traces again and extract rows and graphs."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np

from costmodels.cores import core_count
from costmodels.dataset.feature_cache import (
    FeatureTable,
    load_features,
    save_features,
    unfinished_features,
)
from costmodels.dataset.featurized import FeaturizedRecords, join_features
from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.dataset.kernel_rows import RecordRow
from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph, StagedGraph
from costmodels.features.kernel_graph_json import graphs_from_json, graphs_to_json
from costmodels.features.schema import PER_STORE
from costmodels.kernel import IndexArray, RowArray
from costmodels.progress import OnProgress, no_progress
from tvm_integration.compat import MeasureCandidate, Target, load_json, meta_schedule
from tvm_integration.records.rows import TraceApplier
from tvm_integration.tir.features import FeatureExtractor, distinct_graphs
from tvm_integration.workers.batch import JobResult
from tvm_integration.workers.pool import WorkerPool

PROGRAMS_PER_JOB = 48
JOB_TIMEOUT_S = 300.0
_Job: TypeAlias = tuple[str, str, list[str], str]


def featurize(
    dataset: str | os.PathLike[str] | StoredDataset, *, on_progress: OnProgress = no_progress
) -> FeaturizedRecords:
    """Give the features of a data set's programs with what was measured of them.

    They are kept in a cache, as long as the data set does not change. Where an extraction was
    killed the next one goes on.

    Parameters
    ----------
    dataset : str, path or StoredDataset
        A folder, ``shipped:NAME``, or as it was read.
    on_progress : callable
        Told how many programs are done, and how many there are.

    Returns
    -------
    FeaturizedRecords
        In the order of the records; those whose trace no longer applies are left out.

    Raises
    ------
    InputError
        When there are no records, or the trace of none applies.
    """
    if not isinstance(dataset, StoredDataset):
        dataset = read_dataset(dataset)
    records = dataset.records
    if not records:
        raise InputError(
            f"data set {dataset.path} must have records that can be used, got none: "
            "`costmodels dataset verify` says what is wrong"
        )
    extractor = f"tvm {version('apache-tvm')}"
    digest = dataset.files_digest
    table = load_features(digest, len(records), extractor) if digest else None
    if table is None:
        with unfinished_features(digest, extractor) as unfinished:
            table = extract_features(
                dataset, records, on_progress=on_progress, unfinished=unfinished
            )
            if digest:
                save_features(digest, table, extractor, dataset.path)
    return join_features(dataset, table)


def extract_features(
    dataset: StoredDataset,
    records: Sequence[RecordRow],
    *,
    on_progress: OnProgress = no_progress,
    unfinished: Path | None = None,
) -> FeatureTable:
    """Apply every trace again and extract rows and graphs.

    Parameters
    ----------
    dataset : StoredDataset
        Its tasks.
    records : sequence of RecordRow
        Of some of these tasks.
    on_progress : callable
        Told how many programs are done, and how many there are.
    unfinished : Path, optional
        A folder where parts are kept, and taken from when they are there.
    """
    by_task: dict[str, list[int]] = {}
    for position, record in enumerate(records):
        by_task.setdefault(record.task, []).append(position)
    rows: list[RowArray] = [np.empty((0, len(PER_STORE.columns)), np.float32)] * len(records)
    applies = np.zeros(len(records), bool)
    graphs = _GraphTable()
    graph_index = np.full(len(records), -1, np.int64)
    done = 0
    alone: list[list[int]] = []
    workers = core_count()
    with (
        tempfile.TemporaryDirectory(prefix="costmodels-features-") as folder,
        WorkerPool(_prepare, stage="run", max_workers=workers, timeout_sec=JOB_TIMEOUT_S) as pool,
    ):

        def job(part: Sequence[int]) -> _Job:
            row = dataset.tasks[records[part[0]].task]
            what = row.workload, row.target, [records[i].trace for i in part]
            name = blake2b(json.dumps(what).encode(), digest_size=12).hexdigest()
            return *what, str((unfinished or Path(folder)) / f"{name}.npz")

        def take(part: Sequence[int], path: Path) -> None:
            nonlocal done
            done += len(part)
            on_progress(done, len(records))
            with np.load(path, allow_pickle=False) as found:
                pieces = np.split(found["rows"], np.cumsum(found["counts"])[:-1])
                for position, piece, good in zip(part, pieces, found["applies"], strict=True):
                    rows[position], applies[position] = piece, good
                where = graphs.add(records[part[0]].task, str(found["graphs"]))
                graph_index[part] = where[found["graph_index"]]
            if unfinished is None:
                path.unlink()

        def run(parts: Sequence[Sequence[int]]) -> None:
            asked = []
            for part in parts:
                made = job(part)
                if _is_sound(Path(made[-1])):
                    take(part, Path(made[-1]))
                else:
                    asked.append((part, made))

            def on_result(number: int, result: JobResult) -> None:
                nonlocal done
                part, made = asked[number]
                if result.failure is None:
                    take(part, Path(made[-1]))
                elif len(part) > 1:
                    alone.extend([position] for position in part)
                else:
                    done += 1
                    on_progress(done, len(records))

            pool.map([made for _, made in asked], on_result=on_result)

        run(
            [
                positions[start : start + PROGRAMS_PER_JOB]
                for positions in by_task.values()
                for start in range(0, len(positions), PROGRAMS_PER_JOB)
            ]
        )
        # What ends or stops a worker is one trace: the others of its job are good.
        run(alone)
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in rows])]).astype(np.int64)
    return FeatureTable(
        np.concatenate(rows), offsets, applies, *numbered_by_use(graphs.graphs, graph_index)
    )


def _is_sound(path: Path) -> bool:
    """Whether a part is there that an extraction before this has left."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return set(found.files) == {"rows", "counts", "applies", "graphs", "graph_index"}
    except (OSError, ValueError, BadZipFile):
        return False


def numbered_by_use(
    graphs: Sequence[StagedGraph], graph_index: IndexArray
) -> tuple[tuple[StagedGraph, ...], IndexArray]:
    """Number graphs in the order in which programs use them.

    Jobs end in any order, and training repeats bit for bit only where the numbers do.

    Parameters
    ----------
    graphs : sequence of StagedGraph
        In any order.
    graph_index : numpy.ndarray
        int64 [programs]; position in `graphs`, -1 for none.

    Returns
    -------
    tuple
        The graphs that are used, and the new positions, int64 [programs].
    """
    used, first = np.unique(graph_index[graph_index >= 0], return_index=True)
    order = used[np.argsort(first)]
    position = np.full(len(graphs) + 1, -1, np.int64)  # the last entry stands for none
    position[order] = np.arange(len(order))
    return tuple(graphs[int(number)] for number in order), position[graph_index]


class _GraphTable:
    """Graphs of many jobs, those of one task that are equal kept once."""

    def __init__(self) -> None:
        self._kernels: dict[str, KernelGraph] = {}
        self._positions: dict[tuple[str, tuple[tuple[int, int], ...], int], int] = {}
        self._graphs: list[StagedGraph] = []

    @property
    def graphs(self) -> tuple[StagedGraph, ...]:
        """All of them."""
        return tuple(self._graphs)

    def add(self, task: str, text: str) -> IndexArray:
        """Add the graphs of a job.

        Parameters
        ----------
        task : str
            Key of the task of all its programs.
        text : str
            The graphs as JSON.

        Returns
        -------
        numpy.ndarray
            int64 [graphs of the job + 1]: where each is now. The last entry stands for none.
        """
        numbers = []
        for graph in graphs_from_json(text):
            kernel = self._kernels.setdefault(task, graph.graph)
            key = (task, graph.stages, graph.rows)
            if key not in self._positions:
                self._positions[key] = len(self._graphs)
                self._graphs.append(StagedGraph(kernel, graph.stages, graph.rows))
            numbers.append(self._positions[key])
        return np.array([*numbers, -1], np.int64)


def _prepare() -> Callable[[_Job], None]:
    """Make the function that does a job; called in the worker."""
    extractor = FeatureExtractor(programs_kept=0)

    def work(job: _Job) -> None:
        workload, target, traces, path = job
        mod = load_json(workload)
        context = meta_schedule.TuneContext(mod, target=Target(json.loads(target)), num_threads=1)
        candidates: list[Any] = []
        applies = []
        applier = TraceApplier(mod)
        for trace in traces:
            try:
                candidates.append(MeasureCandidate(applier.schedule(trace), []))
                applies.append(True)
            except InputError:
                applies.append(False)
        good = np.flatnonzero(applies)
        programs = extractor.programs(context, candidates)
        counts = np.zeros(len(traces), np.int64)
        counts[good] = [len(program.rows) for program in programs]
        graphs, numbers = distinct_graphs(mod, programs)
        graph_index = np.full(len(traces), -1, np.int64)
        graph_index[good] = numbers
        empty = np.empty((0, len(PER_STORE.columns)), np.float32)
        beside = f"{path}.{os.getpid()}.npz"
        np.savez(
            beside,
            rows=np.concatenate([empty, *(program.rows for program in programs)]),
            counts=counts,
            applies=np.array(applies),
            graphs=graphs_to_json(graphs),
            graph_index=graph_index,
        )
        os.replace(beside, path)

    return work
