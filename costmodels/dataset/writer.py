"""Adding to a data set so that a kill loses nothing that was added.

Rows go to the journal first, one line of JSON each, and are on the disk when `add` returns; now and
then the journal is merged into the tables, each of which is written beside its place and renamed.
A kill at any moment leaves a data set that opens and has every row whose `add` returned: a row that
is in a table and still in the journal is found by its identity.
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from costmodels.dataset.folder import (
    FORMAT,
    FORMAT_VERSION,
    JOURNAL,
    OPTIONAL,
    TABLES,
    Contents,
    Row,
    read_dataset,
    tasks_of,
)
from costmodels.dataset.kernel_rows import RecordRow, ReferenceRow, TaskRow, now
from costmodels.dataset.locate import INFO, is_dataset
from costmodels.dataset.network_rows import NetworkIdentity, NetworkRow
from costmodels.errors import InputError
from costmodels.files import write_atomically
from costmodels.installed import release
from costmodels.json_text import json_text

_log = logging.getLogger(__name__)

LOCK = ".lock"
MERGE_AFTER_ROWS = 2000
"""Rows of the journal after which it is merged into the tables."""


class DatasetWriter:
    """Adds to a data set; a context manager that holds its lock.

    Parameters
    ----------
    path : path
        A data set, or a folder that does not exist or is empty.
    info : mapping
        For a new one: ``name``, ``licence``, ``provenance``. What is there stays.

    Raises
    ------
    InputError
        When the folder is something else, cannot be written, or another process writes to it.
    """

    def __init__(self, path: str | os.PathLike[str], info: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._lock = _locked(self.path)
        try:
            if not is_dataset(self.path):
                _create(self.path, info or {})
            stored = read_dataset(self.path)
            if stored.problems:
                self._keep_originals(len(stored.problems))
        except BaseException:
            self._lock.close()
            raise
        self._contents = Contents(
            dict(stored.tasks),
            {record.identity: record for record in stored.records},
            {row.identity: row for row in stored.reference},
            {row.identity: row for row in stored.networks},
        )
        self._journal_rows = 0
        if stored.problems or (self.path / JOURNAL).exists():
            self.merge()

    def _keep_originals(self, problems: int) -> None:
        """Copy files with damaged rows: what is written here would no longer hold those rows."""
        folder = self.path / f"damaged-{now():%Y%m%dT%H%M%S%f}"
        try:
            folder.mkdir()
            for file in self.path.iterdir():
                if file.suffix in (".parquet", ".jsonl"):
                    shutil.copy2(file, folder)
        except OSError as error:
            raise _no_room(self.path, error) from None
        text = "%s: %d rows cannot be used; the files were copied to %s"
        _log.warning(text, self.path, problems, folder)

    @property
    def tasks(self) -> Mapping[str, TaskRow]:
        """Key -> task."""
        return self._contents.tasks

    @property
    def records(self) -> Mapping[tuple[str, int], RecordRow]:
        """(task, program) -> record."""
        return self._contents.records

    @property
    def reference(self) -> Sequence[ReferenceRow]:
        """Readings of the reference kernel."""
        return tuple(self._contents.reference.values())

    @property
    def networks(self) -> Mapping[NetworkIdentity, NetworkRow]:
        """What was measured of whole networks."""
        return self._contents.networks

    def add(self, rows: Iterable[Row]) -> int:
        """Add rows; they are on the disk when this returns.

        Parameters
        ----------
        rows : iterable
            The task of a record must have been added, and so those of a network. A task that is
            there gains networks; a network that is there is replaced.

        Returns
        -------
        int
            How many were new.

        Raises
        ------
        InputError
            When a task is missing, is there on another device, or the disk is full; then none of
            `rows` is added.
        """
        lines, new, coming = [], [], set[str]()
        for row in rows:
            if isinstance(row, TaskRow):
                self._require_one_device(row)
                coming.add(row.key)
            else:
                self._require_tasks(row, coming)
            if self._is_new(row):
                new.append(row)
                lines.append(json.dumps([_table_of(row), row.as_values()], default=_json_value))
        if not lines:
            return 0
        self._append("".join(f"{line}\n" for line in lines).encode())
        added = sum([self._contents.add(row) for row in new])
        self._journal_rows += len(new)
        if self._journal_rows >= MERGE_AFTER_ROWS:
            self.merge()
        return added

    def _require_tasks(self, row: RecordRow | ReferenceRow | NetworkRow, coming: set[str]) -> None:
        for key in tasks_of(row):
            if key not in self.tasks and key not in coming:
                what = "network" if isinstance(row, NetworkRow) else "record"
                raise InputError(f"the task of a {what} must be added before it, got {key!r}")

    def _require_one_device(self, row: TaskRow) -> None:
        """Refuse a task that was measured elsewhere: its latencies would not be comparable.

        The name tells processors apart; clock and bandwidth differ from one detection to the next.
        """
        known = self.tasks.get(row.key)
        if known is not None and known.device.name != row.device.name:
            raise InputError(
                f"task {row.key} of {self.path} must be measured on {known.device.name!r}, as "
                f"before, got {row.device.name!r}: give another folder or another target"
            )

    def _is_new(self, row: Row) -> bool:
        if isinstance(row, TaskRow):
            known = self.tasks.get(row.key)
            return known is None or not row.networks.items() <= known.networks.items()
        if isinstance(row, RecordRow) and row.identity in self.records:
            self._contents.duplicates += 1
            return False
        return True

    def _append(self, content: bytes) -> None:
        path = self.path / JOURNAL
        before = path.stat().st_size if path.exists() else 0
        try:
            with path.open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with open(path, "ab") as file:
                file.truncate(before)
            raise _no_room(self.path, error) from None

    def merge(self) -> None:
        """Write the tables anew and drop the journal.

        Raises
        ------
        InputError
            When the disk is full: the old tables and the journal stay.
        """
        contents = self._contents
        try:
            for name, rows in (
                ("tasks", contents.tasks),
                ("records", contents.records),
                ("reference", contents.reference),
                ("networks", contents.networks),
            ):
                if name in OPTIONAL and not rows:
                    continue
                _write_table(self.path / f"{name}.parquet", name, list(rows.values()))
            (self.path / JOURNAL).unlink(missing_ok=True)
        except OSError as error:
            raise _no_room(self.path, error) from None
        self._journal_rows = 0

    def close(self) -> None:
        """Merge the journal and give the lock back."""
        try:
            if (self.path / JOURNAL).exists():
                self.merge()
        finally:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _locked(folder: Path) -> Any:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not is_dataset(folder) and any(entry.name != LOCK for entry in folder.iterdir()):
            raise InputError(
                f"{folder} must be a data set or an empty folder, got a folder of other files: "
                "give another path"
            )
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise InputError(
            f"data set {folder} must be a folder that can be written: {error.strerror}"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise InputError(
            f"data set {folder} must not be in use, got one that another process writes to: "
            "wait for it, or give another path"
        ) from None
    return lock


def _create(folder: Path, info: Mapping[str, Any]) -> None:
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "costmodels": release(),
        "name": folder.resolve().name,
        "licence": "unknown",
        "provenance": {},
        **info,
    }
    try:
        write_atomically(folder / INFO, json_text(content).encode())
    except OSError as error:
        raise _no_room(folder, error) from None


def _no_room(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"data set {folder} must have room to grow, got: {error.strerror}; "
        "free some space and give the same command again, nothing is lost"
    )


def _table_of(row: Row) -> str:
    return next(name for name, (row_class, _) in TABLES.items() if isinstance(row, row_class))


def _json_value(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a journal")


def _write_table(path: Path, name: str, rows: Sequence[Row]) -> None:
    table = pa.Table.from_pylist([row.as_values() for row in rows], schema=TABLES[name][1])
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=12,
        use_dictionary=_REPEATED,
        dictionary_pagesize_limit=_MAX_DICTIONARY,
        write_page_checksum=True,
    )
    write_atomically(path, sink.getvalue().to_pybytes())


_REPEATED = ["task", "target", "device", "failure", "reason", "failed_in", "origin"]
_REPEATED += ["evaluator", "processor", "workload"]
"""Columns with few values, or long ones, which are stored once and referred to."""
_MAX_DICTIONARY = 1 << 29
"""Bytes, below Parquet's 2 GiB: in one page programs of TVM compress by half again."""
