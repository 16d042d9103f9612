"""Measure candidates of MetaSchedule -> `KernelBatch`: TVM's per-store rows made fit for learning.

Works for any scheduled program: rows are extracted from the program itself, never from its trace,
and no feature depends on a name.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain

import numpy as np

from costmodels.graph import StagedGraph
from costmodels.kernel import IndexArray, KernelBatch, RowArray, Task
from costmodels.schema import (
    BUFFERS_PER_STORE,
    INTENSITY_SAMPLES,
    NEVER_VARYING,
    PER_STORE,
    TVM_PER_STORE_COLUMNS,
)
from tvm_integration.compat import (
    MeasureCandidate,
    PerStoreFeature,
    meta_schedule,
    structural_hash,
)
from tvm_integration.stages import GraphExtractor

CACHE_LINE_BYTES = 64
HASHED_AT_ONCE = 64
"""Programs that a thread takes at a time."""

_NAMES = [column.name for column in TVM_PER_STORE_COLUMNS]
_KEPT = np.array([i for i, name in enumerate(_NAMES) if name not in NEVER_VARYING])
_OPERATIONS = np.array(
    [i for i, name in enumerate(_NAMES) if name.startswith("compute.") and "_op" not in name]
)
_ACCESS_START = _NAMES.index("buffer0.is_read")
_ACCESS_SIZE = _NAMES.index("buffer1.is_read") - _ACCESS_START
_ACCESS_STOP = _ACCESS_START + BUFFERS_PER_STORE * _ACCESS_SIZE
_SUMMED = tuple(
    _NAMES.index(f"buffer0.{name}") - _ACCESS_START
    for name in ("bytes", "unique_bytes", "lines", "unique_lines")
)
_LINES = _NAMES.index("buffer0.lines") - _ACCESS_START
_BYTES = _NAMES.index("buffer0.bytes") - _ACCESS_START


def rows_from_tvm(raw: np.ndarray) -> RowArray:
    """Turn rows of TVM's PerStoreFeature into rows of `costmodels.schema.PER_STORE`.

    Parameters
    ----------
    raw : numpy.ndarray
        [rows, 164], mostly log2(|x| + 1).

    Returns
    -------
    numpy.ndarray
        float32 [rows, 144]: columns that never vary dropped, sums over operations of every type
        and over buffers added. Values that are not finite become 0.
    """
    raw = np.nan_to_num(raw, nan=0.0, posinf=0.0, neginf=0.0)
    access = raw[:, _ACCESS_START:_ACCESS_STOP].reshape(len(raw), BUFFERS_PER_STORE, _ACCESS_SIZE)
    _order_tied_buffers(access)
    operations = np.exp2(raw[:, _OPERATIONS]) - 1.0
    total_operations = operations.sum(axis=1)
    touched = (np.exp2(access[:, :, _SUMMED]) - 1.0).sum(axis=1)
    intensity = total_operations / np.maximum(touched[:, 1], 1.0)
    derived = np.column_stack([total_operations, touched, intensity])
    return np.hstack([raw[:, _KEPT], np.log2(derived + 1.0)]).astype(np.float32)


def _order_tied_buffers(access: np.ndarray) -> None:
    """Order buffers with equal lines and bytes by their other features, in place.

    TVM breaks such ties by the buffers' names, so that renaming would change features.
    """
    key = access[:, :, (_LINES, _BYTES)]
    tied = np.all(key[:, 1:] == key[:, :-1], axis=2) & np.any(key[:, 1:] != 0, axis=2)
    rows = np.flatnonzero(tied.any(axis=1))
    buffers = access[rows]
    columns = [buffers[:, :, column] for column in range(_ACCESS_SIZE)]
    order = np.lexsort([*columns, -buffers[:, :, _BYTES], -buffers[:, :, _LINES]], axis=-1)
    access[rows] = np.take_along_axis(buffers, order[:, :, None], axis=1)


def distinct_graphs(graphs: Sequence[StagedGraph]) -> tuple[tuple[StagedGraph, ...], IndexArray]:
    """Each object once, and for every graph its position among them: int64 [graphs]."""
    distinct = {id(graph): graph for graph in graphs}
    position = {key: number for number, key in enumerate(distinct)}
    return tuple(distinct.values()), np.array([position[id(each)] for each in graphs], np.int64)


def _program_hashes(candidates: Sequence[MeasureCandidate]) -> list[int]:
    return [structural_hash(candidate.sch.mod) for candidate in candidates]


class FeatureExtractor:
    """Extracts the rows of candidates with TVM's multi-threaded C++ extractor, and their graphs.

    A fifth to almost half of the programs that an evolutionary search scores are programs that it
    scored a moment before, and extraction is most of the time of scoring: the newest are kept.

    Parameters
    ----------
    programs_kept : int
        How many; a program takes some KiB.
    """

    def __init__(self, programs_kept: int = 8192) -> None:
        self._extractor = PerStoreFeature(
            buffers_per_store=BUFFERS_PER_STORE,
            arith_intensity_curve_num_samples=INTENSITY_SAMPLES,
            cache_line_bytes=CACHE_LINE_BYTES,
            extract_workload=False,
        )
        self._programs_kept = programs_kept
        self._rows: dict[tuple[str, int], RowArray] = {}
        self._graphs: dict[str, GraphExtractor] = {}

    def extract(
        self,
        context: meta_schedule.TuneContext,
        candidates: Sequence[MeasureCandidate],
        task: Task,
        *,
        graphs: bool = False,
    ) -> KernelBatch:
        """Extract the features of candidates of one task.

        Parameters
        ----------
        context : TuneContext
            Its target and number of threads are used.
        candidates : sequence of MeasureCandidate
            With a trace or without; may be empty.
        task : Task
            What the candidates belong to.
        graphs : bool
            Whether the model wants graphs as well.

        Returns
        -------
        KernelBatch
            A candidate that writes only constants has no row.
        """
        rows = self.extract_rows(context, candidates)
        batch = KernelBatch(
            schema=PER_STORE,
            rows=np.concatenate([np.empty((0, len(PER_STORE.columns)), np.float32), *rows]),
            row_offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
            tasks=(task,),
            task_index=np.zeros(len(rows), np.int64),
        )
        if not graphs:
            return batch
        if task.key not in self._graphs:
            self._graphs[task.key] = GraphExtractor(context.mod)
        extractor = self._graphs[task.key]
        found = [
            extractor.extract(candidate.sch.mod, len(part))
            for candidate, part in zip(candidates, rows, strict=True)
        ]
        distinct, index = distinct_graphs(found)
        return replace(batch, graphs=distinct, graph_index=index)

    def extract_rows(
        self, context: meta_schedule.TuneContext, candidates: Sequence[MeasureCandidate]
    ) -> list[RowArray]:
        """Rows of each candidate: float32 [its stages, 144]."""
        kind = str(context.target.kind.name)  # TVM extracts for a GPU or for a CPU
        with ThreadPoolExecutor(int(context.num_threads)) as threads:  # TVM gives the lock free
            starts = range(0, len(candidates), HASHED_AT_ONCE)
            parts = [candidates[start : start + HASHED_AT_ONCE] for start in starts]
            hashes = chain.from_iterable(threads.map(_program_hashes, parts))
            programs = [(kind, value) for value in hashes]
        new = {
            program: candidate
            for program, candidate in zip(programs, candidates, strict=True)
            if program not in self._rows
        }
        self._rows |= zip(new, self._extract(context, list(new.values())), strict=True)
        rows = [self._rows[program] for program in programs]
        self._forget_oldest(programs)
        return rows

    def _extract(
        self, context: meta_schedule.TuneContext, candidates: Sequence[MeasureCandidate]
    ) -> list[RowArray]:
        """Rows of each candidate."""
        if not candidates:
            return []
        tensors = self._extractor.extract_from(context, list(candidates))
        raw = [np.from_dlpack(tensor) for tensor in tensors]
        rows = rows_from_tvm(np.concatenate(raw))
        ends = np.cumsum([len(part) for part in raw])
        # Copies: a view would keep the rows of the whole call alive.
        return [part.copy() for part in np.split(rows, ends[:-1])]

    def _forget_oldest(self, programs: Sequence[tuple[str, int]]) -> None:
        """Move programs to the end of those kept, and drop from the beginning."""
        for program in programs:
            if program in self._rows:
                self._rows[program] = self._rows.pop(program)
        for program in list(self._rows)[: max(0, len(self._rows) - self._programs_kept)]:
            del self._rows[program]
