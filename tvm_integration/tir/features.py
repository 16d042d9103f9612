"""Measure candidates of MetaSchedule -> `KernelBatch`: rows of their stages, and graphs.

A row is what TVM's PerStoreFeature says of a stage, made fit for learning, and what its loops tell.
Works for any scheduled program: rows are extracted from the program itself, never from its trace,
and no feature depends on a name.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeAlias

import numpy as np

from costmodels.errors import InputError
from costmodels.features.kernel_graph import StagedGraph
from costmodels.features.loops import LoopNest, loop_features
from costmodels.features.schema import (
    BUFFERS_PER_STORE,
    INTENSITY_SAMPLES,
    LOOP_COLUMNS,
    NEVER_VARYING,
    PER_STORE,
    TVM_PER_STORE_COLUMNS,
)
from costmodels.kernel import IndexArray, KernelBatch, RowArray, Task
from tvm_integration.compat import (
    IRModule,
    MeasureCandidate,
    PerStoreFeature,
    meta_schedule,
    structural_hash,
)
from tvm_integration.tir.kernel_graph import kernel_graph
from tvm_integration.tir.stages import ProgramStages, StageExtractor

CACHE_LINE_BYTES = 64
HASHED_AT_ONCE = 64
"""Programs that a thread takes at a time."""

_Key: TypeAlias = tuple[str, int, int]
"""Kind of the target, hash of the workload, hash of the program."""

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
    """Turn rows of TVM's PerStoreFeature into the first columns of our schema `PER_STORE`.

    Parameters
    ----------
    raw : numpy.ndarray
        [rows, 164], mostly log2(|x| + 1).

    Returns
    -------
    numpy.ndarray
        float32 [rows, columns without `LOOP_COLUMNS`]: columns that never vary dropped, sums over
        operations of every type and over buffers added. Values that are not finite become 0.
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


def _program_hashes(candidates: Sequence[MeasureCandidate]) -> list[int]:
    return [structural_hash(candidate.sch.mod) for candidate in candidates]


@dataclass(frozen=True, slots=True)
class ProgramFeatures:
    """Features of one program.

    Parameters
    ----------
    rows : numpy.ndarray
        float32 [stages, columns of `costmodels.features.schema.PER_STORE`].
    graph : StagedGraph or None
        The kernel's operators with the rows; None for a kernel without blocks.
    """

    rows: RowArray
    graph: StagedGraph | None


def distinct_graphs(
    mod: IRModule, programs: Sequence[ProgramFeatures]
) -> tuple[tuple[StagedGraph, ...], IndexArray]:
    """Each graph of a kernel's programs once, and for every program its position: int64 [programs].

    Raises
    ------
    InputError
        When the kernel has none.
    """
    graphs = [program.graph for program in programs if program.graph is not None]
    if len(graphs) < len(programs):
        kernel_graph(mod)  # says why there is none
    distinct = {id(graph): graph for graph in graphs}
    position = {key: number for number, key in enumerate(distinct)}
    return tuple(distinct.values()), np.array([position[id(each)] for each in graphs], np.int64)


class FeatureExtractor:
    """Extracts the features of candidates, their rows with TVM's multi-threaded C++ extractor.

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
        self._programs: dict[_Key, ProgramFeatures] = {}
        self._stages: dict[int, StageExtractor | None] = {}

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
            Its workload, target and number of threads are used.
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

        Raises
        ------
        InputError
            When graphs are wanted of a kernel that has none.
        """
        programs = self.programs(context, candidates)
        rows = [program.rows for program in programs]
        batch = KernelBatch(
            schema=PER_STORE,
            rows=np.concatenate([np.empty((0, len(PER_STORE.columns)), np.float32), *rows]),
            row_offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
            tasks=(task,),
            task_index=np.zeros(len(rows), np.int64),
        )
        if not graphs:
            return batch
        distinct, index = distinct_graphs(context.mod, programs)
        return replace(batch, graphs=distinct, graph_index=index)

    def programs(
        self, context: meta_schedule.TuneContext, candidates: Sequence[MeasureCandidate]
    ) -> list[ProgramFeatures]:
        """Extract the features of candidates, each program once.

        Parameters
        ----------
        context : TuneContext
            Its workload, target and number of threads are used.
        candidates : sequence of MeasureCandidate
            Programs of the workload; may be empty.
        """
        kind = str(context.target.kind.name)  # TVM extracts for a GPU or for a CPU
        workload = int(structural_hash(context.mod))
        with ThreadPoolExecutor(int(context.num_threads)) as threads:  # TVM gives the lock free
            starts = range(0, len(candidates), HASHED_AT_ONCE)
            parts = [candidates[start : start + HASHED_AT_ONCE] for start in starts]
            hashes = chain.from_iterable(threads.map(_program_hashes, parts))
            keys = [(kind, workload, value) for value in hashes]
        new = {
            key: candidate
            for key, candidate in zip(keys, candidates, strict=True)
            if key not in self._programs
        }
        extracted = self._extract(
            context, list(new.values()), self._stages_of(context.mod, workload)
        )
        self._programs |= zip(new, extracted, strict=True)
        found = [self._programs[key] for key in keys]
        self._forget_oldest(keys)
        return found

    def _stages_of(self, mod: IRModule, workload: int) -> StageExtractor | None:
        if workload not in self._stages:
            try:
                self._stages[workload] = StageExtractor(mod)
            except InputError:  # its rows can still be learned from
                self._stages[workload] = None
        return self._stages[workload]

    def _extract(
        self,
        context: meta_schedule.TuneContext,
        candidates: Sequence[MeasureCandidate],
        stages: StageExtractor | None,
    ) -> list[ProgramFeatures]:
        """Rows and graph of candidates never seen."""
        if not candidates:
            return []
        with ThreadPoolExecutor(1) as thread:  # TVM's part needs no lock, ours nothing else
            tensors = thread.submit(self._extractor.extract_from, context, list(candidates))
            programs = [
                None if stages is None else stages.extract(each.sch.mod) for each in candidates
            ]
            raw = [np.from_dlpack(tensor) for tensor in tensors.result()]
        offsets = np.cumsum([0, *(len(part) for part in raw)])
        rows = np.zeros((offsets[-1], len(PER_STORE.columns)), np.float32)
        rows[:, : -len(LOOP_COLUMNS)] = rows_from_tvm(np.concatenate(raw))
        found: list[ProgramStages | None] = [
            None if stages is None or program is None else stages.checked(program, len(part))
            for program, part in zip(programs, raw, strict=True)
        ]
        told: list[int] = []
        nests: list[LoopNest] = []
        for start, program in zip(offsets, found, strict=False):
            for row, nest in enumerate(() if program is None else program.nests, int(start)):
                if nest is not None:
                    told.append(row)
                    nests.append(nest)
        on_cpu = context.target.kind.name in ("llvm", "c")
        rows[told, -len(LOOP_COLUMNS) :] = loop_features(nests, on_cpu=on_cpu)
        # Copies: a view would keep the rows of the whole call alive.
        return [
            ProgramFeatures(part.copy(), None if program is None else program.staged)
            for part, program in zip(np.split(rows, offsets[1:-1]), found, strict=True)
        ]

    def _forget_oldest(self, keys: Sequence[_Key]) -> None:
        """Move programs to the end of those kept, and drop from the beginning."""
        for key in keys:
            if key in self._programs:
                self._programs[key] = self._programs.pop(key)
        for key in list(self._programs)[: max(0, len(self._programs) - self._programs_kept)]:
            del self._programs[key]
