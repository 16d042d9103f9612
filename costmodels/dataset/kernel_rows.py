"""What one row of each table of a data set says, and the Arrow schemas of the tables."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import pyarrow as pa

from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.json_text import parse_json
from costmodels.kernel import LONGEST_S, Failure, Measured, Measurement

ORIGINS = ("default", "random", "mutation", "model", "disagreement", "import", "search")
"""How a candidate came about: the program as TVM builds it unscheduled; a random point of the
design space; a mutation of the best so far; a model's choice; where models disagree; taken from a
work directory that says nothing of it; a choice of a tuning run."""

FAILURE_KINDS = ("build", "run", "timeout", "crash", "unknown")


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A workload on a target.

    Parameters
    ----------
    key : str
        Identity by content: 16 hexadecimal digits of the workload's structural hash, ``-``, and 8
        of the target's digest.
    name : str
        TVM's name for it; for people.
    workload : str
        The program before scheduling, as TVM's JSON.
    target : str
        As TVM's JSON.
    device : Device
        What it was measured on.
    networks : mapping
        Network -> how often it calls the kernel. Empty for a kernel of no network.
    operators : tuple of str
        Kinds of its operators, in order.
    flop : float
        Arithmetic operations of one call.
    shapes : tuple of tuple of int
        Of the arguments.
    dtypes : tuple of str
        Of the arguments.
    """

    key: str
    name: str
    workload: str
    target: str
    device: Device
    networks: Mapping[str, int]
    operators: tuple[str, ...]
    flop: float
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.key or not self.workload or not self.target:
            raise InputError("a task must have a key, a workload and a target")
        if not math.isfinite(self.flop) or self.flop < 0:
            raise InputError(f"flop must be at least 0, got {self.flop}")
        for network, calls in self.networks.items():
            if not network or not isinstance(network, str) or type(calls) is not int or calls < 1:
                raise InputError(
                    f"a network must have a name and call a task at least once, "
                    f"got {network!r}: {calls!r}"
                )
        if len(self.shapes) != len(self.dtypes):
            raise InputError(
                f"shapes and dtypes must be of the same arguments, got {len(self.shapes)} "
                f"and {len(self.dtypes)}"
            )

    @property
    def workload_key(self) -> str:
        """Identity of the workload, whatever the target."""
        return self.key.partition("-")[0]

    def with_networks(self, networks: Mapping[str, int]) -> Self:
        """The task, occurring in these networks as well."""
        joined = {**self.networks, **networks}
        return self if joined == self.networks else replace(self, networks=joined)

    def as_values(self) -> dict[str, Any]:
        """Column -> value of a row of `TASKS`."""
        return {
            "task": self.key,
            "name": self.name,
            "workload": self.workload,
            "target": self.target,
            "device": json.dumps(self.device.as_dict()),
            "networks": [{"network": n, "weight": w} for n, w in self.networks.items()],
            "operators": list(self.operators),
            "flop": self.flop,
            "shapes": [list(shape) for shape in self.shapes],
            "dtypes": list(self.dtypes),
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read a row of `TASKS`.

        Raises
        ------
        InputError
            When a value cannot be.
        """
        try:
            return cls(
                key=_typed(values, "task", str),
                name=_typed(values, "name", str),
                workload=_typed(values, "workload", str),
                target=_typed(values, "target", str),
                device=Device(**parse_json(values["device"])),
                networks={each["network"]: each["weight"] for each in values["networks"]},
                operators=tuple(values["operators"]),
                flop=float(values["flop"]),
                shapes=tuple(tuple(shape) for shape in values["shapes"]),
                dtypes=tuple(values["dtypes"]),
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise InputError(f"a task must have every column in its type, got {error!r}") from None


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A scheduled program and what was measured of it.

    Parameters
    ----------
    task : str
        Key of its task.
    trace : str
        The schedule's trace, as TVM's JSON in one line.
    program : int
        Structural hash of the scheduled program, 64 bits: equal for equal programs, whichever
        traces led to them.
    measurement : Measured or Failure
        Seconds of each repeat, or why there are none.
    failed_in : str or None
        ``"build"`` or ``"run"`` for a failure.
    origin : str
        One of `ORIGINS`.
    early_stopped : bool
        Whether it was so slow that one warm call was timed instead of a full measurement.
    evaluator : str
        How it was measured: ``number x repeat, min_repeat_ms``.
    measured_at : datetime
        When, in UTC.
    processor : str
        Fingerprint of the machine: model, cores, kernel release.
    """

    task: str
    trace: str
    program: int
    measurement: Measurement
    failed_in: str | None
    origin: str
    early_stopped: bool
    evaluator: str
    measured_at: datetime
    processor: str

    def __post_init__(self) -> None:
        if self.origin not in ORIGINS:
            raise InputError(f"origin must be one of {', '.join(ORIGINS)}, got {self.origin!r}")
        if not 0 <= self.program < 2**64:
            raise InputError(f"program must be a hash of 64 bits, got {self.program}")
        if isinstance(self.measurement, Failure) != (self.failed_in in ("build", "run")):
            raise InputError(
                f"failed_in must be 'build' or 'run' for a failure, got {self.failed_in!r}"
            )

    @property
    def identity(self) -> tuple[str, int]:
        """What makes two records the same: task and program."""
        return self.task, self.program

    def as_values(self) -> dict[str, Any]:
        """Column -> value of a row of `RECORDS`."""
        failure = self.measurement if isinstance(self.measurement, Failure) else None
        measured = self.measurement if isinstance(self.measurement, Measured) else None
        return {
            "task": self.task,
            "trace": self.trace,
            "program": self.program,
            "run_s": None if measured is None else list(measured.run_s),
            "failure": None if failure is None else failure.kind,
            "reason": None if failure is None else failure.reason,
            "failed_in": self.failed_in,
            "origin": self.origin,
            "early_stopped": self.early_stopped,
            "evaluator": self.evaluator,
            "measured_at": self.measured_at,
            "processor": self.processor,
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read a row of `RECORDS`.

        Raises
        ------
        InputError
            When a value cannot be: a time of zero, an unknown origin, ...
        """
        measurement: Measurement
        try:
            if values["failure"] is not None:
                if values["failure"] not in FAILURE_KINDS:
                    raise InputError(
                        f"failure must be one of {', '.join(FAILURE_KINDS)}, "
                        f"got {values['failure']!r}"
                    )
                measurement = Failure(values["failure"], values["reason"] or "")
            else:
                measurement = _measured(values["run_s"])
            return cls(
                task=_typed(values, "task", str),
                trace=_typed(values, "trace", str),
                program=_typed(values, "program", int),
                measurement=measurement,
                failed_in=values["failed_in"],
                origin=values["origin"],
                early_stopped=_typed(values, "early_stopped", bool),
                evaluator=_typed(values, "evaluator", str),
                measured_at=_typed(values, "measured_at", datetime),
                processor=_typed(values, "processor", str),
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"a record must have every column in its type, got {error!r}"
            ) from None


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """One more measurement of the reference kernel, which shows the noise of the machine.

    Parameters
    ----------
    task : str
        Key of the task that the kernel belongs to.
    program : int
        Structural hash of the program.
    run_s : tuple of float
        Seconds of each repeat.
    measured_at : datetime
        When, in UTC.
    processor : str
        Fingerprint of the machine.
    """

    task: str
    program: int
    run_s: tuple[float, ...]
    measured_at: datetime
    processor: str

    def __post_init__(self) -> None:
        _measured(self.run_s)

    @property
    def identity(self) -> tuple[str, datetime, str]:
        """What makes two readings the same: kernel, time and machine."""
        return self.task, self.measured_at, self.processor

    def as_values(self) -> dict[str, Any]:
        """Column -> value of a row of `REFERENCE`."""
        return {
            "task": self.task,
            "program": self.program,
            "run_s": list(self.run_s),
            "measured_at": self.measured_at,
            "processor": self.processor,
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read a row of `REFERENCE`; raises InputError for times that cannot be."""
        try:
            return cls(
                task=_typed(values, "task", str),
                program=_typed(values, "program", int),
                run_s=tuple(values["run_s"] or ()),
                measured_at=_typed(values, "measured_at", datetime),
                processor=_typed(values, "processor", str),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"a reading must have every column, got {error!r}") from None


_Value = TypeVar("_Value")


def _typed(values: Mapping[str, Any], column: str, kind: type[_Value]) -> _Value:
    value = values[column]
    if not isinstance(value, kind):
        raise InputError(f"{column} must be {_KINDS[kind]}, got {value!r}")
    return value


_KINDS: Mapping[type, str] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    datetime: "a time",
}


def _measured(run_s: Sequence[float] | None) -> Measured:
    try:
        measured = Measured(tuple(run_s or ()))
    except TypeError:
        raise InputError(f"run_s must be numbers of seconds, got {run_s!r}") from None
    if max(measured.run_s) >= LONGEST_S:
        raise InputError(
            f"run_s must be below {LONGEST_S:g}, got {max(measured.run_s):g}: nothing takes that "
            "long, and TVM writes 1e10 for a failure"
        )
    return measured


def now() -> datetime:
    """The time, to the millisecond that tables keep."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


_TIME = pa.timestamp("ms", tz="UTC")

TASKS = pa.schema(
    [
        ("task", pa.string()),
        ("name", pa.string()),
        ("workload", pa.string()),
        ("target", pa.string()),
        ("device", pa.string()),
        ("networks", pa.list_(pa.struct([("network", pa.string()), ("weight", pa.int32())]))),
        ("operators", pa.list_(pa.string())),
        ("flop", pa.float64()),
        ("shapes", pa.list_(pa.list_(pa.int64()))),
        ("dtypes", pa.list_(pa.string())),
    ]
)
RECORDS = pa.schema(
    [
        ("task", pa.string()),
        ("trace", pa.string()),
        ("program", pa.uint64()),
        ("run_s", pa.list_(pa.float64())),
        ("failure", pa.string()),
        ("reason", pa.string()),
        ("failed_in", pa.string()),
        ("origin", pa.string()),
        ("early_stopped", pa.bool_()),
        ("evaluator", pa.string()),
        ("measured_at", _TIME),
        ("processor", pa.string()),
    ]
)
REFERENCE = pa.schema(
    [
        ("task", pa.string()),
        ("program", pa.uint64()),
        ("run_s", pa.list_(pa.float64())),
        ("measured_at", _TIME),
        ("processor", pa.string()),
    ]
)
