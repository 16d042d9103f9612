"""What became of a program that was built and run -> a row of a data set."""

from costmodels.dataset.kernel_rows import RecordRow, now
from tvm_integration.compat import Schedule, Target
from tvm_integration.identity import program_hash, trace_text
from tvm_integration.measure.outcomes import Outcome
from tvm_integration.measure.settings import MEASURE
from tvm_integration.records.rows import evaluator_text


def program_record(
    key: str,
    schedule: Schedule,
    outcome: Outcome,
    *,
    origin: str,
    processor: str,
    early_stopped: bool = False,
    in_network: bool = False,
) -> RecordRow:
    """A row for a program measured as `MEASURE` says, just now.

    Parameters
    ----------
    key : str
        Of its task.
    schedule : Schedule
        Of the program.
    outcome : tuple
        From `outcome_of`.
    origin, processor, early_stopped
        As of `RecordRow`.
    in_network : bool
        Whether it found its data where its network leaves them.
    """
    measurement, failed_in = outcome
    return RecordRow(
        task=key,
        trace=trace_text(schedule.trace),
        program=program_hash(schedule),
        measurement=measurement,
        failed_in=failed_in,
        origin=origin,
        early_stopped=early_stopped,
        evaluator=evaluator_text(MEASURE, in_network=in_network),
        measured_at=now(),
        processor=processor,
    )


def device_type(target: Target) -> str:
    """What TVM's runners call the device of a target."""
    return "cpu" if target.kind.name == "llvm" else str(target.kind.name)
