"""Data sets and MetaSchedule's work directories: import and export, and a check of both."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.dataset.contradictions import contradictions
from costmodels.dataset.folder import Problem, StoredDataset
from costmodels.dataset.kernel_rows import RecordRow, TaskRow
from costmodels.dataset.writer import DatasetWriter
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.json_text import parse_json
from costmodels.kernel import LONGEST_S, Failure, Measured
from costmodels.progress import OnProgress, no_progress
from tvm_integration.compat import Target, meta_schedule, tvm
from tvm_integration.identity import program_hash, target_text, trace_text
from tvm_integration.measure.outcomes import measurement_of
from tvm_integration.records.database import RECORDS, WORKLOADS, has_database
from tvm_integration.records.record_checks import check_record
from tvm_integration.records.rows import TraceApplier, target_of, task_row, workload_of
from tvm_integration.targets import device_of, host_target, parse_target
from tvm_integration.tir.kernel_graph import operator_kinds

ADDED_AT_ONCE = 256

_log = logging.getLogger(__name__)
_TVM_ERRORS = (ValueError, RuntimeError, TypeError, KeyError, IndexError, tvm.error.InternalError)


@dataclass
class Imported:
    """What an import did.

    Parameters
    ----------
    work_dirs, tasks, records, failures, duplicates : int
        How many were found; duplicates are programs that were there.
    problems : list of Problem
        Rows that were kept out.
    """

    work_dirs: int = 0
    tasks: int = 0
    records: int = 0
    failures: int = 0
    duplicates: int = 0
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class DatabaseLine:
    """A record as a database has it; TVM's reader would apply its trace, which takes long.

    Parameters
    ----------
    workload : TraceApplier
        Of its kernel, shared by all records of that.
    trace : str
        As TVM's JSON.
    run_s : tuple of float
        Seconds of each repeat; none of a program that failed in a way that was not kept.
    target : Target, optional
        What it is for.
    """

    workload: TraceApplier
    trace: str
    run_s: tuple[float, ...]
    target: Target | None


def import_work_dirs(
    folders: Sequence[Path],
    writer: DatasetWriter,
    device: Device | None = None,
    on_progress: OnProgress = no_progress,
) -> Imported:
    """Add the records of MetaSchedule's work directories to a data set.

    Parameters
    ----------
    folders : sequence of Path
        Searched for work directories; the network of one is the first folder below.
    writer : DatasetWriter
        Of the data set.
    device : Device, optional
        What was measured on; this host, limited to each target, by default.
    on_progress : callable
        Told how many lines of the databases have been read, and how many there are.

    Raises
    ------
    InputError
        When there is no work directory below a folder.
    """
    done = Imported()
    found = [pair for folder in folders for pair in work_dirs_below(folder, done.problems)]
    total = sum(_read(work_dir / RECORDS, []).count(b"\n") for work_dir, _ in found)
    pending: list[TaskRow | RecordRow] = []
    for work_dir, network in found:
        done.work_dirs += 1
        for row in _work_dir_rows(work_dir, network, device, done.problems):
            pending.append(row)
            if len(pending) == ADDED_AT_ONCE:
                _add(pending, writer, done)
                on_progress(done.records + done.duplicates + len(done.problems), total)
    _add(pending, writer, done)
    return done


def work_dirs_below(folder: Path, problems: list[Problem]) -> list[tuple[Path, str]]:
    """Find the work directories below a folder.

    Parameters
    ----------
    folder : Path
        Searched recursively.
    problems : list of Problem
        Folders that cannot be read are added.

    Returns
    -------
    list of tuple
        Each with its network, the name of the first folder below.

    Raises
    ------
    InputError
        When there is none.
    """
    unreadable: list[OSError] = []
    below = [Path(path) for path, _, _ in os.walk(folder, onerror=unreadable.append)]
    problems += [Problem(e.filename, 0, f"it must be readable ({e.strerror})") for e in unreadable]
    found = sorted(path for path in below if has_database(path))
    if not found:
        raise InputError(
            f"{folder} must hold work directories of MetaSchedule, got none with {WORKLOADS} "
            f"and {RECORDS}: give the folder that was tune_relax's work_dir"
        )
    parts = [work_dir.relative_to(folder).parts for work_dir in found]
    own = folder.resolve().name
    return [(path, each[0] if each else own) for path, each in zip(found, parts, strict=True)]


def _add(pending: list[TaskRow | RecordRow], writer: DatasetWriter, done: Imported) -> None:
    before = len(writer.tasks), len(writer.records)
    failures = _failures(writer)
    writer.add(pending)
    records = sum(isinstance(row, RecordRow) for row in pending)
    done.tasks += len(writer.tasks) - before[0]
    done.records += len(writer.records) - before[1]
    done.duplicates += records - (len(writer.records) - before[1])
    done.failures += _failures(writer) - failures
    pending.clear()


def _failures(writer: DatasetWriter) -> int:
    return sum(isinstance(record.measurement, Failure) for record in writer.records.values())


def _work_dir_rows(
    work_dir: Path, network: str, device: Device | None, problems: list[Problem]
) -> Iterator[TaskRow | RecordRow]:
    """Rows of a work directory, each task before its records."""
    path = work_dir / RECORDS
    moment = datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
    known: dict[int, str] = {}
    for number, index, record in records_in_order(work_dir, problems):
        try:
            if index not in known:
                row = _import_task(record, network, device)
                known[index] = row.key
                yield row
            yield record_row(record, known[index], moment)
        except (InputError, *_TVM_ERRORS) as error:
            problems.append(Problem(str(path), number, _first(error)))


def records_in_order(
    work_dir: Path, problems: list[Problem]
) -> Iterator[tuple[int, int, DatabaseLine]]:
    """Read the records of a work directory as they were measured; TVM's database sorts them.

    Parameters
    ----------
    work_dir : Path
        Must hold a database.
    problems : list of Problem
        Lines that cannot be read are added.

    Yields
    ------
    tuple
        Number of the line, that of the workload, and the record.
    """
    workloads = dict(_workloads(work_dir / WORKLOADS, problems))
    path = work_dir / RECORDS
    for number, (index, values) in _pairs(path, problems):
        try:
            yield number, index, _database_line(workloads, index, values)
        except (InputError, *_TVM_ERRORS) as error:
            problems.append(Problem(str(path), number, _first(error)))


def _pairs(path: Path, problems: list[Problem]) -> Iterator[tuple[int, Any]]:
    """Lines of a file of JSON pairs, with their numbers; those that are not go to the problems."""
    for number, line in enumerate(_read(path, problems).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            pair = parse_json(line)
            if not isinstance(pair, list) or len(pair) != 2:
                raise ValueError("it is not a pair")
        except ValueError as error:
            problems.append(Problem(str(path), number, f"it must be a pair in JSON ({error})"))
            continue
        yield number, pair


def _read(path: Path, problems: list[Problem]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problems.append(Problem(str(path), 0, f"it must be readable ({error.strerror})"))
        return b""


def _workloads(path: Path, problems: list[Problem]) -> Iterator[tuple[int, TraceApplier]]:
    """Index -> workload, as the records count them: by line."""
    for number, pair in _pairs(path, problems):
        try:
            workload = meta_schedule.database.Workload.from_json(pair)
            yield number - 1, TraceApplier(workload.mod, checked=True)
        except _TVM_ERRORS as error:
            problems.append(
                Problem(str(path), number, f"TVM must be able to read it ({_first(error)})")
            )


def _database_line(workloads: Mapping[int, TraceApplier], index: Any, values: Any) -> DatabaseLine:
    if type(index) is not int or index not in workloads:
        raise InputError(f"it must name a workload that could be read, got {index!r}")
    check_record(values)
    trace, run_s, target = (*values, None)[:3]
    return DatabaseLine(
        workloads[index],
        json.dumps(trace),
        tuple(map(float, run_s or ())),
        None if target is None else _target(json.dumps(target)),
    )


@lru_cache(maxsize=64)
def _target(text: str) -> Target:
    try:
        return Target(json.loads(text))
    except _TVM_ERRORS as error:
        raise InputError(f"its target must be one of this TVM, got: {_first(error)}") from None


def _import_task(record: DatabaseLine, network: str, device: Device | None) -> TaskRow:
    target = record.target
    if target is None:
        raise InputError("it must name its target, got none")
    if device is None:
        mcpu, own = target.attrs.get("mcpu"), host_target().attrs["mcpu"]
        if target.kind.name == "llvm" and mcpu is not None and str(mcpu) != str(own):
            _log.warning(
                "records of mcpu %s are taken to be of this host (%s): give a device", mcpu, own
            )
    mod = record.workload.mod
    return task_row(
        mod,
        target,
        device or device_of(target),
        name=str(mod["main"].attrs.get("global_symbol", "main")) if mod["main"].attrs else "main",
        networks={network: 1},
        operators=operator_kinds(mod),
    )


def record_row(record: DatabaseLine, task: str, moment: datetime) -> RecordRow:
    """A row for a record of a database.

    Parameters
    ----------
    record : DatabaseLine
        Its trace must apply.
    task : str
        Key of its task.
    moment : datetime
        When it was measured, or a moment after it.

    Raises
    ------
    InputError
        Times that cannot be, or a trace that does not apply.
    """
    measurement = measurement_of(record.run_s)
    if measurement is None:
        raise InputError(
            f"its times must be positive seconds below {LONGEST_S:g}, got {list(record.run_s)}"
        )
    schedule = record.workload.schedule(record.trace)
    return RecordRow(
        task=task,
        trace=trace_text(schedule.trace),
        program=program_hash(schedule),
        measurement=measurement,
        failed_in="run" if isinstance(measurement, Failure) else None,
        origin="import",
        early_stopped=False,
        evaluator="unknown",
        measured_at=moment,
        processor="unknown",
    )


def _of_target(dataset: StoredDataset, wanted: str | None) -> StoredDataset:
    """The part of a data set that one database can hold: it tells no targets apart."""
    targets = sorted({task.target for task in dataset.used_tasks.values()})
    text = wanted
    if wanted is not None and wanted not in targets:
        text = target_text(parse_target(wanted))
    if len(targets) > 1 and text is None:
        raise InputError(
            f"one target must be exported to a folder, for a database tells none apart, got "
            f"{len(targets)}: give a target, one of {'; '.join(targets)}"
        )
    if text is not None and text not in targets:
        raise InputError(f"target must be one of {'; '.join(targets)}, got {wanted!r}")
    if text is None:
        return dataset
    records = tuple(r for r in dataset.records if dataset.tasks[r.task].target == text)
    return replace(dataset, records=records)


def export_database(
    dataset: StoredDataset,
    work_dir: Path,
    on_progress: OnProgress = no_progress,
    *,
    target: str | None = None,
) -> int:
    """Write a data set as a database that TVM's own tools open.

    Parameters
    ----------
    dataset : StoredDataset
        Of one target, or of several one of which is named.
    work_dir : Path
        Must not hold a database.
    on_progress : callable
        Told how many records are done, and how many there are.
    target : str, optional
        As TVM's JSON in the data set, or as a user writes targets.

    Returns
    -------
    int
        Records written: those that ran and whose trace applies. Unscheduled programs are left
        out: TVM takes a record without instructions for none.

    Raises
    ------
    InputError
        When a database is there, the folder cannot be written, or no target is named of several.
    """
    dataset = _of_target(dataset, target)
    for name in (WORKLOADS, RECORDS):
        if (work_dir / name).exists():
            raise InputError(
                f"{work_dir} must not hold a database, got {name}: give another folder"
            )
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{work_dir} cannot be written: {error.strerror}") from None
    try:
        database = meta_schedule.database.JSONDatabase(work_dir=str(work_dir))
    except (ValueError, RuntimeError):
        raise InputError(
            f"{work_dir} must be a folder that can be written and has room, got one in which no "
            "file can be made"
        ) from None
    exported: dict[str, tuple[TraceApplier, Any, Target, Any]] = {}
    written = 0
    for number, record in enumerate(dataset.records, start=1):
        on_progress(number, len(dataset.records))
        if not isinstance(record.measurement, Measured) or record.origin == "default":
            continue
        try:
            if record.task not in exported:
                row = dataset.tasks[record.task]
                mod = workload_of(row)
                arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
                workload = database.commit_workload(mod)
                applier = TraceApplier(mod)
                exported[record.task] = (applier, workload, target_of(row), arguments)
            applier, workload, target, arguments = exported[record.task]
            trace = applier.schedule(record.trace).trace
        except InputError as error:
            _log.warning("%s; it is left out", dataset.problem(record, str(error)))
            continue
        database.commit_tuning_record(
            meta_schedule.database.TuningRecord(
                trace, workload, list(record.measurement.run_s), target, arguments
            )
        )
        written += 1
    # TVM does not notice a full disk.
    for name, wanted in ((WORKLOADS, len(exported)), (RECORDS, written)):
        found = (work_dir / name).read_bytes().count(b"\n")
        if found != wanted:
            raise InputError(
                f"{work_dir / name} must have {wanted} lines, got {found}: see that the disk has "
                "room, and export into an empty folder"
            )
    return written


def verify(
    dataset: StoredDataset,
    *,
    sample: int,
    rng: np.random.Generator,
    on_progress: OnProgress = no_progress,
) -> tuple[int, list[Problem]]:
    """Check what reading alone does not: workloads, and a sample of traces applied again.

    Parameters
    ----------
    dataset : StoredDataset
        As it was read; its own problems are not repeated.
    sample : int
        Records whose traces are applied.
    rng : numpy.random.Generator
        Draws the sample.
    on_progress : callable
        Told how many traces are done, and how many there are.

    Returns
    -------
    int
        Traces applied.
    list of Problem
        What was found.
    """
    problems: list[Problem] = []
    appliers: dict[str, TraceApplier] = {}
    for key, row in dataset.tasks.items():
        try:
            appliers[key] = TraceApplier(workload_of(row))
            target_of(row)
        except (InputError, *_TVM_ERRORS) as error:
            problems.append(dataset.problem(row, _first(error)))
    problems += contradictions(dataset, {})
    if not dataset.records:
        problems.append(Problem(str(dataset.path), 0, "it must have records, got none"))
    count = min(sample, len(dataset.records))
    applied = 0
    drawn = np.sort(rng.choice(max(1, len(dataset.records)), count, replace=False))
    for number, position in enumerate(drawn, start=1):
        on_progress(number, count)
        record = dataset.records[int(position)]
        if record.task not in appliers:
            continue
        try:
            found = program_hash(appliers[record.task].schedule(record.trace))
            if found != record.program:
                raise InputError(
                    f"its trace must give program {record.program:016x}, got {found:016x}"
                )
            applied += 1
        except InputError as error:
            problems.append(dataset.problem(record, str(error)))
    return applied, problems


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
