"""A table of measured latencies by operators and shape, on one device or several: FBNet's.

Wu et al., "FBNet", CVPR 2019: what has been measured is looked up, and a network is the sum of its
layers. There a layer's place in the search space is its key; here its operators and their shapes
are, so that one table serves every network. What is not in the table takes the nearest entry of the
same operators, scaled by what both have to compute and to move, and is told with its distance.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self, TypeAlias

import numpy as np

from costmodels.checkpoint import Checkpoint, packed, unpacked
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph
from costmodels.features.operator_costs import kernel_cost
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.files import write_atomically
from costmodels.json_text import from_values
from costmodels.kernel import (
    CONTRADICTION,
    LONGEST_S,
    KernelBatch,
    KernelDataset,
    KernelPrediction,
    Measured,
    Measurement,
    Unsupported,
)
from costmodels.kernel_models.paleo import time_of
from costmodels.learning.calibration import COVERAGE, MIN_SPREAD, NORMAL_REACH, Interval
from costmodels.model_state import Stored
from costmodels.protocol import Claims, FitProgress

KEPT = 64
"""Measurements of an entry that are kept, the newest: a median needs no more."""
MIN_MEASURED_SPREAD = 0.05
"""Spread of the measurements of an entry that has one alone, in log seconds."""
WIDEST = 5.0
"""Spread of log seconds in a table: more is no measurement."""
SPREAD_BY_DISTANCE = 0.1
"""Log seconds by which an answer is less certain for each doubling of an extent; assumed."""
COLUMNS = ("device", "operators", "extents", "bound_s", "measured", "median_s", "spread")

Key: TypeAlias = tuple[str, str, tuple[int, ...]]
"""Device, operators, extents."""


@dataclass(frozen=True, slots=True)
class TableEntry:
    """What was measured of one kernel.

    Parameters
    ----------
    device : str
        What it ran on: name, cores and width of the vectors.
    operators : str
        Opcodes and element types of its operators, in order.
    extents : tuple of int
        Of their loops, and their windows and strides, one operator after the other.
    bound_s : float
        Seconds at the device's peaks, as PALEO adds them up: what entries are scaled by.
    seconds : tuple of float
        Measured; at least one.
    """

    device: str
    operators: str
    extents: tuple[int, ...]
    bound_s: float
    seconds: tuple[float, ...]

    @property
    def key(self) -> Key:
        """What it is looked up by."""
        return self.device, self.operators, self.extents

    @property
    def median_s(self) -> float:
        """Median of what was measured."""
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithms of what was measured."""
        if len(self.seconds) == 1:
            return MIN_MEASURED_SPREAD
        return max(MIN_MEASURED_SPREAD, float(np.std(np.log(self.seconds))))


@dataclass(frozen=True, slots=True)
class Found:
    """What a table says of a kernel.

    Parameters
    ----------
    entry : TableEntry
        The nearest.
    distance : float
        0 for the kernel itself; otherwise the length of the difference of the logarithms (base 2)
        of the extents.
    latency_s : float
        That of the entry, scaled by the bounds of both unless it is the kernel itself.
    """

    entry: TableEntry
    distance: float
    latency_s: float


def describe(graph: KernelGraph) -> tuple[str, tuple[int, ...]]:
    """A kernel's operators and extents, which together are its identity in a table.

    Parameters
    ----------
    graph : KernelGraph
        The kernel.

    Returns
    -------
    tuple
        Of a text and of numbers.
    """
    names, extents = [], []
    for each in graph.operators:
        if each.opcode == "parameter":
            continue
        names.append(f"{each.opcode}.{each.dtype}")
        extents += [*each.spatial, *each.reduction, *each.window, *each.stride]
    return " ".join(names), tuple(extents)


def device_key(device: Device) -> str:
    """What tells devices of a table apart."""
    return f"{device.name}, {device.cores} cores, {device.vector_bits} bits"


