"""The best known schedules of kernels: those that ship, and a file that tuning runs add to.

A schedule is kept as the decisions of its sketch, so that it can be fitted to kernels of other
shapes; the file has one JSON object a line.
"""

import contextlib
import fcntl
import gzip
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

from costmodels.checks import require_type
from costmodels.errors import InputError
from costmodels.files import cache_folder, write_atomically
from costmodels.json_text import from_values, parse_json

logger = logging.getLogger(__name__)

KEPT = 3
"""Schedules of one workload on one device."""
SLACK = 1000
"""Lines that a file may have beyond twice those kept, before it is written anew."""


@dataclass(frozen=True)
class KnownSchedule:
    """A program that was measured, in terms that other shapes and devices can use.

    Parameters
    ----------
    sketch : str
        Key of its sketch, which tells the operators and the rules of the design space.
    workload : str
        Hash of the kernel.
    extents : tuple of int
        Iterations of the kernel's blocks, in order.
    decisions : tuple of tuple of int
        Of each variable of the sketch the sizes of the tiles, or one number.
    latency_s : float
        Median, in seconds.
    device : str
        Name of what it ran on.
    cores, vector_bits : int
        Of it.
    tvm : str
        Release whose sketches these are.
    """

    sketch: str
    workload: str
    extents: tuple[int, ...]
    decisions: tuple[tuple[int, ...], ...]
    latency_s: float
    device: str
    cores: int
    vector_bits: int
    tvm: str

    def __post_init__(self) -> None:
        if not 0 < self.latency_s < float("inf"):
            raise InputError(f"latency_s must be above 0, got {self.latency_s!r}")


_Known: TypeAlias = dict[tuple[str, str, str, int], list[KnownSchedule]]
"""Sketch, workload, device and cores -> schedules, the fastest first."""


class ScheduleLibrary:
    """What is known of schedules.

    Parameters
    ----------
    path : Path, optional
        File of the user; by default that in the cache folder.
    shipped : bool
        Know also those that travel with this package.
    grows : bool
        Write what is added to the file. Without, it is known until this process ends: what a
        replay or a simulation measures is not for later runs.
    """

    def __init__(
        self, path: Path | None = None, *, shipped: bool = True, grows: bool = False
    ) -> None:
        require_type("path", path, Path | None)
        self.path = path or cache_folder("schedules") / "known.jsonl"
        self._shipped = shipped
        self._grows = grows
        self.left_out = 0
        """Lines of the files that could not be read or are of another release of TVM."""

    @cached_property
    def _of_package(self) -> _Known:
        """Kept apart: they were measured in a loop, and look faster than what a user measures."""
        known: _Known = {}
        if self._shipped:
            self._keep(known, self._parsed(shipped_lines(), "the schedules that ship"))
        return known

    @cached_property
    def _known(self) -> _Known:
        known: _Known = {}
        with contextlib.suppress(OSError):
            text = self.path.read_bytes().splitlines()
            self._keep(known, self._parsed(text, str(self.path)))
            if len(text) > 2 * sum(map(len, known.values())) + SLACK:
                self._write_anew()
        return known

    def of_sketch(self, sketch: str) -> tuple[Sequence[KnownSchedule], Sequence[KnownSchedule]]:
        """Those of a sketch that the user has measured, and those that travel with the package."""
        own, shipped = (
            [schedule for key, kept in known.items() if key[0] == sketch for schedule in kept]
            for known in (self._known, self._of_package)
        )
        return own, shipped

    def add(self, schedule: KnownSchedule) -> None:
        """Remember a program if it is one of the best of its kernel."""
        if not self._keep(self._known, [schedule]) or not self._grows:
            return
        line = json.dumps(asdict(schedule), separators=(",", ":")) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # One write: another process never reads half of it, unless this one is killed.
                file.write(line if _ends_a_line(self.path) else "\n" + line)
        except OSError as error:
            logger.warning("schedules are not kept: %s: %s", self.path, error.strerror)

    def _keep(self, known: _Known, schedules: Iterable[KnownSchedule]) -> int:
        """Take in those that are new and among the fastest; how many were."""
        taken = 0
        for each in schedules:
            kept = known.setdefault((each.sketch, each.workload, each.device, each.cores), [])
            same = [other for other in kept if other.decisions == each.decisions]
            if any(other.latency_s <= each.latency_s for other in same):
                continue
            others = [other for other in kept if other.decisions != each.decisions]
            best = sorted([*others, each], key=lambda other: other.latency_s)[:KEPT]
            taken += each in best
            kept[:] = best
        return taken

    def _parsed(self, lines: Iterable[bytes], where: str) -> Iterator[KnownSchedule]:
        damaged, foreign, release = 0, 0, version("apache-tvm")
        for line in lines:
            if not line.strip():
                continue
            try:
                found = from_values(KnownSchedule, parse_json(line), "a schedule")
            except ValueError:  # InputError is one
                damaged += 1
                continue
            if found.tvm == release:
                yield found
            else:
                foreign += 1
        self.left_out += damaged + foreign
        if damaged or foreign:
            logger.warning(
                "%d lines of %s were left out: %d damaged, %d of another release of TVM",
                damaged + foreign,
                where,
                damaged,
                foreign,
            )

    def _write_anew(self) -> None:
        """Leave out what is no longer among the best; lines of other releases stay."""
        with self.path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            known: _Known = {}
            foreign = []
            release = version("apache-tvm")
            for line in file.read().splitlines():
                with contextlib.suppress(ValueError):
                    found = from_values(KnownSchedule, parse_json(line), "a schedule")
                    if found.tvm == release:
                        self._keep(known, [found])
                    else:
                        foreign.append(found)
            kept = [*foreign, *(each for several in known.values() for each in several)]
            write_atomically(self.path, lines_of(kept))


def lines_of(schedules: Iterable[KnownSchedule]) -> bytes:
    """What a file of schedules holds."""
    return "".join(
        json.dumps(asdict(each), separators=(",", ":")) + "\n" for each in schedules
    ).encode()


def shipped_lines() -> list[bytes]:
    """The file that travels with this package."""
    with gzip.open(str(shipped_path())) as file:
        return file.read().splitlines()


def shipped_path() -> Path:
    """Where it is."""
    return Path(str(files("costmodels"))) / "shipped" / "schedules.jsonl.gz"


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, 2)
        if not file.tell():
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"
