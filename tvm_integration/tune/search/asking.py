"""What a search says to TVM when it fails on a kernel, and what it need not give again."""

import logging
from collections.abc import Callable, Sequence

from tvm_integration.compat import MeasureCandidate, meta_schedule
from tvm_integration.foreign_errors import one_line
from tvm_integration.identity import program_hash, record_hash
from tvm_integration.records.database import replay

_log = logging.getLogger(__name__)

_OF_A_PROGRAM = "parallel_for_dynamic error"
"""Begins what TVM raises when it cannot transform or describe a program, as of a scatter."""


class NoProgramError(Exception):
    """A design space of which no program can be made, or none that can be described."""


def search_candidates(
    generate: Callable[[], Sequence[MeasureCandidate] | None],
    name: str,
    on_failed: Callable[[str], None] = lambda _: None,
) -> list[MeasureCandidate] | None:
    """Ask for programs to measure.

    Parameters
    ----------
    generate : callable
        What to ask: `generate_measure_candidates` of a search or of a context, or what it does.
    name : str
        Of the kernel.
    on_failed : callable
        Told the name of the kernel when TVM fails on it.

    Returns
    -------
    list of MeasureCandidate or None
        None when there are no more, or when TVM fails on the kernel, which is said in the log: the
        other kernels of a network shall go on.
    """
    try:
        found = generate()
    except (NoProgramError, RuntimeError) as error:
        if not isinstance(error, NoProgramError) and not str(error).startswith(_OF_A_PROGRAM):
            raise
        _log.warning("%s stays unscheduled: TVM cannot search it (%s)", name, one_line(error))
        on_failed(name)
        return None
    return None if found is None else list(found)


def measured_programs(records: Sequence[meta_schedule.database.TuningRecord]) -> set[int]:
    """Identities of the programs of a database's records, by program and by trace.

    Both are needed: other traces can lead to the same program, and with weight prepacking the
    program that a trace gives when it is applied again is not the one that was measured.

    Parameters
    ----------
    records : sequence of TuningRecord
        A trace that no longer applies counts as a trace.
    """
    traces = {record_hash(record.workload.mod, record.trace) for record in records}
    return traces | {program_hash(c.sch) for _, c in replay(records) if c is not None}
