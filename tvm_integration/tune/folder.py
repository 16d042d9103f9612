"""The work directory of a tuning run: held by one run, its log, and what its records are of."""

import fcntl
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from costmodels.errors import InputError
from costmodels.files import write_atomically

_log = logging.getLogger(__name__)

MARK = "measured_on.json"
"""Says on how many threads the records of a work directory were measured, and of which kernels."""
TVM_LOG = "tvm.s_tir.meta_schedule"
"""Name of TVM's logger, whose children are those of its tasks."""


def mark_run(
    work_dir: Path, database: Any, threads: int, *, vector_math: bool, in_network: bool
) -> None:
    """Say how a run measures, and warn of records that were measured in another way.

    Parameters
    ----------
    work_dir : Path
        Of the run.
    database : Database
        Its records.
    threads : int
        That kernels run on.
    vector_math : bool
        Whether kernels were rewritten by `with_vector_math`.
    in_network : bool
        Whether kernels find their data where their network leaves them.
    """
    path = work_dir / MARK
    known = _mark(work_dir)
    wanted = {"threads": threads, "vector_math": vector_math, "in_network": in_network}
    if len(database) and in_network and not known.get("in_network"):
        wanted["in_network"] = False
        _log.warning(
            "%s holds records of an earlier release, whose kernels were called over and over and "
            "found all data in the nearest cache: they are compared with those that do not; use "
            "another work directory",
            work_dir,
        )
    if "threads" in known:
        wanted["threads"] = known["threads"]
    elif len(database) and threads > 1:
        del wanted["threads"]
        _log.warning(
            "%s holds records of an earlier release, whose kernels ran on one thread whatever the "
            "target: they are compared with those of %d threads; use another work directory",
            work_dir,
            threads,
        )
    if wanted != known:
        write_atomically(path, json.dumps(wanted).encode())


def has_vector_kernels(work_dir: Path) -> bool:
    """Whether the newest run tuned kernels that `with_vector_math` rewrote."""
    return bool(_mark(work_dir).get("vector_math", False))


def was_measured_in_network(work_dir: Path) -> bool:
    """Whether all kernels found their data where their network leaves them."""
    return bool(_mark(work_dir).get("in_network", False))


def _mark(work_dir: Path) -> dict[str, Any]:
    try:
        found = json.loads((work_dir / MARK).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def log_into(work_dir: Path) -> Iterator[None]:
    """Send TVM's log, which otherwise goes to stdout, to a file of the work directory."""
    log = logging.getLogger(TVM_LOG)
    path = work_dir / "tuning.log"
    try:
        handler = logging.FileHandler(path)
    except OSError as error:
        raise InputError(
            f"{path} must be a file that can be written, got: {error.strerror}: "
            "remove it, or use another work directory"
        ) from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    previous = log.handlers[:], log.level, log.propagate
    log.handlers[:], log.propagate = [handler], False
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.handlers[:], log.propagate = previous[0], previous[2]
        log.setLevel(previous[1])
        handler.close()


@contextmanager
def locked(work_dir: Path) -> Iterator[None]:
    """Keep a second run out of the same folder."""
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        lock = (work_dir / ".lock").open("w")
    except OSError as error:
        raise InputError(
            f"work directory {work_dir} must be a folder that can be written: {error.strerror}"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"work directory {work_dir} must not be in use, got one that another run holds: "
                "wait for it, or use another work directory"
            ) from None
        yield
