"""What became of a candidate: the one translation between TVM's results and measurements."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from costmodels.errors import InputError
from costmodels.kernel import LONGEST_S, Failure, Measured, Measurement
from tvm_integration.compat import BuilderResult, RunnerResult

__all__ = [
    "Outcome",
    "failure_from_message",
    "failure_message",
    "measurement_of",
    "outcome_of",
    "runner_result",
]

_KINDS = ("build", "crash", "run", "timeout", "unknown")
_SOURCES = ("Warm", "Replay")
"""With which the names of our builders and runners begin."""
Outcome: TypeAlias = tuple[Measurement, Literal["build", "run"] | None]
"""What was measured, and in which step it failed if it did."""


def measurement_of(run_secs: Sequence[object] | None) -> Measurement | None:
    """What a record or a runner result says of a kernel.

    Parameters
    ----------
    run_secs : sequence of float or None
        As TVM has them: None or empty when the run failed, 1e10 when it was read from a database.

    Returns
    -------
    Measured, Failure or None
        None when a time is zero, negative, longer than anything takes or no number: then nothing
        is known.
    """
    if not run_secs:
        return Failure("unknown", "TVM kept no time")
    seconds = tuple(float(value) for value in run_secs)  # type: ignore[arg-type]
    if min(seconds) >= LONGEST_S and max(seconds) < float("inf"):
        return Failure("unknown", "TVM's database keeps no reason")
    if max(seconds) >= LONGEST_S:
        return None
    try:
        return Measured(seconds)
    except InputError:
        return None


def outcome_of(ran: RunnerResult | None, built: BuilderResult | None = None) -> Outcome:
    """What became of a candidate.

    Parameters
    ----------
    ran : RunnerResult, optional
        The runner's; None of one that was not built.
    built : BuilderResult, optional
        The builder's, where that is known.

    Returns
    -------
    tuple
        The measurement, and for a failure ``"build"`` or ``"run"``. A time that cannot be is a
        failure here.
    """
    if built is not None and built.error_msg is not None:
        return failure_from_message(str(built.error_msg)), "build"
    if ran is None:
        return Failure("unknown", "it was not run"), "run"
    if ran.error_msg is not None:
        return failure_from_message(str(ran.error_msg)), "run"
    measurement = measurement_of(ran.run_secs)
    if measurement is None:
        times = ", ".join(f"{float(each):g}" for each in ran.run_secs)
        measurement = Failure("run", f"times must be positive finite seconds, got {times}")
    return measurement, "run" if isinstance(measurement, Failure) else None


def runner_result(source: str, measurement: Measurement) -> RunnerResult:
    """A measurement as TVM has it.

    Parameters
    ----------
    source : str
        The class that reports it.
    measurement : Measurement
        What it found.
    """
    if isinstance(measurement, Measured):
        return RunnerResult(list(measurement.run_s), None)
    return RunnerResult(None, failure_message(source, measurement))


def failure_message(source: str, failure: Failure) -> str:
    """Write a failure as an ``error_msg`` of TVM.

    Parameters
    ----------
    source : str
        The class that reports it.
    failure : Failure
        What happened.

    Returns
    -------
    str
        ``source: kind: reason``.
    """
    message = f"{source}: {failure.kind}: {failure.reason}"
    # A reason may hold what UTF-8 cannot (a lone surrogate of a file name), and TVM insists on it.
    return message.encode(errors="backslashreplace").decode()


def failure_from_message(message: str) -> Failure:
    """Read an ``error_msg``, ours or of another builder or runner.

    Parameters
    ----------
    message : str
        Of a BuilderResult or RunnerResult.

    Returns
    -------
    Failure
        Its kind is ``"unknown"`` when the message is not ours.

    Examples
    --------
    >>> failure_from_message("WarmBuilder: timeout: killed after 30 seconds")
    Failure(kind='timeout', reason='killed after 30 seconds')
    >>> failure_from_message("LocalRunner: An exception occurred")
    Failure(kind='unknown', reason='LocalRunner: An exception occurred')
    """
    source, _, rest = message.partition(": ")
    kind, separator, reason = rest.partition(": ")
    if source.startswith(_SOURCES) and separator and kind in _KINDS:
        return Failure(kind, reason)
    return Failure("unknown", message)