class LookupTable(Stored):
    """A table that answers with what was measured; it cannot tell the schedules of a kernel apart.

    Parameters
    ----------
    entries : sequence of TableEntry
        To begin with.
    rng : numpy.random.Generator, optional
        Ignored: nothing is random.
    """

    name: ClassVar[str] = "lookup_table"
    paper: ClassVar[str] = "Wu et al., FBNet, CVPR 2019"
    claims: ClassVar[Claims] = Claims(ranks=False, seconds=True, interval=True)
    schema: ClassVar[FeatureSchema] = PER_STORE
    graphs: ClassVar[bool] = True

    def __init__(
        self, entries: Sequence[TableEntry] = (), *, rng: np.random.Generator | None = None
    ) -> None:
        del rng
        self._interval = Interval()
        self._set({entry.key: entry for entry in entries})

    def _set(self, entries: Mapping[Key, TableEntry]) -> None:
        self._entries = dict(entries)
        self._alike: dict[tuple[str, str, int], list[TableEntry]] = {}
        for entry in self._entries.values():
            alike = entry.device, entry.operators, len(entry.extents)
            self._alike.setdefault(alike, []).append(entry)

    @property
    def entries(self) -> tuple[TableEntry, ...]:
        """All of them."""
        return tuple(self._entries.values())

    @property
    def is_fitted(self) -> bool:
        """Whether it has an entry."""
        return bool(self._entries)

    def fit(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        validation: KernelDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Forget, then make an entry of every kernel that ran, of all its schedules together.

        Parameters
        ----------
        dataset : KernelDataset
            With graphs.
        rng : numpy.random.Generator
            Ignored: nothing is random.
        validation, progress
            Ignored: the interval follows from looking up each entry without itself.

        Raises
        ------
        InputError
            When no kernel ran, or the kernels have no graphs.
        """
        del rng, validation, progress
        self.schema.require(dataset.batch.schema, owner=self.name)
        self._set({})
        self._interval = Interval()
        self._add(dataset)
        if not self._entries:
            raise InputError(f"{self.name} must be given kernels that ran, got none")
        self._calibrate()
        return self

    def update(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Add what was measured; failures are left out."""
        self.schema.require(batch.schema, owner=self.name)
        self._add(KernelDataset(batch, tuple(measurements)))

    def _add(self, dataset: KernelDataset) -> None:
        entries = dict(self._entries)
        for key, bound_s, measurement in zip(
            *self._keys(dataset.batch), dataset.measurements, strict=True
        ):
            if isinstance(measurement, Measured):
                known = entries[key].seconds if key in entries else ()
                seconds = (*known, measurement.latency_s)[-KEPT:]
                entries[key] = TableEntry(*key, bound_s, seconds)
        self._set(entries)

    def _keys(self, batch: KernelBatch) -> tuple[list[Key], list[float]]:
        """What kernels are looked up by, and their bounds in seconds."""
        index = batch.require_graphs(self.name)
        known: dict[tuple[int, int], tuple[Key, float]] = {}
        found = []
        for graph, task in zip(index, batch.task_index, strict=True):
            own, device = batch.graphs[graph].graph, batch.tasks[task].device
            place = id(own), int(task)
            if place not in known:
                key = (device_key(device), *describe(own))
                known[place] = key, time_of(kernel_cost(own), device).total_s
            found.append(known[place])
        return [key for key, _ in found], [bound_s for _, bound_s in found]

    def _calibrate(self) -> None:
        """Look up every entry without itself."""
        errors, spreads = [], []
        for entry in self.entries:
            found = self._nearest(entry.key, entry.bound_s, without=entry)
            if found is not None:
                errors.append(math.log(entry.median_s / found.latency_s))
                spreads.append(_spread(found))
        self._interval = Interval.learn(np.array(errors), np.array(spreads), np.arange(len(errors)))

    def look_up(self, batch: KernelBatch) -> list[Found | None]:
        """The entry of each kernel, or the nearest.

        Parameters
        ----------
        batch : KernelBatch
            With graphs.

        Returns
        -------
        list
            None for a kernel whose operators were never measured together on its device.
        """
        known: dict[Key, Found | None] = {}
        keys, bounds = self._keys(batch)
        for key, bound_s in zip(keys, bounds, strict=True):
            if key not in known:
                known[key] = self._nearest(key, bound_s)
        return [known[key] for key in keys]

    def _nearest(
        self, key: Key, bound_s: float, *, without: TableEntry | None = None
    ) -> Found | None:
        if key in self._entries and without is None:
            return Found(self._entries[key], 0.0, self._entries[key].median_s)
        device, operators, extents = key
        alike = self._alike.get((device, operators, len(extents)), [])
        alike = [entry for entry in alike if entry is not without]
        if not alike or bound_s <= 0:
            return None
        wanted = np.log2(np.maximum(extents, 1))
        others = np.log2(np.maximum([entry.extents for entry in alike], 1))
        distances = np.sqrt(((others - wanted) ** 2).sum(axis=1))
        nearest = int(np.argmin(distances))
        entry = alike[nearest]
        scale = bound_s / entry.bound_s if entry.bound_s > 0 else 1.0
        return Found(entry, float(distances[nearest]), entry.median_s * scale)

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Look kernels up; one without an entry of its operators is unsupported.

        Raises
        ------
        InputError
            When the batch has no graphs.
        """
        self.schema.require(batch.schema, owner=self.name)
        log_latency, spread = np.full(len(batch), np.nan), np.ones(len(batch))
        measured = np.zeros(len(batch), bool)
        unsupported = []
        keys: list[Key] | None = None
        for kernel, found in enumerate(self.look_up(batch)):
            if found is None:
                keys = keys or self._keys(batch)[0]
                reason = f"the table has no entry of {keys[kernel][1]} on {keys[kernel][0]}"
                unsupported.append(Unsupported(kernel, reason))
                continue
            log_latency[kernel] = math.log(found.latency_s)
            spread[kernel] = _spread(found)
            measured[kernel] = found.distance == 0
        low_s, high_s = self._interval.around(log_latency, spread)
        # Of a kernel that was measured itself it is known how its measurements scatter.
        near_s, far_s = Interval(NORMAL_REACH).around(log_latency, spread)
        return KernelPrediction(
            np.nan_to_num(-log_latency),
            np.exp(log_latency),
            np.where(measured, near_s, low_s),
            np.where(measured, far_s, high_s),
            COVERAGE,
            tuple(unsupported),
        )

    def state(self) -> Checkpoint:
        """Return what a checkpoint holds."""
        text = json.dumps([asdict(entry) for entry in self.entries])
        settings = {"interval": asdict(self._interval)}
        arrays = {"entries": packed(text.encode())}
        return Checkpoint.of(self.name, self.schema, arrays=arrays, settings=settings)

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        values = json.loads(unpacked(state.arrays["entries"]))
        model = cls(from_values(tuple[TableEntry, ...], values, "entries"))
        model._interval = Interval.from_dict(state.settings["interval"])
        return model

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write the table as CSV: median and spread of every entry.

        Parameters
        ----------
        path : path
            Replaced if it exists.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for each in self.entries:
            extents = " ".join(map(str, each.extents))
            figures = (f"{each.bound_s:.6g}", len(each.seconds), f"{each.median_s:.6g}")
            writer.writerow((each.device, each.operators, extents, *figures, f"{each.spread:.4g}"))
        write_atomically(Path(path), text.getvalue().encode())

    @classmethod
    def from_export(cls, path: str | os.PathLike[str]) -> Self:
        """Read a table that `export` wrote, or somebody else in the same form.

        Raises
        ------
        InputError
            When the file cannot be read, lacks a column, or a value makes no sense.
        """
        try:
            reader = csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8")))
            rows = list(reader)
        except OSError as error:
            raise InputError(f"table {path} must be a CSV file, got: {error.strerror}") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"table {path} must be a CSV file, got: {error}") from None
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(
                f"table {path} must have the columns {', '.join(COLUMNS)}, got none called "
                f"{', '.join(missing)}: `costmodels table` writes such a file"
            )
        entries = [
            entry for number, row in enumerate(rows, 2) for entry in _entry(row, path, number)
        ]
        _check_agreement(entries, path)
        model = cls(entries)
        if not model.is_fitted:
            raise InputError(f"table {path} must have entries, got none")
        model._calibrate()
        return model


def _spread(found: Found) -> float:
    """Of log seconds: of the measurements, or growing with the distance from what was measured."""
    if found.distance == 0:
        return found.entry.spread
    return MIN_SPREAD + found.entry.spread + SPREAD_BY_DISTANCE * found.distance


def _check_agreement(entries: Sequence[TableEntry], path: str | os.PathLike[str]) -> None:
    """Refuse rows of one kernel of which neither can be believed."""
    first: dict[Key, tuple[int, TableEntry]] = {}
    for number, entry in enumerate(entries, 2):
        line, other = first.setdefault(entry.key, (number, entry))
        apart = entry.median_s / other.median_s
        if not 1 / CONTRADICTION <= apart <= CONTRADICTION:
            raise InputError(
                f"lines {line} and {number} of table {path} must agree on the latency of one "
                f"kernel, got {other.median_s:.3g} s and {entry.median_s:.3g} s: remove one"
            )


def _entry(
    row: Mapping[str, str], path: str | os.PathLike[str], number: int
) -> Iterator[TableEntry]:
    """A row of an export; three measurements stand for its median and its spread."""
    try:
        median_s, spread = float(row["median_s"]), float(row["spread"])
        bound_s = float(row["bound_s"])
        extents = tuple(map(int, row["extents"].split()))
        if not (0 < median_s < LONGEST_S and 0 <= spread <= WIDEST and 0 <= bound_s < LONGEST_S):
            raise ValueError(
                f"median_s must be above 0, bound_s at least 0, both below {LONGEST_S:g} s, and "
                f"spread from 0 to {WIDEST:g}"
            )
        # Their median and the standard deviation of their logarithms are those of the row.
        away = math.exp(spread * math.sqrt(1.5))
        seconds = (median_s / away, median_s, median_s * away)
        yield TableEntry(row["device"], row["operators"], extents, bound_s, seconds)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"line {number} of table {path} must have numbers as `costmodels table` writes them, "
            f"got: {error}"
        ) from None
