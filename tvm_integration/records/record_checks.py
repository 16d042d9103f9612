"""Checks of TVM's records as JSON: what its own reader would end the process on."""

from typing import Any

from costmodels.errors import InputError


def check_trace(trace: Any) -> None:
    """Check the form of a schedule's trace.

    Parameters
    ----------
    trace : object
        JSON: instructions, and for some of them, by position, a decision.

    Raises
    ------
    InputError
        When it is something else.
    """
    if not (
        isinstance(trace, list) and len(trace) == 2 and all(isinstance(p, list) for p in trace)
    ):
        raise InputError("a trace must be a list of instructions and one of decisions")
    instructions, decisions = trace
    for decision in decisions:
        position = decision[0] if isinstance(decision, list) and len(decision) == 2 else None
        if type(position) is not int or not 0 <= position < len(instructions):
            raise InputError(
                f"a decision of a trace must be of one of its {len(instructions)} instructions, "
                f"got {position!r}"
            )


def check_record(record: Any) -> None:
    """Check the form of a tuning record.

    Parameters
    ----------
    record : object
        JSON: trace, seconds of each repeat or null, and what else TVM keeps.

    Raises
    ------
    InputError
        When it is something else.
    """
    if not isinstance(record, list) or len(record) < 2:
        raise InputError("a record must be a list of a trace, times, a target and arguments")
    check_trace(record[0])
    times = record[1]
    numbers = isinstance(times, list) and all(type(each) in (int, float) for each in times)
    if times is not None and not numbers:
        raise InputError(f"the times of a record must be numbers of seconds, got {times!r}")
