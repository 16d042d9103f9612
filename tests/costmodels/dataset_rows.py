"""Made-up tasks and records for the tests of data sets."""

from datetime import UTC, datetime

from costmodels.dataset.kernel_rows import RecordRow, ReferenceRow, TaskRow
from costmodels.kernel import Failure, Measured
from costmodels.testing.example_data import example_device

TIME = datetime(2026, 11, 20, 12, 0, 0, 123000, tzinfo=UTC)


def task(
    number: int = 0, *, target: str = "cpu", networks: dict[str, int] | None = None
) -> TaskRow:
    return TaskRow(
        key=f"{number:016x}-{sum(target.encode()):08x}",
        name=f"fused_{number}",
        workload=f'{{"nodes": [{number}]}}',
        target=f'{{"kind": "{target}"}}',
        device=example_device(target),
        networks=networks or {},
        operators=("conv2d", "relu"),
        flop=1e9,
        shapes=((1, 3, 8, 8), ()),
        dtypes=("float32", "int8"),
    )


def record(of: TaskRow, program: int = 1, run_s: float | None = 1e-3, **changes) -> RecordRow:
    failed = run_s is None
    values = {
        "task": of.key,
        "trace": f'[["Split", {program}]]',
        "program": program,
        "measurement": Failure("timeout", "killed after 10 s") if failed else Measured((run_s,)),
        "failed_in": "run" if failed else None,
        "origin": "random",
        "early_stopped": False,
        "evaluator": "1 x 3, 25 ms",
        "measured_at": TIME,
        "processor": "test",
    }
    return RecordRow(**{**values, **changes})


def reading(of: TaskRow, run_s: float = 1e-3) -> ReferenceRow:
    return ReferenceRow(of.key, 1, (run_s, run_s * 1.01), TIME, "test")
