"""The folder of a tuning run: its database, opened even after a kill, and checked."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from costmodels.errors import InputError
from costmodels.files import write_atomically
from costmodels.json_text import parse_json
from costmodels.kernel import Measured
from tvm_integration.compat import (
    MeasureCandidate,
    Target,
    meta_schedule,
    tvm,
)
from tvm_integration.identity import target_text
from tvm_integration.records.record_checks import check_record

logger = logging.getLogger(__name__)

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"
CHECKPOINT = "cost_model.ckpt"
NETWORK = "network.json"
"""What the newest run that ended measured of the whole network."""


def has_database(work_dir: str | Path) -> bool:
    """Whether a folder holds both files of a JSON database."""
    return all((Path(work_dir) / name).is_file() for name in (WORKLOADS, RECORDS))


def open_database(
    work_dir: str | Path, target: Target | None = None, *, read_only: bool = False
) -> meta_schedule.database.JSONDatabase:
    """Open the database of a work directory, or begin one.

    A half-written last line, which a kill leaves and which TVM cannot open, is cut off with a
    warning.

    Parameters
    ----------
    work_dir : path
        Made if it is missing.
    target : Target, optional
        What the caller tunes for.
    read_only : bool
        Leave the folder alone, whose run may go on: nothing may be committed.

    Returns
    -------
    JSONDatabase

    Raises
    ------
    InputError
        When a line is damaged, the folder cannot be made or written, or it holds records of a
        target other than `target`.
    """
    folder = Path(work_dir)
    try:
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True)
        workloads, records = (
            _check_lines(folder / name, mend=not read_only) for name in (WORKLOADS, RECORDS)
        )
    except OSError as error:
        raise InputError(
            f"work directory {folder} must be a folder that can be "
            f"{'read' if read_only else 'written'}: {error.strerror}"
        ) from None
    _check_links(folder / RECORDS, records, workloads)
    if target is not None:
        _check_target(folder, records, target)
    try:
        if not read_only:
            return meta_schedule.database.JSONDatabase(work_dir=str(folder))
        with TemporaryDirectory(prefix="costmodels-read-") as copy:
            for name, lines in ((WORKLOADS, workloads), (RECORDS, records)):
                text = "".join(json.dumps(line) + "\n" for line in lines)
                (Path(copy) / name).write_text(text)
            return meta_schedule.database.JSONDatabase(work_dir=copy)  # it reads all of them
    except (ValueError, RuntimeError, TypeError, AttributeError, tvm.error.InternalError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"the database in {folder} must be one of this release of TVM, got: {first}; "
            "use another work directory"
        ) from None


def _check_lines(path: Path, *, mend: bool) -> list[list[object]]:
    """Parse a file of JSON lines but for a half-written last one, which mending cuts off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    lines = content.split(b"\n")
    parsed = []
    for number, line in enumerate(lines, start=1):
        last = number == len(lines)
        if last and not line:
            break
        try:
            value = parse_json(line)
            if not isinstance(value, list) or len(value) != 2:
                raise ValueError("it is not a pair")
        except ValueError as error:
            if not last:
                raise InputError(
                    f"{path} line {number} must be a JSON pair, got {line[:40]!r} ({error}): "
                    "remove that line or use another work directory"
                ) from None
            if mend:
                logger.warning("%s: its last line is half written and was cut off", path)
                write_atomically(path, b"".join(kept + b"\n" for kept in lines[:-1]))
            break
        parsed.append(value)
        if last and mend:  # whole, but TVM would append to the same line
            write_atomically(path, content + b"\n")
    return parsed


def _check_links(path: Path, records: Sequence[list[object]], workloads: Sequence[object]) -> None:
    for number, (workload, record) in enumerate(records, start=1):
        if type(workload) is not int or not 0 <= workload < len(workloads):
            raise InputError(
                f"{path} line {number} must name one of {len(workloads)} workloads, "
                f"got {workload!r}: use another work directory"
            )
        try:
            check_record(record)
        except InputError as error:
            raise InputError(
                f"{path} line {number}: {error}: remove that line or use another work directory"
            ) from None


def _check_target(folder: Path, records: Sequence[list[object]], target: Target) -> None:
    wanted = target_text(target)
    for number, (_, record) in enumerate(records, start=1):
        try:
            found = target_text(Target(record[2]))  # type: ignore[index]
        except (TypeError, IndexError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{folder / RECORDS} line {number} must be a tuning record, got a damaged one "
                f"({str(error).splitlines()[0]}): use another work directory"
            ) from None
        if found != wanted:
            raise InputError(
                f"work directory {folder} must hold records of target {wanted}, got {found}: "
                "use another work directory for this target"
            )


def keep_network(work_dir: Path, model: str, target: Target, tuned_s: float) -> None:
    """Keep what a network took when it was tuned, in seconds, for `network_latency_s`."""
    kept = {"model": model, "target": target_text(target), "tuned_s": tuned_s}
    try:
        write_atomically(work_dir / NETWORK, json.dumps(kept).encode())
    except OSError as error:
        logger.warning("%s cannot be written: %s", work_dir / NETWORK, error.strerror)


def network_latency_s(work_dir: Path, model: str, target: Target) -> float | None:
    """Give what the newest run measured of a network, in seconds; None when it was of another."""
    try:
        kept = parse_json((work_dir / NETWORK).read_bytes())
        if (kept["model"], kept["target"]) != (model, target_text(target)):
            return None
        return Measured((float(kept["tuned_s"]),)).latency_s
    except (OSError, ValueError, KeyError, TypeError):  # InputError is a ValueError
        return None


def replay(
    records: Sequence[meta_schedule.database.TuningRecord],
) -> Iterator[tuple[meta_schedule.database.TuningRecord, MeasureCandidate | None]]:
    """Apply the trace of each record again.

    Yields
    ------
    tuple
        The record and its candidate; None when the trace no longer applies.
    """
    for record in records:
        try:
            candidate = record.as_measure_candidate()
        except (ValueError, RuntimeError, TypeError, tvm.error.InternalError) as error:
            logger.debug("a trace no longer applies: %s", error)
            candidate = None
        yield record, candidate
