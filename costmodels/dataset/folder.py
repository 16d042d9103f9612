"""A data set as a folder: Parquet tables, `dataset.json`, and a journal while it is written.

Reading it; `costmodels.dataset.writer` adds to it.
"""

import logging
import os
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from costmodels.dataset.kernel_rows import (
    RECORDS,
    REFERENCE,
    TASKS,
    RecordRow,
    ReferenceRow,
    TaskRow,
)
from costmodels.dataset.locate import INFO, dataset_path
from costmodels.dataset.network_rows import NETWORKS, NetworkIdentity, NetworkRow
from costmodels.errors import InputError
from costmodels.json_text import parse_json

FORMAT = "costmodels-dataset"
FORMAT_VERSION = 1

_log = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
SHOWN = 40
"""Characters of a damaged text that a message shows."""

Place: TypeAlias = tuple[str, int]
"""Name of a file and row, counted from 1."""
Row: TypeAlias = TaskRow | RecordRow | ReferenceRow | NetworkRow
TABLES: Mapping[str, tuple[type[Any], pa.Schema]] = {
    "tasks": (TaskRow, TASKS),
    "records": (RecordRow, RECORDS),
    "reference": (ReferenceRow, REFERENCE),
    "networks": (NetworkRow, NETWORKS),
}
OPTIONAL = frozenset({"networks"})
"""Tables that are only there when they have rows."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that was kept out.

    Parameters
    ----------
    file : str
        Name of the file.
    row : int
        Counted from 1; 0 stands for the file as a whole.
    what : str
        What must be which.
    """

    file: str
    row: int
    what: str

    def __str__(self) -> str:
        place = f"{self.file} row {self.row}" if self.row else self.file
        return f"{place}: {self.what}"


@dataclass(frozen=True)
class StoredDataset:
    """A data set as it was when it was read.

    Parameters
    ----------
    path : Path
        Its folder.
    info : mapping
        The content of `dataset.json`: name, licence, provenance.
    tasks : mapping
        Key -> task, in the order they were added.
    records : tuple of RecordRow
        Each of a task in `tasks`; no two of one task and one program.
    reference : tuple of ReferenceRow
        Readings of the reference kernel, in order of time.
    networks : tuple of NetworkRow
        Whole networks; all their tasks are in `tasks`.
    problems : tuple of Problem
        Rows that were kept out.
    places : mapping
        Key of a task or identity of a record -> file and row it was read from.
    duplicates : int
        Records that were left out because the same program of the same task is there.
    repeated : tuple of RecordRow
        Those of them that measured something else.
    files_digest : str
        Of the files that it was read from; empty when it was not. Another than `digest`, which
        does not depend on how the rows are stored.
    """

    path: Path
    info: Mapping[str, Any]
    tasks: Mapping[str, TaskRow]
    records: tuple[RecordRow, ...]
    reference: tuple[ReferenceRow, ...]
    networks: tuple[NetworkRow, ...] = ()
    problems: tuple[Problem, ...] = ()
    places: Mapping[Hashable, Place] = field(default_factory=dict)
    duplicates: int = 0
    repeated: tuple[RecordRow, ...] = ()
    files_digest: str = ""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.info["name"])

    @property
    def used_tasks(self) -> dict[str, TaskRow]:
        """The tasks that have records; the reference kernel, for one, has none."""
        used = {record.task for record in self.records}
        return {key: task for key, task in self.tasks.items() if key in used}

    def problem(self, row: TaskRow | RecordRow, what: str) -> Problem:
        """Name the file and the row of a task or record that something is wrong with."""
        return Problem(*self.places.get(_identity(row), ("?", 0)), what)

    def digest(self) -> str:
        """16 hexadecimal digits that change with any task, record or network."""
        state = blake2b(digest_size=8)
        for key in self.tasks:
            state.update(key.encode())
        for record in self.records:
            state.update(f"{record.identity} {record.measurement}".encode())
        for network in self.networks:
            state.update(f"{network.identity} {network.run_s}".encode())
        return state.hexdigest()


def read_dataset(path: str | os.PathLike[str]) -> StoredDataset:
    """Read a data set; rows that cannot be are kept out and named.

    Parameters
    ----------
    path : str or path
        Its folder, or ``shipped:NAME``.

    Returns
    -------
    StoredDataset
        Its tasks, records and networks, and what was kept out.

    Raises
    ------
    InputError
        When it is no data set, is of a newer format, or a table is damaged as a whole.
    """
    folder = dataset_path(path)
    info = _read_info(folder)
    problems: list[Problem] = []
    contents = Contents()
    state = blake2b(digest_size=16)
    _require_tables(folder)
    for name in TABLES:
        file = folder / f"{name}.parquet"
        if file.exists():
            content = _read_bytes(file)
            state.update(f"{file.name} {len(content)}\n".encode() + content)
            _take_rows(contents, problems, file.name, name, _read_table(file, content, name))
    journal = folder / JOURNAL
    content = _read_bytes(journal) if journal.exists() else b""
    state.update(content)
    for number, name, values in _read_journal(journal, content, problems):
        _take_rows(contents, problems, JOURNAL, name, [values], first=number)
    for problem in problems:
        _log.warning("%s: %s; it is kept out", folder, problem)
    return StoredDataset(
        path=folder,
        info=info,
        tasks=contents.tasks,
        records=tuple(contents.records.values()),
        reference=tuple(sorted(contents.reference.values(), key=lambda row: row.measured_at)),
        networks=tuple(contents.networks.values()),
        problems=tuple(problems),
        places=contents.places,
        duplicates=contents.duplicates,
        repeated=tuple(contents.repeated),
        files_digest=state.hexdigest(),
    )


@dataclass
class Contents:
    """The rows of a data set by their identity, while it is read or written."""

    tasks: dict[str, TaskRow] = field(default_factory=dict)
    records: dict[tuple[str, int], RecordRow] = field(default_factory=dict)
    reference: dict[tuple[str, datetime, str], ReferenceRow] = field(default_factory=dict)
    networks: dict[NetworkIdentity, NetworkRow] = field(default_factory=dict)
    places: dict[Hashable, Place] = field(default_factory=dict)
    duplicates: int = 0
    repeated: list[RecordRow] = field(default_factory=list)

    def add(self, row: Row) -> bool:
        """Take in a row; false for a record whose program is there."""
        if isinstance(row, TaskRow):
            known = self.tasks.get(row.key)
            self.tasks[row.key] = row if known is None else known.with_networks(row.networks)
            return True
        for key in tasks_of(row):
            if key not in self.tasks:
                raise InputError(f"its task must be in the table of tasks, got {key[:SHOWN]!r}")
        if isinstance(row, NetworkRow):
            self.networks[row.identity] = row
            return True
        if isinstance(row, ReferenceRow):
            self.reference[row.identity] = row
            return True
        if row.identity in self.records:
            self.duplicates += 1
            if row.measurement != self.records[row.identity].measurement:
                self.repeated.append(row)
            return False
        self.records[row.identity] = row
        return True


def tasks_of(row: RecordRow | ReferenceRow | NetworkRow) -> Iterable[str]:
    """Keys of the tasks that must be there before a row."""
    return row.tasks if isinstance(row, NetworkRow) else [row.task]


def _take_rows(
    contents: Contents,
    problems: list[Problem],
    file: str,
    name: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    first: int = 1,
) -> None:
    row_class, _ = TABLES[name]
    for number, values in enumerate(rows, start=first):
        try:
            if file == JOURNAL:
                _require_fit(values, name)
            row = row_class.from_values(values)
            if contents.add(row) and isinstance(row, TaskRow | RecordRow):
                contents.places.setdefault(_identity(row), (file, number))
        except InputError as error:
            problems.append(Problem(file, number, str(error)))


def _require_fit(values: Mapping[str, Any], name: str) -> None:
    """Refuse a row of the journal that its table could not hold."""
    try:
        pa.Table.from_pylist([values], schema=TABLES[name][1])
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise InputError(f"it must fit into the table of {name}, got: {_first(error)}") from None


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _identity(row: TaskRow | RecordRow) -> Hashable:
    return row.key if isinstance(row, TaskRow) else row.identity


def _read_info(folder: Path) -> dict[str, Any]:
    path = folder / INFO
    try:
        info: dict[str, Any] = parse_json(path.read_bytes())
        name, *found = (info[key] for key in ("name", "format", "format_version"))
        if not isinstance(name, str) or type(found[1]) is not int:
            raise ValueError
    except OSError as error:
        what = f"a folder without {INFO}" if folder.is_dir() else "no such folder"
        raise InputError(
            f"{folder} must be a data set, got {what} ({error.strerror}): "
            "`costmodels collect` and `costmodels dataset import` make one"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path} must be the description of a data set with a name, a format and its version, "
            "got a damaged file: restore it from a copy"
        ) from None
    if found[0] != FORMAT:
        raise InputError(f"{path} must be of format {FORMAT}, got {found[0]!r}")
    if found[1] != FORMAT_VERSION:
        raise InputError(
            f"{path} must be of format version {FORMAT_VERSION}, got {found[1]!r}: "
            f"it was written by costmodels {info.get('costmodels')}, open it with that release"
        )
    return info


def _require_tables(folder: Path) -> None:
    """Refuse a folder that lost a table: they are written together, after the journal."""
    needed = [name for name in TABLES if name not in OPTIONAL]
    missing = [f"{name}.parquet" for name in needed if not (folder / f"{name}.parquet").exists()]
    if 0 < len(missing) < len(needed) and not (folder / JOURNAL).exists():
        raise InputError(
            f"data set {folder} must have all of its tables, got none of {', '.join(missing)}: "
            "restore them from a copy"
        )


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{file} must be a file that can be read, got: {error.strerror}: restore it from a copy"
        ) from None


def _read_table(file: Path, content: bytes, name: str) -> list[dict[str, Any]]:
    _, schema = TABLES[name]
    try:
        # Threads gain nothing here, and were seen to abort the process at its end after an error.
        table = pq.read_table(
            pa.BufferReader(content), page_checksum_verification=True, use_threads=False
        )
    except (pa.ArrowException, OSError) as error:  # Arrow raises OSError for damaged pages
        raise InputError(
            f"{file} must be a Parquet file, got a damaged one ({_first(error)}): "
            "restore it from a copy"
        ) from None
    missing = [column for column in schema.names if column not in table.column_names]
    if missing:
        raise InputError(
            f"{file} must have the columns {', '.join(schema.names)}, got none of "
            f"{', '.join(missing)}: restore it from a copy"
        )
    try:
        table = table.select(schema.names).cast(schema)
    except pa.ArrowException as error:
        raise InputError(
            f"{file} must have columns of the types that costmodels writes, got others "
            f"({_first(error)}): restore it from a copy"
        ) from None
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _read_journal(
    path: Path, content: bytes, problems: list[Problem]
) -> Iterable[tuple[int, str, dict[str, Any]]]:
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            name, values = parse_json(line)
            for key in ("measured_at",):
                if key in values:
                    values[key] = datetime.fromisoformat(values[key])
            if name not in TABLES:
                raise ValueError(f"no table {name!r}")
        except (ValueError, TypeError, AttributeError) as error:
            if number == len(lines):
                _log.warning("%s: its last line is half written and was left out", path)
            else:
                problems.append(Problem(path.name, number, f"it must be a JSON pair ({error})"))
            continue
        yield number, name, values
